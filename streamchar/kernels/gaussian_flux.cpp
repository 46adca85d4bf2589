// The flux under a fixed elliptical Gaussian weight.
#include "rows.hpp"
#include "scene.hpp"
#include "weighted_sums.hpp"
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t PADDING = 3; // pixels after the last that must be readable
constexpr double Q_MAX = 14.0, Q_MAX_FINE = 9.0, REACH_MAX = 1000.0;
constexpr double FINE_VARIANCE = 0.25, FINE_DETERMINANT = 0.0625; // narrower weights are sampled inside the pixels

struct Window {
  std::ptrdiff_t x0, y0, x1, y1; // inclusive
};

Window window_around(const Scene &scene, double x, double y, double reach) {
  const auto low = [](double v) { return std::ptrdiff_t(std::max(std::ceil(v - 0.5), 0.0)); };
  const auto high = [](double v, std::size_t n) { return std::ptrdiff_t(std::min(std::floor(v + 0.5), double(n) - 1.0)); };
  return {low(x - reach), low(y - reach), high(x + reach, scene.width()), high(y + reach, scene.height())};
}

STREAMCHAR_INLINE void add_block(RowBlock &block, const Weight &weight, Four &total) {
  block.start(weight.w);
  for (int k = 0; k < block.count; ++k) {
    RowSums r;
    weighted_row<false>(block, k, weight, r);
    total += r.f;
  }
  block.count = 0;
}

STREAMCHAR_MULTIVERSION double coarse_sum(const Scene &scene, const Window &box, double x, double y, const Inverse &w,
                                          std::vector<float> &buffer) {
  const Weight weight(w);
  const std::size_t width = scene.width(), size = width * scene.height();
  Four total{0, 0, 0, 0};
  RowBlock block;
  for (std::ptrdiff_t row = box.y0; row <= box.y1; ++row) {
    const double dy = double(row) - y;
    double low, high;
    if (!chord(w, Q_MAX, dy, low, high)) continue;
    const double leftmost = std::max(std::ceil(x + low), double(box.x0)), rightmost = std::min(std::floor(x + high), double(box.x1));
    if (!(leftmost <= rightmost)) continue;
    const std::ptrdiff_t first = std::ptrdiff_t(leftmost), last = std::ptrdiff_t(rightmost);
    const float *pixels = scene.row(std::size_t(row)) + first;
    const bool at_the_end = std::size_t(row) * width + std::size_t(last) + 1 + PADDING > size;
    if (at_the_end) { // nothing may be read beyond the image
      buffer.assign(pixels, pixels + (last - first + 1));
      buffer.resize(buffer.size() + PADDING, 0.0f);
    }
    block.add(at_the_end ? buffer.data() : pixels, last - first + 1, double(first) - x, dy);
    if (at_the_end || block.count == RowBlock::SIZE) add_block(block, weight, total);
  }
  add_block(block, weight, total);
  return sum(total);
}

double quadratic(const Inverse &w, double dx, double dy) { return w.xx * dx * dx + 2.0 * w.xy * dx * dy + w.yy * dy * dy; }

double fine_sum(const Scene &scene, const Window &box, double x, double y, const Inverse &w) {
  static constexpr double offsets[4] = {-0.375, -0.125, 0.125, 0.375};
  double total = 0.0;
  for (std::ptrdiff_t row = box.y0; row <= box.y1; ++row)
    for (std::ptrdiff_t column = box.x0; column <= box.x1; ++column) {
      const double dx = double(column) - x, dy = double(row) - y;
      const double corners = std::max(std::max(quadratic(w, dx - 0.375, dy - 0.375), quadratic(w, dx + 0.375, dy - 0.375)),
                                      std::max(quadratic(w, dx - 0.375, dy + 0.375), quadratic(w, dx + 0.375, dy + 0.375)));
      if (!(corners <= Q_MAX_FINE)) continue;
      double weight = 0.0;
      for (double sy : offsets)
        for (double sx : offsets) weight += std::exp(-0.5 * quadratic(w, dx + sx, dy + sy));
      total += weight / 16.0 * double(scene.row(std::size_t(row))[column]);
    }
  return total;
}

nb::object gaussian_flux(Scene &scene, Vector<const double> x, Vector<const double> y, Vector<const double> xx,
                         Vector<const double> yy, Vector<const double> xy) {
  const std::size_t n = x.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n || xx.shape(0) != n || yy.shape(0) != n || xy.shape(0) != n) throw std::invalid_argument("positions and moments differ in length");
  Values<double> sums(n);
  {
    nb::gil_scoped_release release;
    std::vector<float> buffer;
    for (std::size_t i = 0; i < n; ++i) {
      const double det = xx(i) * yy(i) - xy(i) * xy(i);
      sums[i] = std::nan("");
      if (!(det > 0 && xx(i) > 0 && std::isfinite(x(i)) && std::isfinite(y(i)))) continue;
      const Shown shown(scene, i);
      const Window box = window_around(scene, x(i), y(i), std::min(4.0 * std::sqrt(std::max(xx(i), yy(i))), REACH_MAX));
      const Inverse w = Inverse::of(xx(i), xy(i), yy(i));
      const bool fine = xx(i) < FINE_VARIANCE || yy(i) < FINE_VARIANCE || det < FINE_DETERMINANT;
      sums[i] = fine ? fine_sum(scene, box, x(i), y(i), w) : coarse_sum(scene, box, x(i), y(i), w, buffer);
    }
  }
  return sums.release();
}

} // namespace

void register_gaussian_flux(nb::module_ &m) {
  m.def("gaussian_flux", &gaussian_flux, nb::arg("scene"), nb::arg("x"), nb::arg("y"), nb::arg("xx"), nb::arg("yy"), nb::arg("xy"),
        "Sums of pixels times exp(-q/2), q the quadratic form of the moments: half the flux of a matching Gaussian, float64 (n). Pixels "
        "with q <= 14 count; for weights narrower than half a pixel, the mean weight of 4 x 4 positions inside pixels whose corners have "
        "q <= 9. NaN for unusable moments or positions.");
}

} // namespace streamchar
