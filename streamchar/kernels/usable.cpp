// Counting the pixels that hold a value and its noise, and those with some of the mask's bits.
#include "arrays.hpp"
#include <cmath>
#include <limits>
#include <stdexcept>

namespace streamchar {
namespace {

STREAMCHAR_MULTIVERSION
void count_row(const float *image, const float *variance, std::size_t n, std::int64_t &finite, std::int64_t &usable) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::int32_t values = 0, both = 0;
  for (std::size_t x = 0; x < n; ++x) {
    const std::int32_t known = std::fabs(image[x]) < infinity, bears = (variance[x] > 0.0f) & (variance[x] < infinity);
    values += known;
    both += known & bears;
  }
  finite += values;
  usable += both;
}

nb::tuple count_usable(Plane<const float> image, Plane<const float> variance) {
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (variance.shape(0) != height || variance.shape(1) != width) throw std::invalid_argument("image and variance differ in shape");
  std::int64_t finite = 0, usable = 0;
  {
    nb::gil_scoped_release release;
    for (std::size_t y = 0; y < height; ++y) count_row(image.data() + y * width, variance.data() + y * width, width, finite, usable);
  }
  return nb::make_tuple(finite, usable);
}

STREAMCHAR_MULTIVERSION
std::int64_t count_in_row(const std::int32_t *mask, std::size_t n, std::int32_t bits) {
  std::int32_t count = 0;
  for (std::size_t x = 0; x < n; ++x) count += (mask[x] & bits) != 0;
  return count;
}

std::int64_t count_bits(Plane<const std::int32_t> mask, std::int32_t bits) {
  const std::size_t height = mask.shape(0), width = mask.shape(1);
  nb::gil_scoped_release release;
  std::int64_t count = 0;
  for (std::size_t y = 0; y < height; ++y) count += count_in_row(mask.data() + y * width, width, bits);
  return count;
}

} // namespace

void register_usable(nb::module_ &m) {
  m.def("count_usable", &count_usable, nb::arg("image"), nb::arg("variance"),
        "How many pixels of the image are finite, and how many of them have a finite, positive variance.");
  m.def("count_bits", &count_bits, nb::arg("mask"), nb::arg("bits"), "How many pixels of the mask have any of the bits.");
}

} // namespace streamchar
