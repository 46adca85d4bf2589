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

// What every row of one weight shares.
struct Weight {
  Inverse w;
  double ratio_step; // second ratio of weights four pixels apart
  explicit Weight(const Inverse &inverse) : w(inverse), ratio_step(std::exp(-16.0 * inverse.xx)) {}
};

// Sums of w I, w I dx and w I dx^2 over n pixels, the first at dx from the centre. Three readable pixels must follow the last.
// Along a row the weights four pixels apart have a ratio that is itself a geometric sequence: two exponentials are enough.
// All pixels lie where the weight exceeds 1e-7, hence no factor over- or underflows in a row of more than four pixels.
template <bool Moments>
STREAMCHAR_INLINE void weighted_row(const float *pixels, std::ptrdiff_t n, double dx, double dy, const Weight &form, RowSums &out) {
  const Inverse &w = form.w;
  const double linear = 2.0 * w.xy * dy, constant = w.yy * dy * dy;
  Four x{dx, dx + 1, dx + 2, dx + 3}, f{0, 0, 0, 0}, fx = f, fxx = f, weight, ratio = f;
  exponential(((x * w.xx + linear) * x + constant) * -0.5, weight);
  if (n > 4) exponential((x + 2.0) * (-4.0 * w.xx) - 2.0 * linear, ratio);
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

} // namespace streamchar
