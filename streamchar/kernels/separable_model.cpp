// Adding a sum of products of a function of y and a function of x to a plane.
#include "arrays.hpp"
#include <algorithm>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::size_t COLUMNS = 512; // of float64: the terms of a low order stay in the first-level cache

STREAMCHAR_MULTIVERSION
void add_terms(float *__restrict out, const double *__restrict right, const double *__restrict left, std::size_t terms, float factor, std::size_t n) {
  alignas(64) double sum[COLUMNS];
  for (std::size_t x = 0; x < n; ++x) sum[x] = left[0] * right[x];
  for (std::size_t k = 1; k < terms; ++k) {
    const double c = left[k];
    const double *row = right + k * COLUMNS;
    for (std::size_t x = 0; x < n; ++x) sum[x] += c * row[x];
  }
  for (std::size_t x = 0; x < n; ++x) out[x] += factor * float(sum[x]);
}

void add_separable(Plane<float> plane, Plane<const double> left, Plane<const double> right, float factor) {
  const std::size_t height = plane.shape(0), width = plane.shape(1), terms = left.shape(1);
  if (left.shape(0) != height || right.shape(1) != width || right.shape(0) != terms || terms == 0)
    throw std::invalid_argument("left must be (height, terms) and right (terms, width)");
  nb::gil_scoped_release release;
  std::vector<double> packed(terms * COLUMNS);
  for (std::size_t x = 0; x < width; x += COLUMNS) {
    const std::size_t n = std::min(COLUMNS, width - x);
    for (std::size_t k = 0; k < terms; ++k) std::copy_n(right.data() + k * width + x, n, packed.data() + k * COLUMNS);
    for (std::size_t y = 0; y < height; ++y) add_terms(plane.data() + y * width + x, packed.data(), left.data() + y * terms, terms, factor, n);
  }
}

} // namespace

void register_separable_model(nb::module_ &m) {
  m.def("add_separable", &add_separable, nb::arg("plane"), nb::arg("left"), nb::arg("right"), nb::arg("factor"),
        "Add factor * (left @ right) to plane (float32, in place); the product of left (height, terms) and right (terms, width) is summed in float64 "
        "and rounded to float32 before it is added.");
}

} // namespace streamchar
