// Sums of pixels under an elliptical Gaussian weight: what adaptive moments and Gaussian fluxes share.
#pragma once
#include "lanes.hpp"
#include <algorithm>
#include <cmath>

namespace streamchar {

// The inverse of a symmetric 2x2 covariance.
struct Inverse {
  double xx, xy, yy;
  static Inverse of(double xx, double xy, double yy) {
    const double det = xx * yy - xy * xy;
    return {yy / det, -xy / det, xx / det};
  }
};

// Columns (relative to the centre) at distance dy where the quadratic form stays within the limit; false when none does.
STREAMCHAR_INLINE bool chord(const Inverse &w, double limit, double dy, double &low, double &high) {
  const double discriminant = w.xy * w.xy * dy * dy - w.xx * (w.yy * dy * dy - limit);
  if (!(discriminant >= 0)) return false;
  const double root = std::sqrt(discriminant);
  low = (-w.xy * dy - root) / w.xx;
  high = (-w.xy * dy + root) / w.xx;
  return true;
}

// Partial sums, lane by lane.
struct RowSums {
  Four f, x, xx;
};

// What every row of one weight shares. With q the weight's ratio from one pixel to the next at the first pixel of a row, and
// p = exp(-xx / 2), the weight j pixels on is that of the first times q^j p^(j j).
struct Weight {
  Inverse w;
  Four pairs;        // p^(j j) for the first four pixels
  Four ratios;       // ratio of weights four pixels apart at the first four pixels, over q^4
  double ratio_step; // of these ratios four pixels on
  explicit Weight(const Inverse &inverse) : w(inverse) {
    const double p = std::exp(-0.5 * inverse.xx), square = p * p, fourth = square * square, eighth = fourth * fourth, sixteenth = eighth * eighth;
    pairs = Four{1.0, p, fourth, eighth * p};
    ratios = Four{sixteenth, sixteenth * eighth, sixteenth * sixteenth, sixteenth * sixteenth * eighth};
    ratio_step = sixteenth * sixteenth;
  }
};

// Four rows at a time: where they start, and the weight and its ratio to the next pixel there.
template <typename T> struct RowBlockOf {
  static constexpr int SIZE = 4;
  const T *pixels[SIZE];
  std::ptrdiff_t n[SIZE];
  Four dx{0, 0, 0, 0}, dy{0, 0, 0, 0}, weight{0, 0, 0, 0}, q{0, 0, 0, 0};
  int count = 0;

  STREAMCHAR_INLINE void add(const T *first, std::ptrdiff_t length, double x, double y) {
    pixels[count] = first;
    n[count] = length;
    dx[count] = x;
    dy[count] = y;
    ++count;
  }
  STREAMCHAR_INLINE void start(const Inverse &w) {
    exponential(((dx * w.xx + dy * (2.0 * w.xy)) * dx + dy * dy * w.yy) * -0.5, weight);
    exponential(-(dx * w.xx + dy * w.xy), q);
  }
};

using RowBlock = RowBlockOf<float>;

// Sums of w I, w I dx and w I dx^2 over the pixels of row k of a started block. Three readable pixels must follow the last.
// All pixels lie where the weight exceeds 1e-7, hence no factor over- or underflows in a row of more than one pixel; what lies
// beyond the last one may, and is left out.
template <bool Moments, typename T> STREAMCHAR_INLINE void weighted_row(const RowBlockOf<T> &block, int k, const Weight &form, RowSums &out) {
  const T *pixels = block.pixels[k];
  const std::ptrdiff_t n = block.n[k];
  const double q = block.q[k], square = q * q, dx = block.dx[k];
  Four x{dx, dx + 1, dx + 2, dx + 3}, f{0, 0, 0, 0}, fx = f, fxx = f;
  Four weight = Four{1.0, q, square, square * q} * form.pairs * block.weight[k], ratio = form.ratios * (square * square);
  for (std::ptrdiff_t i = 0; i < n; i += 4) {
    Four weighted;
    load(pixels + i, weighted);
    weighted *= weight;
    if (i + 4 > n) keep(FourMasks(FourMasks{0, 1, 2, 3} < (long long)(n - i)), weighted);
    f += weighted;
    if (Moments) {
      weighted *= x;
      fx += weighted;
      weighted *= x;
      fxx += weighted;
      x += 4.0;
    }
    weight *= ratio;
    ratio *= form.ratio_step;
  }
  out = {f, fx, fxx};
}

// Sums of w I, w I dx, w I dy and their second moments, lane by lane.
struct Totals {
  Four f{0, 0, 0, 0}, x = f, y = f, xx = f, xy = f, yy = f;
};

// Add a block's rows, and begin the next block.
template <typename T> STREAMCHAR_INLINE void add_block(RowBlockOf<T> &block, const Weight &weight, Totals &totals) {
  block.start(weight.w);
  for (int k = 0; k < block.count; ++k) {
    RowSums r;
    weighted_row<true>(block, k, weight, r);
    const double dy = block.dy[k];
    totals.f += r.f;
    totals.x += r.x;
    totals.xx += r.xx;
    totals.xy += r.x * dy;
    const Four moment = r.f * dy;
    totals.y += moment;
    totals.yy += moment * dy;
  }
  block.count = 0;
}

} // namespace streamchar
