// The array types every kernel takes, and the function-multiversioning macro.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <utility>

namespace nb = nanobind;

namespace streamchar {

// Contiguous NumPy arrays; a leading const means the kernel reads only.
template <typename T> using Plane = nb::ndarray<nb::numpy, T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename T> using Cube = nb::ndarray<nb::numpy, T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <typename T> using Vector = nb::ndarray<nb::numpy, T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Values that a kernel sets one and all.
template <typename T> std::unique_ptr<T[]> unset(std::size_t n) { return std::unique_ptr<T[]>(new T[n]); }

// Hand values over to NumPy, which frees them, as an array of such lengths.
template <typename T, typename... Lengths> auto to_numpy(std::unique_ptr<T[]> values, Lengths... lengths) {
  nb::capsule owner(values.get(), [](void *p) noexcept { delete[] static_cast<T *>(p); });
  return nb::ndarray<nb::numpy, T, nb::ndim<sizeof...(lengths)>>(values.release(), {std::size_t(lengths)...}, owner);
}

} // namespace streamchar

// Compile a hot loop twice and choose at load time by the processor. Other platforms compile it once.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define STREAMCHAR_MULTIVERSION __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define STREAMCHAR_MULTIVERSION
#endif
