// A separable filter over the trusted pixels around single places.
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

using I32 = Vector<const std::int32_t>;

struct Planes {
  Plane<const float> image, variance;
  Plane<const std::int32_t> mask;
  std::int32_t bits;

  bool trusts(std::size_t pixel) const {
    return (mask.data()[pixel] & bits) == 0 && std::isfinite(image.data()[pixel]) && variance.data()[pixel] > 0.0f;
  }
};

struct Sums {
  double signal = 0.0, noise = 0.0, weight = 0.0;
};

Sums sums_at(const Planes &planes, std::int64_t x, std::int64_t y, const double *taps, std::int64_t half) {
  const std::int64_t height = planes.image.shape(0), width = planes.image.shape(1);
  Sums sums;
  for (std::int64_t row = std::max<std::int64_t>(y - half, 0); row <= std::min(y + half, height - 1); ++row)
    for (std::int64_t column = std::max<std::int64_t>(x - half, 0); column <= std::min(x + half, width - 1); ++column) {
      const std::size_t pixel = row * width + column;
      if (!planes.trusts(pixel)) continue;
      const double weight = taps[std::abs(row - y)] * taps[std::abs(column - x)], square = weight * weight;
      sums.signal += weight * planes.image.data()[pixel];
      sums.noise += square * planes.variance.data()[pixel];
      sums.weight += square;
    }
  return sums;
}

nb::tuple trusted_sums(Plane<const float> image, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t bits, I32 x, I32 y,
                       Vector<const double> taps) {
  const std::size_t n = x.shape(0), height = image.shape(0), width = image.shape(1);
  if (variance.shape(0) != height || variance.shape(1) != width || mask.shape(0) != height || mask.shape(1) != width)
    throw std::invalid_argument("image, variance and mask differ in shape");
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (taps.shape(0) == 0) throw std::invalid_argument("the filter has no taps");
  Values<double> signal(n), noise(n), weight(n);
  {
    nb::gil_scoped_release release;
    const Planes planes{image, variance, mask, bits};
    for (std::size_t i = 0; i < n; ++i) {
      const Sums sums = sums_at(planes, x(i), y(i), taps.data(), std::int64_t(taps.shape(0)) - 1);
      signal[i] = sums.signal;
      noise[i] = sums.noise;
      weight[i] = sums.weight;
    }
  }
  return nb::make_tuple(signal.release(), noise.release(), weight.release());
}

} // namespace

void register_trusted_sums(nb::module_ &m) {
  m.def("trusted_sums", &trusted_sums, nb::arg("image"), nb::arg("variance"), nb::arg("mask"), nb::arg("bits"), nb::arg("x"), nb::arg("y"), nb::arg("taps"),
        "With g = taps[|dx|] taps[|dy|] about each pixel (x, y), which may lie outside, the sums of g image, g^2 variance and g^2 over the pixels that "
        "are finite, of positive variance and without any of the mask's `bits`: three float64 arrays (n).");
}

} // namespace streamchar
