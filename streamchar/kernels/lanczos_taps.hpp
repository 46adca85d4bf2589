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
constexpr int MAX_ORDER = 16;
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

// sin(pi x) and cos(pi x) for 0 <= x <= 1, by Taylor's series on 0 to 1/2.
STREAMCHAR_INLINE void half_turn(const Four &x, Four &sine, Four &cosine) {
  const Four y = x > 0.5 ? 1.0 - x : x, z = -(PI * PI) * y * y;
  Four odd = {}, even = {};
  for (int k = 20; k >= 0; k -= 2) {
    odd = 1.0 + z * odd * (1.0 / double((k + 2) * (k + 3)));
    even = 1.0 + z * even * (1.0 / double((k + 1) * (k + 2)));
  }
  sine = PI * y * odd;
  cosine = x > 0.5 ? -even : even;
}

// Inputs from the one before a position to that of a tap.
inline int lanczos_place(std::size_t k, int order) { return int(k) - order + 1; }

// Weights (n x 2 order), of unit sum, of Lanczos interpolation at fractions of an input, given sine and cosine of pi / order times the place
// of each tap. Arrays by position have room for whole lanes.
template <typename T>
STREAMCHAR_MULTIVERSION void lanczos(const double *fraction, std::size_t n, int order, const double *sine, const double *cosine, T *weight) {
  const std::size_t taps = std::size_t(2 * order);
  for (std::size_t i = 0; i < n; i += 4) {
    Four f, all, wide_sine, unused, wide_cosine, w[2 * MAX_ORDER], sum = {};
    load(fraction + i, f);
    half_turn(f, all, unused);
    half_turn(f / double(order), wide_sine, wide_cosine);
    all *= order / (PI * PI);
    for (std::size_t k = 0; k < taps; ++k) {
      const int place = lanczos_place(k, order);
      const Four t = f - double(place), square = t * t;
      // sin(pi (f - n)) = (-1)^n sin(pi f), and sin(pi (f - n) / order) likewise by the sum of angles
      w[k] = (place % 2 ? -all : all) * (wide_sine * cosine[k] - wide_cosine * sine[k]) / square;
      w[k] = square < double(order * order) ? w[k] : Four{};
      w[k] = square < 1e-18 ? Four{} + 1.0 : w[k];
      sum += w[k];
    }
    const Four unit = 1.0 / sum;
    for (std::size_t k = 0; k < taps; ++k) {
      w[k] *= unit;
      for (std::size_t lane = 0; lane < 4; ++lane) weight[taps * (i + lane) + k] = T(w[k][lane]);
    }
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
  std::vector<double> sine, cosine; // of pi / order times the place of each tap

  int order;

  Taps(std::size_t outputs_, int order_)
      : outputs(outputs_), taps(order_ == SPLINE ? 6 : 2 * order_), first(outputs_), weight((outputs_ + 3) * taps), fraction(outputs_ + 3), sine(taps),
        cosine(taps), order(order_) {
    for (std::size_t k = 0; order != SPLINE && k < taps; ++k) {
      sine[k] = std::sin(PI * lanczos_place(k, order) / order);
      cosine[k] = std::cos(PI * lanczos_place(k, order) / order);
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
    // Where the step is a whole number all positions have the same fraction.
    const auto differs = [&](double other) { return std::abs(other - fraction[0]) > 1e-13; };
    const std::size_t distinct = std::any_of(fraction.begin(), fraction.begin() + std::ptrdiff_t(outputs), differs) ? outputs : 1;
    lanczos(fraction.data(), distinct, order, sine.data(), cosine.data(), weight.data());
    for (std::size_t i = distinct; i < outputs; ++i) std::copy_n(weight.begin(), taps, weight.begin() + std::ptrdiff_t(i * taps));
  }

  void normalise(T *w) const {
    double sum = 0.0;
    for (std::size_t k = 0; k < taps; ++k) sum += double(w[k]);
    if (!(sum > 0.0)) return;
    for (std::size_t k = 0; k < taps; ++k) w[k] = T(double(w[k]) / sum);
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
