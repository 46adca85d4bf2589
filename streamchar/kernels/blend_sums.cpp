// Gaussian-weighted fluxes and moments of pixels and of their absolute values: what blendedness compares.
#include "rows.hpp"
#include "scene.hpp"
#include "window.hpp"
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr double Q_MAX = 9.0; // three sigma
constexpr double PI = 3.14159265358979323846;

// By how much the absolute value of a noisy pixel exceeds the value that is expected to be there.
double absolute_bias(double pixel, double variance) {
  if (!(variance > 0)) return 0.0;
  const double tail = 0.5 * std::erfc(-pixel / std::sqrt(2.0 * variance));
  const double mu = tail > 0 ? pixel + std::sqrt(variance / (2.0 * PI)) * std::exp(-0.5 * pixel * pixel / variance) / tail : 0.0;
  return std::sqrt(2.0 * variance / PI) * std::exp(-0.5 * mu * mu / variance) - mu * std::erfc(mu / std::sqrt(2.0 * variance));
}

struct Sums {
  double f = 0, xx = 0, yy = 0, xy = 0;
  void add(double value, double dx, double dy) {
    f += value;
    xx += value * dx * dx;
    yy += value * dy * dy;
    xy += value * dx * dy;
  }
  void store(double scale, double *out) const {
    out[0] = f * scale;
    out[1] = 2.0 * xx / f;
    out[2] = 2.0 * yy / f;
    out[3] = 2.0 * xy / f;
  }
};

void measure(const Scene &scene, const Plane<const float> &variance, double x, double y, const Ellipse &e, double *out) {
  const Box box = box_within(scene, x, y, e, Q_MAX);
  const double det = e.determinant();
  double weights = 0, squares = 0;
  Sums raw, absolute;
  for (std::ptrdiff_t row = box.y0; row <= box.y1; ++row) {
    const double dy = double(row) - y;
    for (std::ptrdiff_t column = box.x0; column <= box.x1; ++column) {
      const double dx = double(column) - x;
      const double q = (e.yy * dx * dx - 2.0 * e.xy * dx * dy + e.xx * dy * dy) / det;
      if (!(q <= Q_MAX)) continue;
      const double w = std::exp(-0.5 * q), pixel = double(scene.row(std::size_t(row))[column]);
      weights += w;
      squares += w * w;
      raw.add(w * pixel, dx, dy);
      absolute.add(w * (std::abs(pixel) - absolute_bias(pixel, double(variance(std::size_t(row), std::size_t(column))))), dx, dy);
    }
  }
  raw.store(weights / squares, out);
  absolute.store(weights / squares, out + 4);
}

nb::object blend_sums(Scene &scene, Plane<const float> variance, Vector<const double> x, Vector<const double> y,
                      Vector<const double> xx, Vector<const double> yy, Vector<const double> xy) {
  const std::size_t n = x.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n || xx.shape(0) != n || yy.shape(0) != n || xy.shape(0) != n)
    throw std::invalid_argument("positions and moments differ in length");
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width())
    throw std::invalid_argument("variance and image differ in shape");
  Rows<double> result(n, 8);
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < n; ++i) {
      const Ellipse e{xx(i), xy(i), yy(i)};
      std::fill_n(result.row(i), 8, std::nan(""));
      if (!e.usable() || !std::isfinite(x(i)) || !std::isfinite(y(i))) continue;
      const Shown shown(scene, i);
      measure(scene, variance, x(i), y(i), e, result.row(i));
    }
  }
  return result.release();
}

} // namespace

void register_blend_sums(nb::module_ &m) {
  m.def("blend_sums", &blend_sums, nb::arg("scene"), nb::arg("variance"), nb::arg("x"), nb::arg("y"), nb::arg("xx"), nb::arg("yy"),
        nb::arg("xy"),
        "Flux, xx, yy, xy of the pixels, and the same of their absolute values less the noise's share, under the Gaussian weight of the "
        "given moments out to three sigma: float64 (n, 8). NaN for unusable moments or positions.");
}

} // namespace streamchar
