// Square windows of a plane around pixels.
#include "arrays.hpp"
#include "fetch.hpp"
#include "results.hpp"
#include "rows.hpp"
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t ahead = 8; // windows

// Minus infinity without any. Comparisons with NaN are false.
STREAMCHAR_MULTIVERSION float largest_finite(const float *pixels, std::ptrdiff_t n) {
  typedef float Eight __attribute__((vector_size(32)));
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Eight most = Eight{} - infinity, value;
  std::ptrdiff_t i = 0;
  for (; i + 8 <= n; i += 8) {
    std::memcpy(&value, pixels + i, sizeof value);
    most = (value > most) & (value < infinity) ? value : most;
  }
  float found = -infinity;
  for (int lane = 0; lane < 8; ++lane) found = std::max(found, most[lane]);
  for (; i < n; ++i) found = pixels[i] > found && pixels[i] < infinity ? pixels[i] : found;
  return found;
}

nb::object cut_windows(Plane<const float> plane, Vector<const std::int64_t> x, Vector<const std::int64_t> y, int half) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (half < 0) throw std::invalid_argument("half must not be negative");
  const std::ptrdiff_t height = std::ptrdiff_t(plane.shape(0)), width = std::ptrdiff_t(plane.shape(1)), side = 2 * half + 1;
  Rows<float> windows(n, std::size_t(side * side));
  {
    nb::gil_scoped_release release;
    const auto region = [&](std::size_t i) { return Region{x(i) - half, y(i) - half, x(i) + half, y(i) + half}; };
    for (std::size_t i = 0; i < n; ++i) {
      if (i + ahead < n) fetch(plane.data(), width, region(i + ahead).within(width, height));
      const Region all = region(i), some = all.within(width, height);
      float *window = windows.row(i);
      if (some.x0 != all.x0 || some.y0 != all.y0 || some.x1 != all.x1 || some.y1 != all.y1)
        std::fill_n(window, side * side, std::numeric_limits<float>::quiet_NaN());
      for (std::ptrdiff_t row = some.y0; some.x0 <= some.x1 && row <= some.y1; ++row)
        std::copy(plane.data() + row * width + some.x0, plane.data() + row * width + some.x1 + 1,
                  window + (row - all.y0) * side + some.x0 - all.x0);
    }
  }
  return windows.release();
}

nb::object largest_in_windows(Plane<const float> plane, Vector<const std::int64_t> x, Vector<const std::int64_t> y, int half) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (half < 0) throw std::invalid_argument("half must not be negative");
  const std::ptrdiff_t height = std::ptrdiff_t(plane.shape(0)), width = std::ptrdiff_t(plane.shape(1));
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Values<float> largest(n);
  {
    nb::gil_scoped_release release;
    const auto region = [&](std::size_t i) { return Region{x(i) - half, y(i) - half, x(i) + half, y(i) + half}.within(width, height); };
    for (std::size_t i = 0; i < n; ++i) {
      if (i + ahead < n) fetch(plane.data(), width, region(i + ahead));
      const Region some = region(i);
      largest[i] = -infinity;
      for (std::ptrdiff_t row = some.y0; some.x0 <= some.x1 && row <= some.y1; ++row)
        largest[i] = std::max(largest[i], largest_finite(plane.data() + row * width + some.x0, some.x1 + 1 - some.x0));
    }
  }
  return largest.release();
}

} // namespace

void register_windows(nb::module_ &m) {
  m.def("cut_windows", &cut_windows, nb::arg("plane"), nb::arg("x"), nb::arg("y"), nb::arg("half"),
        "The pixels of plane within half pixels of (x, y), row by row: float32 (n, (2 half + 1)^2), NaN beyond the plane.");
  m.def("largest_in_windows", &largest_in_windows, nb::arg("plane"), nb::arg("x"), nb::arg("y"), nb::arg("half"),
        "The largest finite pixel of the plane within half pixels of (x, y): float32 (n), -inf without any.");
}

} // namespace streamchar
