// How stars depart from a model of them: flux, shift and stretch, to first order, by weighted least squares.
#include "arrays.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

namespace streamchar {
namespace {

constexpr std::size_t REACH = 5, MODES = 6, PLACED = 3, RESULTS = 9;
// Central differences of second to tenth order: a PSF of 2 pixels FWHM needs the highest.
constexpr double DIFFERENCES[REACH][REACH] = {{1.0 / 2.0},
                                              {2.0 / 3.0, -1.0 / 12.0},
                                              {3.0 / 4.0, -3.0 / 20.0, 1.0 / 60.0},
                                              {4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0},
                                              {5.0 / 6.0, -5.0 / 21.0, 5.0 / 84.0, -5.0 / 504.0, 1.0 / 1260.0}};
constexpr double SMALLEST_PIVOT = 1e-10;

// Weight of each difference at each place of a row, lower orders towards the ends: REACH x size.
std::vector<double> difference_weights(std::size_t size) {
  std::vector<double> result(REACH * size, 0.0);
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t reach = std::min({i, size - 1 - i, REACH});
    for (std::size_t k = 0; k < reach; ++k) result[k * size + i] = DIFFERENCES[reach - 1][k];
  }
  return result;
}

// What is fitted to a star: the model, its slopes along x and y, and what stretches along x, the diagonals and y change.
// Each template has room for whole lanes, zero beyond the last pixel.
struct Templates {
  std::size_t size, area, padded;
  std::vector<double> differences, framed, values, data, weight;

  explicit Templates(std::size_t size_)
      : size(size_), area(size_ * size_), padded((area + 3) / 4 * 4), differences(difference_weights(size_)),
        framed((size_ + 2 * REACH) * (size_ + 2 * REACH), 0.0), values(MODES * padded, 0.0), data(padded, 0.0), weight(padded, 0.0) {}
  double *mode(std::size_t k) { return values.data() + k * padded; }
  const double *mode(std::size_t k) const { return values.data() + k * padded; }
};

// One row of the slopes: every place has weights of its own along x, the row has the same ones along y.
STREAMCHAR_MULTIVERSION void slopes(const double *row, std::size_t pitch, const double *along_x, const double *along_y, std::size_t n,
                                    double *__restrict slope_x, double *__restrict slope_y) {
  for (std::size_t i = 0; i < n; ++i) {
    double x = 0.0, y = 0.0;
    for (std::size_t k = 0; k < REACH; ++k) {
      const std::size_t down = (k + 1) * pitch;
      x += along_x[k * n + i] * (row[i + k + 1] - row[i - k - 1]);
      y += along_y[k * n] * (row[i + down] - row[i - down]);
    }
    slope_x[i] = x;
    slope_y[i] = y;
  }
}

STREAMCHAR_MULTIVERSION void stretch(std::size_t n, double x, double y, const double *slope_x, const double *slope_y,
                                     double *__restrict along_x, double *__restrict diagonal, double *__restrict along_y) {
  for (std::size_t i = 0; i < n; ++i) {
    const double here = x + double(i);
    along_x[i] = -here * slope_x[i];
    diagonal[i] = -y * slope_x[i] - here * slope_y[i];
    along_y[i] = -y * slope_y[i];
  }
}

void prepare(Templates &t, const double *model, const double *data, const double *weight, double dx, double dy) {
  const std::size_t n = t.size, pitch = n + 2 * REACH;
  for (std::size_t j = 0; j < n; ++j) std::copy(model + j * n, model + (j + 1) * n, t.framed.data() + (j + REACH) * pitch + REACH);
  std::copy(model, model + t.area, t.mode(0));
  std::copy(data, data + t.area, t.data.data());
  std::copy(weight, weight + t.area, t.weight.data());
  const double middle = double(n / 2);
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t at = j * n;
    slopes(t.framed.data() + (j + REACH) * pitch + REACH, pitch, t.differences.data(), t.differences.data() + j, n, t.mode(1) + at, t.mode(2) + at);
    stretch(n, -middle - dx, double(j) - middle - dy, t.mode(1) + at, t.mode(2) + at, t.mode(3) + at, t.mode(4) + at, t.mode(5) + at);
  }
}

// Sums of weight times the products of three templates with three others. (No arrays of vectors: they would be kept in memory.)
STREAMCHAR_MULTIVERSION void products(const double *left, const double *right, std::size_t pitch, const double *weight, double (*out)[3]) {
  Four aa, ab, ac, ba, bb, bc, ca, cb, cc;
  for (Four *total : {&aa, &ab, &ac, &ba, &bb, &bc, &ca, &cb, &cc}) broadcast(0.0, *total);
  for (std::size_t i = 0; i < pitch; i += 4) {
    Four w, a, b, c, other;
    load(weight + i, w);
    load(right + i, a);
    load(right + pitch + i, b);
    load(right + 2 * pitch + i, c);
    load(left + i, other);
    other *= w;
    aa += other * a;
    ab += other * b;
    ac += other * c;
    load(left + pitch + i, other);
    other *= w;
    ba += other * a;
    bb += other * b;
    bc += other * c;
    load(left + 2 * pitch + i, other);
    other *= w;
    ca += other * a;
    cb += other * b;
    cc += other * c;
  }
  const double sums[3][3] = {{sum(aa), sum(ab), sum(ac)}, {sum(ba), sum(bb), sum(bc)}, {sum(ca), sum(cb), sum(cc)}};
  std::copy(&sums[0][0], &sums[0][0] + 9, &out[0][0]);
}

// Sums of weight times the product of a template with the data.
STREAMCHAR_MULTIVERSION double product(const double *values, const double *data, const double *weight, std::size_t n) {
  Four total, value, d, w;
  broadcast(0.0, total);
  for (std::size_t i = 0; i < n; i += 4) {
    load(values + i, value);
    load(data + i, d);
    load(weight + i, w);
    total += w * d * value;
  }
  return sum(total);
}

STREAMCHAR_MULTIVERSION void subtract(const double *values, const double *amplitude, std::size_t pitch, std::size_t n, const double *data,
                                      double *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) {
    double fit = 0.0;
    for (std::size_t k = 0; k < MODES; ++k) fit += amplitude[k] * values[k * pitch + i];
    out[i] = data[i] - fit;
  }
}

using Square = std::array<std::array<double, MODES>, MODES>;
using Column = std::array<double, MODES>;

// The normal matrix of unit diagonal, as L D L^T; rank is the number of leading pivots that are not near zero.
struct Elimination {
  Square lower{};
  Column root{}, pivot{};
  std::size_t rank = 0;

  explicit Elimination(const Square &normal) {
    for (std::size_t k = 0; k < MODES; ++k) root[k] = std::sqrt(normal[k][k]);
    for (std::size_t j = 0; j < MODES; ++j) {
      for (std::size_t k = 0; k < j; ++k) {
        double rest = normal[j][k] / (root[j] * root[k]);
        for (std::size_t m = 0; m < k; ++m) rest -= lower[j][m] * lower[k][m] * pivot[m];
        lower[j][k] = rest / pivot[k];
      }
      double rest = normal[j][j] / (root[j] * root[j]);
      for (std::size_t m = 0; m < j; ++m) rest -= lower[j][m] * lower[j][m] * pivot[m];
      if (!(rest > SMALLEST_PIVOT && rest <= 2.0)) return;
      pivot[j] = rest;
      rank = j + 1;
    }
  }
  // Solve the leading n equations, n at most the rank.
  Column solve(const Column &right, std::size_t n) const {
    Column x{};
    for (std::size_t j = 0; j < n; ++j) {
      x[j] = right[j] / root[j];
      for (std::size_t k = 0; k < j; ++k) x[j] -= lower[j][k] * x[k];
    }
    for (std::size_t j = n; j-- > 0;) {
      x[j] /= pivot[j];
      for (std::size_t k = j + 1; k < n; ++k) x[j] -= lower[k][j] * x[k];
    }
    for (std::size_t j = 0; j < n; ++j) x[j] /= root[j];
    return x;
  }
};

void fit(const Templates &t, double *result, double *residual) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  Square normal;
  for (const auto &[first, second] : {std::pair<std::size_t, std::size_t>{0, 0}, {0, 3}, {3, 3}}) {
    double block[3][3];
    products(t.mode(first), t.mode(second), t.padded, t.weight.data(), block);
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 3; ++k) normal[first + j][second + k] = normal[second + k][first + j] = block[j][k];
  }
  Column right;
  for (std::size_t k = 0; k < MODES; ++k) right[k] = product(t.mode(k), t.data.data(), t.weight.data(), t.padded);
  const Elimination elimination(normal);
  std::fill(result, result + RESULTS, nan);
  Column every;
  every.fill(nan);
  if (elimination.rank >= PLACED) {
    const Column placed = elimination.solve(right, PLACED);
    result[0] = placed[0];
    // A star shifted by d changes the image by -d times the slope.
    result[1] = -placed[1] / placed[0];
    result[2] = -placed[2] / placed[0];
  }
  if (elimination.rank == MODES) {
    every = elimination.solve(right, MODES);
    for (std::size_t k = PLACED; k < MODES; ++k) {
      Column unit{};
      unit[k] = 1.0;
      result[k] = every[k] / result[0];
      result[k + 3] = elimination.solve(unit, MODES)[k] / (result[0] * result[0]);
    }
  }
  subtract(t.values.data(), every.data(), t.padded, t.area, t.data.data(), residual);
}

nb::tuple star_modes(Cube<const double> pixels, Cube<const double> model, Cube<const double> weights, Vector<const double> dx, Vector<const double> dy) {
  const std::size_t n = pixels.shape(0), size = pixels.shape(1);
  if (pixels.shape(2) != size) throw std::invalid_argument("stamps must be square");
  for (const auto *other : {&model, &weights})
    if (other->shape(0) != n || other->shape(1) != size || other->shape(2) != size) throw std::invalid_argument("pixels, model and weights differ in shape");
  if (dx.shape(0) != n || dy.shape(0) != n) throw std::invalid_argument("stamps and positions differ in length");
  Rows<double> result(n, RESULTS), residual(n, size * size);
  {
    nb::gil_scoped_release release;
    Templates templates(size);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i * size * size;
      prepare(templates, model.data() + at, pixels.data() + at, weights.data() + at, dx(i), dy(i));
      fit(templates, result.row(i), residual.row(i));
    }
  }
  return nb::make_tuple(result.release(), residual.release());
}

} // namespace

void register_star_modes(nb::module_ &m) {
  m.def("star_modes", &star_modes, nb::arg("pixels").noconvert(), nb::arg("model").noconvert(), nb::arg("weights").noconvert(), nb::arg("dx"), nb::arg("dy"),
        "Fit to n stars (n, V, V) their model of unit flux at the assumed positions (dx, dy from the middle pixel), its slopes, and what stretches a along "
        "x, c along the diagonals (x + a x + c y, y + c x + b y) and b along y change, with given inverse variances. Slopes are central differences of "
        "up to tenth order. Returns float64 (n, 9): flux and offsets in x and y from the fit of these alone, a, c, b relative, their variances; and the "
        "pixels minus the fit of all, float64 (n, V V). NaN where pixels do not determine it (a pivot of the normal matrix of unit diagonal below 1e-10).");
}

} // namespace streamchar
