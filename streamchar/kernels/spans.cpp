// Painting row spans into planes, and wiping bits off spans or all of a plane.
#include "arrays.hpp"
#include "fetch.hpp"
#include <algorithm>
#include <stdexcept>

namespace streamchar {
namespace {

using Index = Vector<const std::int32_t>;

void check(std::size_t height, std::size_t width, const Index &y, const Index &x0, const Index &x1) {
  if (x0.shape(0) != y.shape(0) || x1.shape(0) != y.shape(0)) throw std::invalid_argument("span arrays differ in length");
  for (std::size_t i = 0; i < y.shape(0); ++i)
    if (y(i) < 0 || std::size_t(y(i)) >= height || x0(i) < 0 || x1(i) < x0(i) - 1 || std::size_t(x1(i) + 1) > width)
      throw std::invalid_argument("span outside the plane");
}

void paint_spans(Plane<std::int32_t> plane, Index y, Index x0, Index x1, Index value) {
  check(plane.shape(0), plane.shape(1), y, x0, x1);
  if (value.shape(0) != y.shape(0)) throw std::invalid_argument("span arrays differ in length");
  nb::gil_scoped_release release;
  for (std::size_t i = 0; i < y.shape(0); ++i) {
    std::int32_t *row = plane.data() + std::size_t(y(i)) * plane.shape(1);
    for (std::int32_t x = x0(i); x <= x1(i); ++x) row[x] = value(i);
  }
}

// Call change(first pixel, behind the last) for every span.
template <typename Change> void change_spans(Plane<std::int32_t> plane, Index y, Index x0, Index x1, Change change) {
  constexpr std::size_t foreseen = 16; // spans: the next ones lie in other rows, pages apart
  check(plane.shape(0), plane.shape(1), y, x0, x1);
  nb::gil_scoped_release release;
  for (std::size_t i = 0; i < y.shape(0); ++i) {
    if (const std::size_t next = i + foreseen; next < y.shape(0))
      fetch(plane.data() + std::size_t(y(next)) * plane.shape(1) + x0(next), x1(next) - x0(next) + 1);
    std::int32_t *row = plane.data() + std::size_t(y(i)) * plane.shape(1);
    change(row + x0(i), row + x1(i) + 1);
  }
}

void or_spans(Plane<std::int32_t> plane, Index y, Index x0, Index x1, std::int32_t bits) {
  change_spans(plane, y, x0, x1, [bits](std::int32_t *pixel, const std::int32_t *end) {
    for (; pixel < end; ++pixel) *pixel |= bits;
  });
}

void clear_spans(Plane<std::int32_t> plane, Index y, Index x0, Index x1, std::int32_t bits) {
  change_spans(plane, y, x0, x1, [bits](std::int32_t *pixel, const std::int32_t *end) {
    for (; pixel < end; ++pixel) *pixel &= ~bits;
  });
}

STREAMCHAR_MULTIVERSION
std::int32_t any_bits(const std::int32_t *values, std::size_t n, std::int32_t bits) {
  std::int32_t any = 0;
  for (std::size_t x = 0; x < n; ++x) any |= values[x] & bits;
  return any;
}

void clear_bits(Plane<std::int32_t> mask, std::int32_t bits) {
  constexpr std::size_t PIECE = 1024;
  nb::gil_scoped_release release;
  const std::size_t total = mask.shape(0) * mask.shape(1);
  for (std::size_t start = 0; start < total; start += PIECE) {
    std::int32_t *values = mask.data() + start;
    const std::size_t n = std::min(PIECE, total - start);
    if (any_bits(values, n, bits))
      for (std::size_t x = 0; x < n; ++x) values[x] &= ~bits;
  }
}

} // namespace

void register_spans(nb::module_ &m) {
  m.def("paint_spans", &paint_spans, nb::arg("plane"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("value"),
        "Write value[i] into plane (int32, in place) on columns x0[i]..x1[i] of row y[i]; later spans win.");
  m.def("or_spans", &or_spans, nb::arg("plane"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("bits"),
        "Set bits of plane (int32, in place) on columns x0[i]..x1[i] of row y[i].");
  m.def("clear_spans", &clear_spans, nb::arg("plane").noconvert(), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("bits"),
        "Clear bits of plane (int32, in place) on columns x0[i]..x1[i] of row y[i].");
  m.def("clear_bits", &clear_bits, nb::arg("mask").noconvert(), nb::arg("bits"), "Clear bits of mask (int32, in place), writing only where one is set.");
}

} // namespace streamchar
