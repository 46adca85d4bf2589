// Four doubles at a time: explicit vectors, because sums must not depend on the compiler reordering them.
#pragma once
#include <cstdint>
#include <cstring>

namespace streamchar {

typedef double Four __attribute__((vector_size(32)));
typedef long long FourMasks __attribute__((vector_size(32)));
typedef unsigned long long FourBits __attribute__((vector_size(32)));

// As many values as fit into 32 bytes.
template <typename T> struct Lanes;
template <> struct Lanes<double> {
  typedef Four Wide;
};
template <> struct Lanes<float> {
  typedef float Wide __attribute__((vector_size(32)));
};

#define STREAMCHAR_INLINE inline __attribute__((always_inline))

// Results are returned by reference: passing wide vectors by value has no fixed calling convention.

// Floats one by one, for the compiler to make one instruction of: it converts a vector of floats in halves.
STREAMCHAR_INLINE void load(const float *p, Four &out) { out = Four{double(p[0]), double(p[1]), double(p[2]), double(p[3])}; }

STREAMCHAR_INLINE void load(const double *p, Four &out) { std::memcpy(&out, p, sizeof out); }

STREAMCHAR_INLINE void broadcast(double value, Four &out) { out = Four{value, value, value, value}; }

// Set to zero (also NaN) where the mask is zero.
STREAMCHAR_INLINE void keep(const FourMasks &mask, Four &values) { values = Four(FourMasks(values) & mask); }

STREAMCHAR_INLINE double sum(const Four &v) { return (v[0] + v[1]) + (v[2] + v[3]); }

// exp(x) for -700 < x <= 0 (and small positive x) to 3e-13: x = n ln 2 + r, a Taylor polynomial in r, n into the exponent.
STREAMCHAR_INLINE void exponential(const Four &x, Four &out) {
  const double magic = 6755399441055744.0; // 1.5 * 2^52: adding it rounds to an integer held in the low bits
  const Four shifted = x * 1.4426950408889634 + magic;
  const Four n = shifted - magic;
  const Four r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  Four p = r * (1.0 / 3628800.0) + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  out = Four(FourBits(p) + (FourBits(shifted) << 52));
}

} // namespace streamchar
