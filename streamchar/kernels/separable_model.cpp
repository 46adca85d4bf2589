// Adding a sum of products of a function of y and a function of x to a plane.
#include "arrays.hpp"
#include <cstring>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t LANES = 4, ROWS = 4; // the sums of so many pixels stay in registers
typedef double Doubles __attribute__((vector_size(LANES * sizeof(double))));
typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));

inline void add_pixel(float &out, const double *left, const double *right, std::size_t terms, std::size_t width, float factor) {
  double sum = 0.0;
  for (std::size_t k = 0; k < terms; ++k) sum += left[k] * right[k * width];
  out += factor * float(sum);
}

// Several rows at once, so that the functions of x are read once for all of them.
STREAMCHAR_MULTIVERSION
void add_rows(float *out, const double *left, const double *right, std::size_t terms, std::size_t width, float factor) {
  std::size_t x = 0;
  for (; x + LANES <= width; x += LANES) {
    Doubles sum[ROWS] = {};
    for (std::size_t k = 0; k < terms; ++k) {
      Doubles function;
      std::memcpy(&function, right + k * width + x, sizeof function);
      for (std::size_t row = 0; row < ROWS; ++row) sum[row] += left[row * terms + k] * function;
    }
    for (std::size_t row = 0; row < ROWS; ++row) {
      Floats pixels;
      std::memcpy(&pixels, out + row * width + x, sizeof pixels);
      pixels += factor * __builtin_convertvector(sum[row], Floats);
      std::memcpy(out + row * width + x, &pixels, sizeof pixels);
    }
  }
  for (; x < width; ++x)
    for (std::size_t row = 0; row < ROWS; ++row) add_pixel(out[row * width + x], left + row * terms, right + x, terms, width, factor);
}

void add_separable(Plane<float> plane, Plane<const double> left, Plane<const double> right, float factor) {
  const std::size_t height = plane.shape(0), width = plane.shape(1), terms = left.shape(1);
  if (left.shape(0) != height || right.shape(1) != width || right.shape(0) != terms || terms == 0)
    throw std::invalid_argument("left must be (height, terms) and right (terms, width)");
  nb::gil_scoped_release release;
  std::size_t y = 0;
  for (; y + ROWS <= height; y += ROWS) add_rows(plane.data() + y * width, left.data() + y * terms, right.data(), terms, width, factor);
  for (; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x) add_pixel(plane(y, x), left.data() + y * terms, right.data() + x, terms, width, factor);
}

} // namespace

void register_separable_model(nb::module_ &m) {
  m.def("add_separable", &add_separable, nb::arg("plane").noconvert(), nb::arg("left"), nb::arg("right"), nb::arg("factor"),
        "Add factor * (left @ right) to plane (float32, in place); the product of left (height, terms) and right (terms, width) is summed in float64 "
        "and rounded to float32 before it is added.");
}

} // namespace streamchar
