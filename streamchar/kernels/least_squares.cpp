// Weighted linear least squares of few unknowns, by Householder's reflections.
#include "arrays.hpp"
#include "lanes.hpp"
#include <algorithm>
#include <cmath>
#include <memory>
#include <nanobind/stl/optional.h>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::size_t LANES = 4;
constexpr double INDEPENDENT = 1e-10; // least part of a column that those before it do not explain

STREAMCHAR_MULTIVERSION double product(const double *a, const double *b, std::size_t n) {
  Four total = {}, x, y;
  for (std::size_t i = 0; i < n; i += LANES) {
    load(a + i, x);
    load(b + i, y);
    total += x * y;
  }
  return sum(total);
}

STREAMCHAR_MULTIVERSION void add_multiple(double factor, const double *a, std::size_t n, double *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) out[i] += factor * a[i];
}

// Rows of equations, column by column in whole vectors; their right side is the last column.
class Equations {
public:
  Equations(const Plane<const double> &design, const Vector<const double> &values, const std::optional<Vector<const double>> &weights)
      : rows_(design.shape(0)), unknowns_(design.shape(1)), length_((rows_ + LANES - 1) / LANES * LANES), columns_((unknowns_ + 1) * length_),
        mirror_(length_), diagonal_(unknowns_) {
    for (std::size_t i = 0; i < rows_; ++i) {
      const double root = weights ? std::sqrt((*weights)(i)) : 1.0;
      for (std::size_t k = 0; k < unknowns_; ++k) column(k)[i] = root * design(i, k);
      column(unknowns_)[i] = root * values(i);
    }
  }

  // Whether the equations determine all unknowns, which are then filled.
  bool solve(double *unknowns) {
    if (rows_ < unknowns_) return false;
    for (std::size_t k = 0; k < unknowns_; ++k)
      if (!reflect(k)) return false;
    for (std::size_t k = unknowns_; k-- > 0;) {
      unknowns[k] = column(unknowns_)[k];
      for (std::size_t j = k + 1; j < unknowns_; ++j) unknowns[k] -= column(j)[k] * unknowns[j];
      unknowns[k] /= diagonal_[k];
    }
    return true;
  }

private:
  double *column(std::size_t k) { return columns_.data() + k * length_; }

  // Leave nothing of column k below its row k; false when there is nothing but what the columns before explain.
  bool reflect(std::size_t k) {
    const double *own = column(k);
    const std::size_t first = k / LANES * LANES, n = length_ - first; // the mirror is zero in the rows before k
    std::fill_n(mirror_.begin(), k, 0.0);
    std::copy(own + k, own + length_, mirror_.begin() + k);
    const double square = product(mirror_.data() + first, mirror_.data() + first, n);
    if (!(square > INDEPENDENT * INDEPENDENT * product(own, own, length_))) return false;
    diagonal_[k] = -std::copysign(std::sqrt(square), own[k]);
    mirror_[k] -= diagonal_[k];
    const double scale = 1.0 / (square - diagonal_[k] * own[k]);
    for (std::size_t j = k + 1; j <= unknowns_; ++j) {
      const double part = product(mirror_.data() + first, column(j) + first, n);
      add_multiple(-scale * part, mirror_.data() + first, n, column(j) + first);
    }
    return true;
  }

  std::size_t rows_, unknowns_, length_;
  std::vector<double> columns_, mirror_, diagonal_;
};

nb::ndarray<nb::numpy, double, nb::ndim<1>> solve_least_squares(Plane<const double> design, Vector<const double> values,
                                                                std::optional<Vector<const double>> weights) {
  const std::size_t unknowns = design.shape(1);
  if (values.shape(0) != design.shape(0) || (weights && weights->shape(0) != design.shape(0)))
    throw std::invalid_argument("design, values and weights differ in length");
  bool determined;
  auto solution = std::make_unique<double[]>(unknowns);
  {
    nb::gil_scoped_release release;
    determined = Equations(design, values, weights).solve(solution.get());
  }
  return to_numpy(std::move(solution), determined ? unknowns : 0);
}

} // namespace

void register_least_squares(nb::module_ &m) {
  m.def("solve_least_squares", &solve_least_squares, nb::arg("design"), nb::arg("values"), nb::arg("weights").none() = nb::none(),
        "Coefficients, float64 (m), that make the sum of weights * (values - design @ coefficients)^2 least; design is float64 (n, m), values and weights (n), "
        "which are 1 when omitted. None at all, (0), when the equations do not determine each of them, which they do not with a NaN in design or "
        "weights; one in values makes them NaN.");
}

} // namespace streamchar
