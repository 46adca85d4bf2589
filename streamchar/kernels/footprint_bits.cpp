// Mask bits found in footprints and windows, and whether a footprint holds a pixel.
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

using Index = Vector<const std::int32_t>;
using Start = Vector<const std::int64_t>;

void check(const Index &y, const Index &x0, const Index &x1, const Start &start) {
  if (x0.shape(0) != y.shape(0) || x1.shape(0) != y.shape(0)) throw std::invalid_argument("span arrays differ in length");
  if (start.shape(0) == 0 || start(0) != 0 || std::size_t(start(start.shape(0) - 1)) != y.shape(0))
    throw std::invalid_argument("start must run from 0 to the number of spans");
  for (std::size_t i = 0; i + 1 < start.shape(0); ++i)
    if (start(i + 1) < start(i)) throw std::invalid_argument("start must not decrease");
}

nb::object footprint_bits(Plane<const std::int32_t> mask, Index y, Index x0, Index x1, Start start) {
  check(y, x0, x1, start);
  for (std::size_t s = 0; s < y.shape(0); ++s)
    if (y(s) < 0 || std::size_t(y(s)) >= mask.shape(0) || x0(s) < 0 || x1(s) < x0(s) - 1 || std::size_t(x1(s) + 1) > mask.shape(1))
      throw std::invalid_argument("span outside the mask");
  const std::size_t n = start.shape(0) - 1;
  Values<std::int32_t> found(n);
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < n; ++i) {
      std::int32_t bits = 0;
      for (std::size_t s = std::size_t(start(i)); s < std::size_t(start(i + 1)); ++s) {
        const std::int32_t *row = mask.data() + std::size_t(y(s)) * mask.shape(1);
        for (std::int32_t x = x0(s); x <= x1(s); ++x) bits |= row[x];
      }
      found[i] = bits;
    }
  }
  return found.release();
}

nb::object footprints_contain(Index y, Index x0, Index x1, Start start, Vector<const double> px, Vector<const double> py) {
  check(y, x0, x1, start);
  const std::size_t n = start.shape(0) - 1;
  if (px.shape(0) != n || py.shape(0) != n) throw std::invalid_argument("one position for each footprint is needed");
  Values<bool> contained(n);
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < n; ++i) {
      const double column = std::floor(px(i) + 0.5), row = std::floor(py(i) + 0.5);
      for (std::size_t s = std::size_t(start(i)); s < std::size_t(start(i + 1)) && !contained[i]; ++s)
        contained[i] = double(y(s)) == row && double(x0(s)) <= column && column <= double(x1(s));
    }
  }
  return contained.release();
}

nb::tuple window_bits(Plane<const std::int32_t> mask, Vector<const std::int64_t> x, Vector<const std::int64_t> y, int half) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (half < 0) throw std::invalid_argument("half must not be negative");
  Values<std::int32_t> any(n), all(n);
  {
    nb::gil_scoped_release release;
    const std::int64_t height = std::int64_t(mask.shape(0)), width = std::int64_t(mask.shape(1));
    for (std::size_t i = 0; i < n; ++i) {
      std::int32_t found = 0, common = -1;
      for (std::int64_t row = std::max<std::int64_t>(y(i) - half, 0); row <= std::min(y(i) + half, height - 1); ++row)
        for (std::int64_t column = std::max<std::int64_t>(x(i) - half, 0); column <= std::min(x(i) + half, width - 1); ++column) {
          const std::int32_t bits = mask.data()[row * width + column];
          found |= bits;
          common &= bits;
        }
      any[i] = found;
      all[i] = common;
    }
  }
  return nb::make_tuple(any.release(), all.release());
}

} // namespace

void register_footprint_bits(nb::module_ &m) {
  m.def("footprint_bits", &footprint_bits, nb::arg("mask"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"),
        "Bitwise OR of the mask over the pixels of each footprint, int32 (n).");
  m.def("footprints_contain", &footprints_contain, nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("px"), nb::arg("py"),
        "Whether the pixel at (px[i], py[i]) belongs to footprint i, bool (n); never for NaN.");
  m.def("window_bits", &window_bits, nb::arg("mask"), nb::arg("x"), nb::arg("y"), nb::arg("half"),
        "Bitwise OR and AND of the mask within half pixels of (x, y), clipped to the mask: two int32 (n); 0 and -1 where nothing is left.");
}

} // namespace streamchar
