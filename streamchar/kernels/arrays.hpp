// The array types every kernel takes, and the function-multiversioning macro.
#pragma once
#include <cstddef>
#include <cstdint>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nb = nanobind;

namespace streamchar {

// Contiguous NumPy arrays; a leading const means the kernel reads only.
template <typename T> using Plane = nb::ndarray<nb::numpy, T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename T> using Cube = nb::ndarray<nb::numpy, T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <typename T> using Vector = nb::ndarray<nb::numpy, T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Hand a buffer allocated with new[] over to NumPy, which frees it.
template <typename T> nb::ndarray<nb::numpy, T, nb::ndim<1>> to_numpy(T *data, std::size_t n) {
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<T *>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {n}, owner);
}

} // namespace streamchar

// Compile a hot loop twice and choose at load time by the processor. Other platforms compile it once.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define STREAMCHAR_MULTIVERSION __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define STREAMCHAR_MULTIVERSION
#endif
