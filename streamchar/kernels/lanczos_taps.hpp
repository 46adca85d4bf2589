// Interpolation weights of a row of positions (Lanczos or quintic B-spline), shared by the PSF kernels.
#pragma once
#include "arrays.hpp"
#include "lanes.hpp"
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
  std::vector<double> plain;       // weights of a fraction as if no input were outside

  int order;

  Taps(std::size_t outputs_, int order_)
      : outputs(outputs_), taps(order_ == SPLINE ? 6 : 2 * order_), first(outputs_), weight(outputs_ * taps), plain(taps), order(order_) {}

  // Positions start + i * step, in units of input pixels.
  void fill(double start, double step, std::int64_t inputs) {
    const std::int64_t half = std::int64_t(taps / 2);
    double fraction = -1.0;
    for (std::size_t i = 0; i < outputs; ++i) {
      const double position = start + double(i) * step, base = std::floor(position);
      first[i] = std::int64_t(base) - half + 1;
      // Where the step is a whole number all positions have the same fraction.
      if (std::abs(position - base - fraction) > 1e-13) {
        fraction = position - base;
        weigh(fraction);
      }
      double *w = weight.data() + i * taps;
      std::copy(plain.begin(), plain.end(), w);
      if (first[i] >= 0 && first[i] + std::int64_t(taps) <= inputs) continue;
      const bool inside = position >= -0.5 && position <= double(inputs) - 0.5;
      for (std::size_t k = 0; k < taps; ++k) {
        const std::int64_t input = first[i] + std::int64_t(k);
        if (!inside || input < 0 || input >= inputs) w[k] = 0.0;
      }
      if (order != SPLINE) normalise(w);
    }
  }

  void weigh(double fraction) {
    if (order == SPLINE) return spline(fraction, plain.data());
    lanczos(fraction, plain.data());
    normalise(plain.data());
  }

  void normalise(double *w) const {
    double sum = 0.0;
    for (std::size_t k = 0; k < taps; ++k) sum += w[k];
    if (!(sum > 0.0)) return;
    for (std::size_t k = 0; k < taps; ++k) w[k] /= sum;
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

// out[i] = sum_k factor[k] * in[k][i], sixteen sums at a time in registers.
STREAMCHAR_MULTIVERSION void weighted_sum(const double *const *in, const double *factor, std::size_t count, std::size_t n, double *out) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    Four total[4] = {}, value;
    for (std::size_t k = 0; k < count; ++k)
      for (std::size_t part = 0; part < 4; ++part) {
        load(in[k] + i + 4 * part, value);
        total[part] += factor[k] * value;
      }
    std::memcpy(out + i, total, sizeof total);
  }
  for (; i + 4 <= n; i += 4) {
    Four total = {}, value;
    for (std::size_t k = 0; k < count; ++k) {
      load(in[k] + i, value);
      total += factor[k] * value;
    }
    std::memcpy(out + i, &total, sizeof total);
  }
  for (; i < n; ++i) {
    double total = 0.0;
    for (std::size_t k = 0; k < count; ++k) total += factor[k] * in[k][i];
    out[i] = total;
  }
}

constexpr std::size_t MOST_TAPS = 32;

// out (outputs x width) = taps applied to the rows of in (inputs x width).
void interpolate_rows(const Taps &taps, const double *in, std::size_t inputs, std::size_t width, double *out) {
  const double *rows[MOST_TAPS];
  double factors[MOST_TAPS];
  for (std::size_t i = 0; i < taps.outputs; ++i) {
    const double *w = taps.weight.data() + i * taps.taps;
    std::size_t count = 0;
    for (std::size_t k = taps.begin(i); k < taps.end(i, std::int64_t(inputs)); ++k)
      if (w[k] != 0.0) { // whatever a tap of no weight would read, NaN too, does not count
        rows[count] = in + std::size_t(taps.first[i] + std::int64_t(k)) * width;
        factors[count++] = w[k];
      }
    weighted_sum(rows, factors, count, width, out + i * width);
  }
}

// In tiles that fit the cache lines of both sides.
STREAMCHAR_MULTIVERSION void transpose(const double *in, std::size_t rows, std::size_t columns, double *out) {
  constexpr std::size_t TILE = 4;
  std::size_t j = 0;
  for (; j + TILE <= rows; j += TILE) {
    std::size_t i = 0;
    for (; i + TILE <= columns; i += TILE) {
      Four a, b, c, d;
      load(in + j * columns + i, a);
      load(in + (j + 1) * columns + i, b);
      load(in + (j + 2) * columns + i, c);
      load(in + (j + 3) * columns + i, d);
      const Four ac_low = __builtin_shufflevector(a, c, 0, 4, 2, 6), ac_high = __builtin_shufflevector(a, c, 1, 5, 3, 7);
      const Four bd_low = __builtin_shufflevector(b, d, 0, 4, 2, 6), bd_high = __builtin_shufflevector(b, d, 1, 5, 3, 7);
      const Four column[TILE] = {__builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5), __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5),
                                 __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7), __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7)};
      for (std::size_t k = 0; k < TILE; ++k) std::memcpy(out + (i + k) * rows + j, &column[k], sizeof(Four));
    }
    for (; i < columns; ++i)
      for (std::size_t k = 0; k < TILE; ++k) out[i * rows + j + k] = in[(j + k) * columns + i];
  }
  for (; j < rows; ++j)
    for (std::size_t i = 0; i < columns; ++i) out[i * rows + j] = in[j * columns + i];
}

} // namespace
} // namespace streamchar
