// Lanczos interpolation weights of a row of positions, shared by the PSF kernels.
#pragma once
#include "arrays.hpp"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace streamchar {

// For every output position a first input index and `taps` weights of unit sum; weights of inputs outside
// [0, inputs) are zero, as are all weights of a position outside [-0.5, inputs - 0.5].
struct LanczosTaps {
  std::size_t outputs, taps;
  std::vector<std::int64_t> first; // may be negative or reach beyond the inputs where the weight is zero
  std::vector<double> weight;      // outputs x taps

  LanczosTaps(std::size_t outputs_, int order) : outputs(outputs_), taps(2 * order), first(outputs_), weight(outputs_ * 2 * order) {}

  // Positions start + i * step, in units of input pixels.
  void fill(double start, double step, std::int64_t inputs) {
    const double pi = 3.14159265358979323846;
    const int order = int(taps / 2);
    for (std::size_t i = 0; i < outputs; ++i) {
      double *w = weight.data() + i * taps;
      const double position = start + double(i) * step, base = std::floor(position), fraction = position - base;
      first[i] = std::int64_t(base) - order + 1;
      const bool inside = position >= -0.5 && position <= double(inputs) - 0.5;
      const double sine = std::sin(pi * fraction);
      double sum = 0.0;
      for (std::size_t k = 0; k < taps; ++k) {
        const int offset = int(k) - order + 1;
        const double t = fraction - double(offset);
        double value = 0.0;
        if (std::abs(t) < 1e-9)
          value = 1.0;
        else if (std::abs(t) < double(order))
          // sin(pi (f - n)) = (-1)^n sin(pi f)
          value = (offset % 2 ? -sine : sine) * std::sin(pi * t / order) * order / (pi * pi * t * t);
        const std::int64_t input = first[i] + std::int64_t(k);
        w[k] = inside && input >= 0 && input < inputs ? value : 0.0;
        sum += w[k];
      }
      for (std::size_t k = 0; k < taps && sum > 0.0; ++k) w[k] /= sum;
    }
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
void interpolate_rows(const LanczosTaps &taps, const double *in, std::size_t inputs, std::size_t width, double *out) {
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
