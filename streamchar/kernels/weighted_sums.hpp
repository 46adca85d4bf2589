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

struct RowSums {
  double f, x, xx;
};

// Sums of w I, w I dx and w I dx^2 over n pixels, the first at dx from the centre. Three readable pixels must follow the last.
template <bool Moments>
STREAMCHAR_INLINE RowSums weighted_row(const float *pixels, std::ptrdiff_t n, double dx, double dy, const Inverse &w) {
  Four x{dx, dx + 1, dx + 2, dx + 3}, f{0, 0, 0, 0}, fx{0, 0, 0, 0}, fxx{0, 0, 0, 0};
  const double linear = 2.0 * w.xy * dy, constant = w.yy * dy * dy;
  const FourMasks lane{0, 1, 2, 3};
  for (std::ptrdiff_t i = 0; i < n; i += 4) {
    Four value, weight;
    load(pixels + i, value);
    exponential(((x * w.xx + linear) * x + constant) * -0.5, weight);
    Four weighted = weight * value;
    if (i + 4 > n) keep(FourMasks(lane < (long long)(n - i)), weighted);
    f += weighted;
    if (Moments) {
      weighted *= x;
      fx += weighted;
      weighted *= x;
      fxx += weighted;
    }
    x += 4.0;
  }
  return {sum(f), sum(fx), sum(fxx)};
}

} // namespace streamchar
