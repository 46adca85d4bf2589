// Third and fourth moments under a source's own Gaussian weight, in coordinates that make the weight round.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include "window.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr double Q_MAX = 36.0; // the weight there is 1.5e-8
constexpr std::size_t ORDERS = 9; // 30 21 12 03 40 31 22 13 04

// The symmetric inverse square root of a matrix of moments.
struct Whitening {
  double xx, xy, yy;
  static Whitening of(const Ellipse &e) {
    const double s = std::sqrt(e.determinant()), t = std::sqrt(e.xx + e.yy + 2.0 * s);
    return {(e.yy + s) / (s * t), -e.xy / (s * t), (e.xx + s) / (s * t)};
  }
};

STREAMCHAR_MULTIVERSION void moments(const Scene &scene, double x, double y, const Ellipse &e, double *out) {
  const Box box = box_within(scene, x, y, e, Q_MAX);
  const Whitening w = Whitening::of(e);
  const Four steps{0.0, 1.0, 2.0, 3.0};
  Four total = {}, sums[ORDERS] = {};
  for (std::ptrdiff_t row = box.y0; row <= box.y1; ++row) {
    const float *pixels = scene.row(std::size_t(row));
    const double dy = double(row) - y;
    for (std::ptrdiff_t column = box.x0; column <= box.x1; column += 4) {
      Four f, weight;
      if (column + 3 <= box.x1)
        load(pixels + column, f);
      else {
        float last[4] = {}; // nothing beyond the box
        std::copy(pixels + column, pixels + box.x1 + 1, last);
        load(last, f);
      }
      const Four dx = steps + (double(column) - x);
      const Four u = w.xx * dx + w.xy * dy, v = w.xy * dx + w.yy * dy, q = u * u + v * v;
      exponential(-0.5 * q, weight);
      f *= weight;
      keep(q <= Q_MAX, f);
      const Four uu = u * u, uv = u * v, vv = v * v;
      const Four terms[ORDERS] = {uu * u, uu * v, u * vv, vv * v, uu * uu, uu * uv, uu * vv, uv * vv, vv * vv};
      total += f;
      for (std::size_t k = 0; k < ORDERS; ++k) sums[k] += f * terms[k];
    }
  }
  for (std::size_t k = 0; k < ORDERS; ++k) out[k] = sum(sums[k]) / sum(total);
}

nb::object higher_moments(Scene &scene, Vector<const double> x, Vector<const double> y, Vector<const double> xx,
                          Vector<const double> yy, Vector<const double> xy) {
  const std::size_t n = x.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n || xx.shape(0) != n || yy.shape(0) != n || xy.shape(0) != n)
    throw std::invalid_argument("positions and moments differ in length");
  Rows<double> result(n, ORDERS);
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < n; ++i) {
      const Ellipse e{xx(i), xy(i), yy(i)};
      std::fill_n(result.row(i), ORDERS, std::nan(""));
      if (!e.usable() || !std::isfinite(x(i)) || !std::isfinite(y(i))) continue;
      const Shown shown(scene, i);
      moments(scene, x(i), y(i), e, result.row(i));
    }
  }
  return result.release();
}

} // namespace

void register_higher_moments(nb::module_ &m) {
  m.def("higher_moments", &higher_moments, nb::arg("scene"), nb::arg("x"), nb::arg("y"), nb::arg("xx"), nb::arg("yy"), nb::arg("xy"),
        "Moments M30 M21 M12 M03 M40 M31 M22 M13 M04 of the pixels times exp(-q/2), q the quadratic form of the second moments, in "
        "coordinates in which q = u^2 + v^2: float64 (n, 9). Pixels with q <= 36 count. NaN for unusable moments or positions.");
}

} // namespace streamchar
