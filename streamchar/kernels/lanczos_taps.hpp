// Interpolation weights of a row of positions (Lanczos or quintic B-spline), shared by the PSF kernels.
#pragma once
#include "arrays.hpp"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace streamchar {

// Order that stands for the quintic B-spline, whose coefficients the inputs are then.
constexpr int SPLINE = 0;

// For every output position a first input index and `taps` weights; weights of inputs outside [0, inputs) are zero,
// as are all weights of a position outside [-0.5, inputs - 0.5]. Lanczos weights have unit sum.
struct Taps {
  std::size_t outputs, taps;
  std::vector<std::int64_t> first; // may be negative or reach beyond the inputs where the weight is zero
  std::vector<double> weight;      // outputs x taps

  int order;

  Taps(std::size_t outputs_, int order_)
      : outputs(outputs_), taps(order_ == SPLINE ? 6 : 2 * order_), first(outputs_), weight(outputs_ * taps), order(order_) {}

  // Positions start + i * step, in units of input pixels.
  void fill(double start, double step, std::int64_t inputs) {
    const int half = int(taps / 2);
    for (std::size_t i = 0; i < outputs; ++i) {
      double *w = weight.data() + i * taps;
      const double position = start + double(i) * step, base = std::floor(position);
      first[i] = std::int64_t(base) - half + 1;
      if (order == SPLINE)
        spline(position - base, w);
      else
        lanczos(position - base, w);
      const bool inside = position >= -0.5 && position <= double(inputs) - 0.5;
      double sum = 0.0;
      for (std::size_t k = 0; k < taps; ++k) {
        const std::int64_t input = first[i] + std::int64_t(k);
        if (!inside || input < 0 || input >= inputs) w[k] = 0.0;
        sum += w[k];
      }
      if (order == SPLINE || !(sum > 0.0)) continue;
      for (std::size_t k = 0; k < taps; ++k) w[k] /= sum;
    }
  }

  void lanczos(double fraction, double *w) const {
    const double pi = 3.14159265358979323846, sine = std::sin(pi * fraction);
    for (std::size_t k = 0; k < taps; ++k) {
      const int offset = int(k) - order + 1;
      const double t = fraction - double(offset);
      w[k] = 0.0;
      if (std::abs(t) < 1e-9)
        w[k] = 1.0;
      else if (std::abs(t) < double(order)) // sin(pi (f - n)) = (-1)^n sin(pi f)
        w[k] = (offset % 2 ? -sine : sine) * std::sin(pi * t / order) * order / (pi * pi * t * t);
    }
  }

  static void spline(double f, double *w) {
    const double g = 1.0 - f, f2 = f * f, g2 = g * g;
    w[0] = g2 * g2 * g / 120.0;
    w[5] = f2 * f2 * f / 120.0;
    // Truncated powers: beta(t) = sum_k (-1)^k C(6, k) max(3 - k - |t|, 0)^5 / 120.
    const auto inner = [](double t) { // |t| < 1
      const double t2 = t * t;
      return (66.0 - 60.0 * t2 + 30.0 * t2 * t2 - 10.0 * t2 * t2 * t) / 120.0;
    };
    const auto middle = [](double t) { // 1 <= |t| < 2
      return (51.0 + t * (75.0 + t * (-210.0 + t * (150.0 + t * (-45.0 + 5.0 * t))))) / 120.0;
    };
    w[1] = middle(1.0 + f);
    w[2] = inner(f);
    w[3] = inner(g);
    w[4] = middle(1.0 + g);
  }

  // First and one past the last tap of output i that fall inside the inputs.
  std::size_t begin(std::size_t i) const { return first[i] < 0 ? std::size_t(-first[i]) : 0; }
  std::size_t end(std::size_t i, std::int64_t inputs) const {
    const std::int64_t room = inputs - first[i];
    return room < 0 ? 0 : (std::size_t(room) < taps ? std::size_t(room) : taps);
  }
};

namespace { // multiversioned functions have one copy per file

STREAMCHAR_MULTIVERSION void add_scaled(const double *in, double factor, std::size_t n, double *out) {
  for (std::size_t i = 0; i < n; ++i) out[i] += factor * in[i];
}

// out (outputs x width) = taps applied to the rows of in (inputs x width).
void interpolate_rows(const Taps &taps, const double *in, std::size_t inputs, std::size_t width, double *out) {
  for (std::size_t i = 0; i < taps.outputs; ++i) {
    double *row = out + i * width;
    std::fill(row, row + width, 0.0);
    const double *w = taps.weight.data() + i * taps.taps;
    for (std::size_t k = taps.begin(i); k < taps.end(i, std::int64_t(inputs)); ++k)
      if (w[k] != 0.0) add_scaled(in + std::size_t(taps.first[i] + std::int64_t(k)) * width, w[k], width, row);
  }
}

void transpose(const double *in, std::size_t rows, std::size_t columns, double *out) {
  for (std::size_t j = 0; j < rows; ++j)
    for (std::size_t i = 0; i < columns; ++i) out[i * rows + j] = in[j * columns + i];
}

} // namespace
} // namespace streamchar
