// Interpolating a coarse grid to all pixels with one-dimensional piecewise polynomials, first along y, then along x.
#include "arrays.hpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

enum Style { CONSTANT = 0, LINEAR = 1, NATURAL = 2, AKIMA = 3 };

// c0 + c1 s + c2 s^2 + c3 s^3 with s = position - origin, for positions from begin on.
struct Piece {
  double begin, origin, c0, c1, c2, c3;
};
using Curve = std::vector<Piece>;
constexpr double START = -std::numeric_limits<double>::infinity();

// Neighbouring nodes' midpoints are the steps, as the reference has it.
void make_constant(const std::vector<double> &x, const std::vector<double> &y, Curve &curve) {
  const std::size_t n = x.size();
  curve.push_back({START, 0, y[0], 0, 0, 0});
  for (std::size_t j = 1; j < n; ++j) curve.push_back({0.5 * (x[j - 1] + x[j]), 0, 0.5 * (y[j - 1] + y[j]), 0, 0, 0});
  if (n > 1) curve.push_back({0.5 * (3 * x[n - 1] - x[n - 2]), 0, y[n - 1], 0, 0, 0});
}

// Second derivatives of the natural cubic spline, by elimination of the tridiagonal system.
void natural_second_derivatives(const std::vector<double> &x, const std::vector<double> &y, std::vector<double> &second) {
  const std::size_t n = x.size();
  std::vector<double> upper(n, 0.0);
  second.assign(n, 0.0);
  for (std::size_t i = 1; i + 1 < n; ++i) {
    const double h0 = x[i] - x[i - 1], h1 = x[i + 1] - x[i];
    const double right = 6.0 * ((y[i + 1] - y[i]) / h1 - (y[i] - y[i - 1]) / h0);
    const double pivot = 2.0 * (h0 + h1) - h0 * upper[i - 1];
    upper[i] = h1 / pivot;
    second[i] = (right - h0 * second[i - 1]) / pivot;
  }
  for (std::size_t i = n - 1; i-- > 1;) second[i] -= upper[i] * second[i + 1];
}

void make_natural(const std::vector<double> &x, const std::vector<double> &y, Curve &curve) {
  std::vector<double> second;
  natural_second_derivatives(x, y, second);
  for (std::size_t i = 0; i + 1 < x.size(); ++i) {
    const double h = x[i + 1] - x[i];
    curve.push_back({x[i], x[i], y[i], (y[i + 1] - y[i]) / h - h * (2.0 * second[i] + second[i + 1]) / 6.0, 0.5 * second[i], (second[i + 1] - second[i]) / (6.0 * h)});
  }
}

// Akima (1970) with his extension of the slopes; where all slopes agree the interval is linear.
void make_akima(const std::vector<double> &x, const std::vector<double> &y, Curve &curve) {
  const std::size_t n = x.size();
  std::vector<double> slope(n + 3);
  double *m = slope.data() + 2;
  const auto last = std::ptrdiff_t(n) - 2;
  for (std::ptrdiff_t i = 0; i <= last; ++i) m[i] = (y[std::size_t(i) + 1] - y[std::size_t(i)]) / (x[std::size_t(i) + 1] - x[std::size_t(i)]);
  m[-1] = 2.0 * m[0] - m[1];
  m[-2] = 3.0 * m[0] - 2.0 * m[1];
  m[last + 1] = 2.0 * m[last] - m[last - 1];
  m[last + 2] = 3.0 * m[last] - 2.0 * m[last - 1];
  for (std::ptrdiff_t i = 0; i <= last; ++i) {
    const double near = std::fabs(m[i - 1] - m[i - 2]), norm = std::fabs(m[i + 1] - m[i]) + near;
    const double x0 = x[std::size_t(i)], y0 = y[std::size_t(i)], h = x[std::size_t(i) + 1] - x0;
    if (norm == 0.0) {
      curve.push_back({x0, x0, y0, m[i], 0, 0});
      continue;
    }
    const double a = near / norm, b = (1.0 - a) * m[i - 1] + a * m[i];
    const double here = std::fabs(m[i] - m[i - 1]), next = std::fabs(m[i + 2] - m[i + 1]) + here;
    const double end = next == 0.0 ? m[i] : (1.0 - here / next) * m[i] + (here / next) * m[i + 1];
    curve.push_back({x0, x0, y0, b, (3.0 * m[i] - 2.0 * b - end) / h, (b + end - 2.0 * m[i]) / (h * h)});
  }
}

void make_linear(const std::vector<double> &x, const std::vector<double> &y, Curve &curve) {
  for (std::size_t i = 0; i + 1 < x.size(); ++i) curve.push_back({x[i], x[i], y[i], (y[i + 1] - y[i]) / (x[i + 1] - x[i]), 0, 0});
}

// Continue the first and last interval outwards as the parabola with the end's derivatives.
void extrapolate(double x_last, double y_last, Curve &curve) {
  const Piece first = curve.front(), last = curve.back();
  const double h = x_last - last.origin;
  curve.insert(curve.begin(), {START, first.origin, first.c0, first.c1, first.c2, 0});
  curve.push_back({x_last, x_last, y_last, last.c1 + h * (2.0 * last.c2 + 3.0 * h * last.c3), last.c2 + 3.0 * h * last.c3, 0});
}

// The curve through the finite points, of the wanted style or the best one that so few points allow.
void make_curve(const std::vector<double> &x, const std::vector<double> &y, int style, Curve &curve) {
  curve.clear();
  const std::size_t n = x.size();
  if (n == 0) {
    curve.push_back({START, 0, std::numeric_limits<double>::quiet_NaN(), 0, 0, 0});
    return;
  }
  const int allowed = n >= 5 ? AKIMA : n >= 3 ? NATURAL : n == 2 ? LINEAR : CONSTANT;
  const int used = std::min(style, allowed);
  if (used == CONSTANT) return make_constant(x, y, curve);
  if (used == LINEAR) make_linear(x, y, curve);
  if (used == NATURAL) make_natural(x, y, curve);
  if (used == AKIMA) make_akima(x, y, curve);
  extrapolate(x[n - 1], y[n - 1], curve);
}

// Call piece(begin, end, p) for the pixels of every piece within 0..length-1.
template <typename F> void each_piece(const Curve &curve, std::size_t length, F piece) {
  std::size_t begin = 0;
  for (std::size_t k = 0; k < curve.size(); ++k) {
    std::size_t end = length;
    if (k + 1 < curve.size()) end = std::size_t(std::clamp(std::ceil(curve[k + 1].begin), 0.0, double(length)));
    if (end > begin) piece(begin, end, curve[k]);
    begin = std::max(begin, end);
  }
}

STREAMCHAR_MULTIVERSION
void add_piece(float *out, std::size_t begin, std::size_t end, Piece p, float factor) {
  for (std::size_t i = begin; i < end; ++i) {
    const double s = double(std::int32_t(i)) - p.origin;
    out[i] += factor * float(p.c0 + s * (p.c1 + s * (p.c2 + s * p.c3)));
  }
}

void keep_finite(const std::vector<double> &x, const double *y, std::size_t stride, std::vector<double> &kept_x, std::vector<double> &kept_y) {
  kept_x.clear();
  kept_y.clear();
  for (std::size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(y[i * stride])) {
      kept_x.push_back(x[i]);
      kept_y.push_back(y[i * stride]);
    }
}

std::vector<double> ascending(const Vector<const double> &centres, std::size_t n) {
  if (centres.shape(0) != n || n == 0) throw std::invalid_argument("one centre for every row and column of the grid is needed");
  std::vector<double> result(centres.data(), centres.data() + n);
  for (std::size_t i = 0; i < n; ++i)
    if (!std::isfinite(result[i]) || (i > 0 && result[i] <= result[i - 1])) throw std::invalid_argument("centres must be finite and ascend");
  return result;
}

void add_grid(Plane<float> plane, Plane<const double> grid, Vector<const double> y_centres, Vector<const double> x_centres, int style, float factor) {
  const std::size_t height = plane.shape(0), width = plane.shape(1), ny = grid.shape(0), nx = grid.shape(1);
  const std::vector<double> yc = ascending(y_centres, ny), xc = ascending(x_centres, nx);
  if (style < CONSTANT || style > AKIMA) throw std::invalid_argument("style must be 0 to 3");
  nb::gil_scoped_release release;
  std::vector<double> columns(height * nx), x, y;
  Curve curve;
  for (std::size_t i = 0; i < nx; ++i) {
    keep_finite(yc, grid.data() + i, nx, x, y);
    make_curve(x, y, style, curve);
    each_piece(curve, height, [&](std::size_t begin, std::size_t end, const Piece &p) {
      for (std::size_t row = begin; row < end; ++row) {
        const double s = double(row) - p.origin;
        columns[row * nx + i] = p.c0 + s * (p.c1 + s * (p.c2 + s * p.c3));
      }
    });
  }
  for (std::size_t row = 0; row < height; ++row) {
    keep_finite(xc, columns.data() + row * nx, 1, x, y);
    make_curve(x, y, style, curve);
    float *out = plane.data() + row * width;
    each_piece(curve, width, [&](std::size_t begin, std::size_t end, const Piece &p) { add_piece(out, begin, end, p, factor); });
  }
}

} // namespace

void register_grid_interpolation(nb::module_ &m) {
  m.def("add_grid", &add_grid, nb::arg("plane").noconvert(), nb::arg("grid"), nb::arg("y_centres"), nb::arg("x_centres"), nb::arg("style"), nb::arg("factor"),
        "Add factor times the interpolated grid (float64, ny, nx) to plane (float32, in place). Styles: 0 constant, 1 linear, 2 natural cubic spline, "
        "3 Akima spline; lines with fewer finite points than the style needs (1, 2, 3, 5) use the best style they allow, lines without any are NaN. "
        "Computed in float64 and rounded to float32 before it is added.");
}

} // namespace streamchar
