// Two concentric Gaussians fitted to the pixels of a star's image, by Levenberg's and Marquardt's method within limits.
#include "arrays.hpp"
#include "lanes.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t COUNT = 4, LANES = 4;
constexpr double SETTLED = 1e-10, LEAST_DAMPING = 1e-12, FIRST_DAMPING = 1e-3, FAINTEST = -700.0;

typedef std::array<double, COUNT> Column; // by parameter: logarithms of two sigmas and two amplitudes

// At one place: the sum of squared deviations, half its gradient, and the products of the slopes.
struct Sums {
  double cost = 0.0;
  Column gradient{};
  std::array<Column, COUNT> normal{};
};

STREAMCHAR_MULTIVERSION
void add_up(const double *squares, const double *values, std::size_t n, const double *place, Sums &out) {
  Four cost = {}, gradient[COUNT] = {}, normal[COUNT][COUNT] = {}, scale[2], amplitude[2];
  for (std::size_t k = 0; k < 2; ++k) {
    broadcast(std::exp(-2.0 * place[k]), scale[k]);
    broadcast(std::exp(place[2 + k]), amplitude[k]);
  }
  for (std::size_t i = 0; i < n; i += LANES) {
    Four square, value, present, slope[COUNT];
    for (std::size_t j = 0; j < LANES; ++j) {
      const bool is_there = i + j < n;
      square[j] = is_there ? squares[i + j] : 0.0;
      value[j] = is_there ? values[i + j] : 0.0;
      present[j] = is_there ? 1.0 : 0.0;
    }
    Four deviation = -value;
    for (std::size_t k = 0; k < 2; ++k) {
      const Four relative = square * scale[k];
      Four power = -0.5 * relative, light;
      power = power < FAINTEST ? Four{} + FAINTEST : power;
      exponential(power, light);
      slope[2 + k] = amplitude[k] * light * present;
      slope[k] = slope[2 + k] * relative;
      deviation += slope[2 + k];
    }
    cost += deviation * deviation;
    for (std::size_t a = 0; a < COUNT; ++a) {
      gradient[a] += slope[a] * deviation;
      for (std::size_t b = 0; b <= a; ++b) normal[a][b] += slope[a] * slope[b];
    }
  }
  out.cost = sum(cost);
  for (std::size_t a = 0; a < COUNT; ++a) {
    out.gradient[a] = sum(gradient[a]);
    for (std::size_t b = 0; b <= a; ++b) out.normal[a][b] = out.normal[b][a] = sum(normal[a][b]);
  }
}

// Solve normal · step = -gradient, the matrix positive definite, by elimination.
Column solve(std::array<Column, COUNT> normal, const Column &gradient) {
  Column step;
  for (std::size_t a = 0; a < COUNT; ++a) step[a] = -gradient[a];
  for (std::size_t a = 0; a < COUNT; ++a)
    for (std::size_t b = a + 1; b < COUNT; ++b) {
      const double factor = normal[b][a] / normal[a][a];
      for (std::size_t c = a; c < COUNT; ++c) normal[b][c] -= factor * normal[a][c];
      step[b] -= factor * step[a];
    }
  for (std::size_t a = COUNT; a-- > 0;) {
    for (std::size_t b = a + 1; b < COUNT; ++b) step[a] -= normal[a][b] * step[b];
    step[a] /= normal[a][a];
  }
  return step;
}

// Where one step leads; parameters that press against a limit, or that have no slope, stay.
Column next(const Column &place, Sums sums, double damping, const double *low, const double *high) {
  for (std::size_t a = 0; a < COUNT; ++a) {
    const bool held = (place[a] <= low[a] && sums.gradient[a] > 0.0) || (place[a] >= high[a] && sums.gradient[a] < 0.0);
    if (held) {
      sums.gradient[a] = 0.0;
      for (std::size_t b = 0; b < COUNT; ++b) sums.normal[a][b] = sums.normal[b][a] = 0.0;
    }
    double &diagonal = sums.normal[a][a];
    diagonal = diagonal > 0.0 ? diagonal * (1.0 + damping) : 1.0;
  }
  Column target = solve(sums.normal, sums.gradient);
  for (std::size_t a = 0; a < COUNT; ++a) target[a] = std::clamp(place[a] + target[a], low[a], high[a]);
  return target;
}

nb::ndarray<nb::numpy, double, nb::ndim<1>> fit_two_gaussians(Vector<const double> squares, Vector<const double> values, Vector<const double> start,
                                                              Plane<const double> limits, int steps) {
  const std::size_t n = squares.shape(0);
  if (values.shape(0) != n) throw std::invalid_argument("squares and values differ in length");
  if (start.shape(0) != COUNT || limits.shape(0) != 2 || limits.shape(1) != COUNT) throw std::invalid_argument("start needs 4 values, limits 2 x 4");
  const double *low = limits.data(), *high = low + COUNT;
  for (std::size_t a = 0; a < COUNT; ++a)
    if (!(low[a] <= high[a])) throw std::invalid_argument("the lower limits must not be above the upper ones");
  auto result = to_numpy(unset<double>(COUNT), COUNT);
  nb::gil_scoped_release release;
  Column place;
  std::copy_n(start.data(), COUNT, place.begin());
  Sums here;
  add_up(squares.data(), values.data(), n, place.data(), here);
  double damping = FIRST_DAMPING;
  for (int step = 0; step < steps; ++step) {
    const Column target = next(place, here, damping, low, high);
    Sums there;
    add_up(squares.data(), values.data(), n, target.data(), there);
    if (there.cost > here.cost) {
      damping *= 10.0;
      continue;
    }
    const bool settled = here.cost - there.cost <= SETTLED * here.cost && damping < 1.0;
    place = target;
    here = there;
    damping = std::max(damping / 10.0, LEAST_DAMPING);
    if (settled) break;
  }
  std::copy(place.begin(), place.end(), result.data());
  return result;
}

} // namespace

void register_two_gaussians(nb::module_ &m) {
  m.def("fit_two_gaussians", &fit_two_gaussians, nb::arg("squares"), nb::arg("values"), nb::arg("start"), nb::arg("limits"), nb::arg("steps"),
        "Logarithms of sigma and sigma, amplitude and amplitude of two Gaussians about the same centre, float64 (4), fitted to values at squared "
        "distances from it, both float64 (n), from such a start, (4), within limits, (2, 4), in at most so many steps.");
}

} // namespace streamchar
