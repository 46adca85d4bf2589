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
constexpr double PI = 3.14159265358979323846;

namespace { // multiversioned functions have one copy per file

// The inputs before positions start + i * step, and how far beyond them these are.
STREAMCHAR_MULTIVERSION void locate(double start, double step, std::size_t n, std::int64_t *before, double *fraction) {
  for (std::size_t i = 0; i < n; ++i) {
    const double position = start + double(i) * step, base = std::floor(position);
    before[i] = std::int64_t(base);
    fraction[i] = position - base;
  }
}

// Weights (n x 6) of the quintic B-spline at fractions of a knot distance, from truncated powers:
// beta(t) = sum_k (-1)^k C(6, k) max(3 - k - |t|, 0)^5 / 120. Both arrays have room for whole lanes.
template <typename T> STREAMCHAR_MULTIVERSION void splines(const double *fraction, std::size_t n, T *weight) {
  for (std::size_t i = 0; i < n; i += 4) {
    Four f;
    load(fraction + i, f);
    const Four g = 1.0 - f, f2 = f * f, g2 = g * g, far = 1.0 + f, other = 1.0 + g;
    const Four w[6] = {g2 * g2 * g / 120.0,
                       (51.0 + far * (75.0 + far * (-210.0 + far * (150.0 + far * (-45.0 + 5.0 * far))))) / 120.0,
                       (66.0 - 60.0 * f2 + 30.0 * f2 * f2 - 10.0 * f2 * f2 * f) / 120.0,
                       (66.0 - 60.0 * g2 + 30.0 * g2 * g2 - 10.0 * g2 * g2 * g) / 120.0,
                       (51.0 + other * (75.0 + other * (-210.0 + other * (150.0 + other * (-45.0 + 5.0 * other))))) / 120.0,
                       f2 * f2 * f / 120.0};
    for (std::size_t lane = 0; lane < 4; ++lane)
      for (std::size_t k = 0; k < 6; ++k) weight[6 * (i + lane) + k] = T(w[k][lane]);
  }
}

} // namespace

// For every output position a first input index and `taps` weights; weights of inputs outside [0, inputs) are zero,
// as are all weights of a position outside [-0.5, inputs - 0.5]. Lanczos weights have unit sum.
template <typename T> struct Taps {
  std::size_t outputs, taps;
  std::vector<std::int64_t> first; // may be negative or reach beyond the inputs where the weight is zero
  std::vector<T> weight;           // outputs x taps
  std::vector<double> fraction;    // of the position beyond an input
  std::vector<double> plain;       // weights of a fraction as if no input were outside
  std::vector<double> sine, cosine; // of pi / order times the place of each tap

  int order;

  Taps(std::size_t outputs_, int order_)
      : outputs(outputs_), taps(order_ == SPLINE ? 6 : 2 * order_), first(outputs_), weight((outputs_ + 3) * taps), fraction(outputs_ + 3), plain(taps),
        sine(taps), cosine(taps), order(order_) {
    for (std::size_t k = 0; order != SPLINE && k < taps; ++k) {
      sine[k] = std::sin(PI * place(k) / order);
      cosine[k] = std::cos(PI * place(k) / order);
    }
  }

  // Positions start + i * step, in units of input pixels.
  void fill(double start, double step, std::int64_t inputs) {
    locate(start, step, outputs, first.data(), fraction.data());
    for (std::int64_t &input : first) input -= std::int64_t(taps / 2) - 1;
    if (order == SPLINE)
      splines(fraction.data(), outputs, weight.data());
    else
      weigh();
    for (std::size_t i = 0; i < outputs; ++i) {
      if (first[i] >= 0 && first[i] + std::int64_t(taps) <= inputs) continue;
      const double position = start + double(i) * step;
      T *w = weight.data() + i * taps;
      const bool inside = position >= -0.5 && position <= double(inputs) - 0.5;
      for (std::size_t k = 0; k < taps; ++k) {
        const std::int64_t input = first[i] + std::int64_t(k);
        if (!inside || input < 0 || input >= inputs) w[k] = 0.0;
      }
      if (order != SPLINE) normalise(w);
    }
  }

  void weigh() {
    double last = -1.0;
    for (std::size_t i = 0; i < outputs; ++i) {
      // Where the step is a whole number all positions have the same fraction.
      if (std::abs(fraction[i] - last) > 1e-13) {
        last = fraction[i];
        lanczos(last, plain.data());
        normalise(plain.data());
      }
      std::copy(plain.begin(), plain.end(), weight.data() + i * taps);
    }
  }

  template <typename Weight> void normalise(Weight *w) const {
    double sum = 0.0;
    for (std::size_t k = 0; k < taps; ++k) sum += double(w[k]);
    if (!(sum > 0.0)) return;
    for (std::size_t k = 0; k < taps; ++k) w[k] = Weight(double(w[k]) / sum);
  }

  // Inputs from the one before a position to that of a tap.
  int place(std::size_t k) const { return int(k) - order + 1; }

  void lanczos(double f, double *w) const {
    const double all = std::sin(PI * f), wide_sine = std::sin(PI * f / order), wide_cosine = std::cos(PI * f / order);
    for (std::size_t k = 0; k < taps; ++k) {
      const double t = f - double(place(k));
      w[k] = 0.0;
      if (std::abs(t) < 1e-9)
        w[k] = 1.0;
      else if (std::abs(t) < double(order)) // sin(pi (f - n)) = (-1)^n sin(pi f), and sin(pi (f - n) / order) likewise by the sum of angles
        w[k] = (place(k) % 2 ? -all : all) * (wide_sine * cosine[k] - wide_cosine * sine[k]) * order / (PI * PI * t * t);
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

// out[i] = sum_k factor[k] * in[k * pitch + i] for PARTS times as many places as there are lanes; the sums stay in registers.
template <std::size_t PARTS, typename T>
STREAMCHAR_INLINE void weighted_sums(const T *in, std::size_t pitch, const T *factor, std::size_t count, T *out) {
  using Wide = typename Lanes<T>::Wide;
  constexpr std::size_t WIDTH = sizeof(Wide) / sizeof(T);
  Wide total[PARTS], value;
  for (Wide &sum : total) sum = Wide{};
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t part = 0; part < PARTS; ++part) {
      std::memcpy(&value, in + k * pitch + WIDTH * part, sizeof value);
      total[part] += factor[k] * value;
    }
  // One by one, and not from the array, which would have to leave the registers for that.
  for (std::size_t part = 0; part < PARTS; ++part) {
    value = total[part];
    std::memcpy(out + WIDTH * part, &value, sizeof value);
  }
}

// out (outputs x width) = taps applied to the rows of in (inputs x width).
template <typename T>
STREAMCHAR_MULTIVERSION void interpolate_rows(const Taps<T> &taps, const T *in, std::size_t inputs, std::size_t width, T *out) {
  constexpr std::size_t WIDTH = sizeof(typename Lanes<T>::Wide) / sizeof(T);
  for (std::size_t row = 0; row < taps.outputs; ++row, out += width) {
    const T *w = taps.weight.data() + row * taps.taps;
    std::size_t begin = taps.begin(row), end = taps.end(row, std::int64_t(inputs));
    // Whatever a tap of no weight would read, NaN too, does not count.
    while (begin < end && w[begin] == T(0)) ++begin;
    while (begin < end && w[end - 1] == T(0)) --end;
    const std::size_t count = end > begin ? end - begin : 0;
    const T *first = in + (count ? std::size_t(taps.first[row] + std::int64_t(begin)) * width : 0);
    w += begin;
    std::size_t i = 0;
    for (; i + 4 * WIDTH <= width; i += 4 * WIDTH) weighted_sums<4>(first + i, width, w, count, out + i);
    for (; i + 2 * WIDTH <= width; i += 2 * WIDTH) weighted_sums<2>(first + i, width, w, count, out + i);
    for (; i + WIDTH <= width; i += WIDTH) weighted_sums<1>(first + i, width, w, count, out + i);
    for (; i < width; ++i) {
      T total = 0;
      for (std::size_t k = 0; k < count; ++k) total += w[k] * first[k * width + i];
      out[i] = total;
    }
  }
}

// In tiles that fit the cache lines of both sides; a pitch is the distance of one row from the next.
template <typename In, typename Out>
STREAMCHAR_MULTIVERSION void transpose(const In *in, std::size_t pitch, std::size_t rows, std::size_t columns, Out *out, std::size_t out_pitch) {
  constexpr std::size_t TILE = 4;
  typedef In Part __attribute__((vector_size(TILE * sizeof(In))));
  typedef Out Turned __attribute__((vector_size(TILE * sizeof(Out))));
  std::size_t j = 0;
  for (; j + TILE <= rows; j += TILE) {
    std::size_t i = 0;
    for (; i + TILE <= columns; i += TILE) {
      const In *from = in + j * pitch + i;
      Part a, b, c, d;
      std::memcpy(&a, from, sizeof a);
      std::memcpy(&b, from + pitch, sizeof b);
      std::memcpy(&c, from + 2 * pitch, sizeof c);
      std::memcpy(&d, from + 3 * pitch, sizeof d);
      const Part ac_low = __builtin_shufflevector(a, c, 0, 4, 2, 6), ac_high = __builtin_shufflevector(a, c, 1, 5, 3, 7);
      const Part bd_low = __builtin_shufflevector(b, d, 0, 4, 2, 6), bd_high = __builtin_shufflevector(b, d, 1, 5, 3, 7);
      const Part column[TILE] = {__builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5), __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5),
                                 __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7), __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7)};
      for (std::size_t k = 0; k < TILE; ++k) {
        const Turned turned = __builtin_convertvector(column[k], Turned);
        std::memcpy(out + (i + k) * out_pitch + j, &turned, sizeof turned);
      }
    }
    for (; i < columns; ++i)
      for (std::size_t k = 0; k < TILE; ++k) out[i * out_pitch + j + k] = Out(in[(j + k) * pitch + i]);
  }
  for (; j < rows; ++j)
    for (std::size_t i = 0; i < columns; ++i) out[i * out_pitch + j] = Out(in[j * pitch + i]);
}

} // namespace
} // namespace streamchar
