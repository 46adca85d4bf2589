// Quartiles and clipped moments of pixels, for every bin of a grid, for one long array or for segments of it, without sorting.
#include "arrays.hpp"
#include "fetch.hpp"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <nanobind/stl/optional.h>
#include <optional>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::size_t BLOCK = 16, CHUNK = 8192, RANKS = 6, COLUMNS = 7;

// Pixels asked for before they are needed: the processor alone foresees too few while it computes.
constexpr std::size_t AHEAD = 1024;

// Values up to which copying them costs less than a fine histogram and another look at the mask save.
constexpr std::size_t GATHERED_UP_TO = 1 << 16;

// Four or eight lanes. Sums in several lanes are what the compiler may not make of a plain loop by itself.
constexpr std::size_t WIDE = 8, NARROW = 4;
typedef float Floats __attribute__((vector_size(WIDE * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(WIDE * sizeof(std::int32_t))));
typedef float HalfFloats __attribute__((vector_size(NARROW * sizeof(float))));
typedef double Doubles __attribute__((vector_size(NARROW * sizeof(double))));
typedef std::int64_t Longs __attribute__((vector_size(NARROW * sizeof(std::int64_t))));
constexpr double IQR_TO_SIGMA = 0.741301109252802;
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();

bool finite(float value) {
  std::uint32_t raw;
  std::memcpy(&raw, &value, sizeof raw);
  return (raw & 0x7f800000u) != 0x7f800000u;
}

// How many of n pixels are unusable: not finite, or with one of the bits in a mask that may be absent.
STREAMCHAR_MULTIVERSION
std::size_t count_unusable(const float *values, const std::int32_t *mask, std::int32_t bits, std::size_t n) {
  std::uint32_t bad = 0;
  if (mask)
    for (std::size_t i = 0; i < n; ++i) bad += std::uint32_t(!finite(values[i])) | std::uint32_t((mask[i] & bits) != 0);
  else
    for (std::size_t i = 0; i < n; ++i) bad += !finite(values[i]);
  return bad;
}

// Copy the pixels with NaN in place of the unusable ones, so that all later loops are free of branches and masks.
// Returns how many are usable.
STREAMCHAR_MULTIVERSION
std::size_t copy_usable(const float *values, const std::int32_t *mask, std::int32_t bits, std::size_t n, float *out) {
  constexpr std::int32_t EXPONENT = 0x7f800000, NAN_BITS = 0x7fc00000;
  Ints total = {};
  std::size_t i = 0;
  for (; i + WIDE <= n; i += WIDE) {
    Ints raw, planes = {};
    std::memcpy(&raw, values + i, sizeof raw);
    if (mask) std::memcpy(&planes, mask + i, sizeof planes);
    const Ints bad = ((raw & EXPONENT) == EXPONENT) | ((planes & bits) != 0);
    const Ints cleaned = bad ? Ints{} + NAN_BITS : raw;
    std::memcpy(out + i, &cleaned, sizeof cleaned);
    total += bad;
  }
  std::size_t kept = i;
  for (std::size_t j = 0; j < WIDE; ++j) kept -= std::size_t(-std::int64_t(total[j]));
  for (; i < n; ++i) {
    const bool good = finite(values[i]) && !(mask && (mask[i] & bits));
    out[i] = good ? values[i] : std::numeric_limits<float>::quiet_NaN();
    kept += good;
  }
  return kept;
}

// Buckets of equal width; a non-decreasing function of the value, so buckets are in the order of the values.
// NaN falls in one more bucket behind the last.
struct Buckets {
  float low, scale, top;

  inline std::int32_t of(float value) const {
    float t = (value - low) * scale;
    t = t > 0.0f ? t : 0.0f; // also where 0 * infinity made a NaN
    t = t < top ? t : top;
    return std::int32_t(value == value ? t : top + 1.0f);
  }
};

// Pixels from `next` on are fetched meanwhile, as many.
STREAMCHAR_MULTIVERSION
void add_to_histogram(const float *values, std::size_t n, Buckets buckets, std::uint32_t *counts, const float *next = nullptr) {
  // Two histograms in turn: equal neighbours would otherwise wait for each other's store.
  const std::size_t size = std::size_t(buckets.top) + 2;
  std::int32_t index[256];
  for (std::size_t start = 0; start < n; start += 256) {
    const std::size_t m = std::min<std::size_t>(256, n - start);
    const float *v = values + start;
    if (next) fetch(next + start, m);
    for (std::size_t j = 0; j < m; ++j) index[j] = buckets.of(v[j]);
    std::size_t j = 0;
    for (; j + 2 <= m; j += 2) {
      ++counts[index[j]];
      ++counts[size + std::size_t(index[j + 1])];
    }
    if (j < m) ++counts[index[j]];
  }
}

// The wanted buckets, and the values found in them.
struct Wanted {
  std::int32_t bucket[RANKS];
  std::vector<float> values[RANKS];
  std::size_t count = 0;
};

inline void keep_wanted(float value, Buckets buckets, Wanted &wanted) {
  const std::int32_t b = buckets.of(value);
  for (std::size_t k = 0; k < wanted.count; ++k)
    if (b == wanted.bucket[k]) return wanted.values[k].push_back(value);
}

inline __attribute__((always_inline)) bool any(const Ints &hits) {
  Longs halves;
  std::memcpy(&halves, &hits, sizeof halves);
  return (halves[0] | halves[1] | halves[2] | halves[3]) != 0;
}

STREAMCHAR_MULTIVERSION
void collect(const float *values, std::size_t n, Buckets buckets, Wanted &wanted) {
  // Unused slots repeat the first bucket, so that the test below has a fixed length.
  Ints target[RANKS];
  for (std::size_t k = 0; k < RANKS; ++k) target[k] = Ints{} + wanted.bucket[k < wanted.count ? k : 0];
  const Floats low = Floats{} + buckets.low, scale = Floats{} + buckets.scale, top = Floats{} + buckets.top, behind = top + 1.0f, zero = {};
  std::size_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    __builtin_prefetch(values + i + AHEAD);
    Ints hits = {};
    for (std::size_t j = i; j < i + BLOCK; j += WIDE) {
      Floats v;
      std::memcpy(&v, values + j, sizeof v);
      Floats t = (v - low) * scale;
      t = t > zero ? t : zero;
      t = t < top ? t : top;
      t = v == v ? t : behind;
      const Ints b = __builtin_convertvector(t, Ints);
      hits |= (b == target[0]) | (b == target[1]) | (b == target[2]) | (b == target[3]) | (b == target[4]) | (b == target[5]);
    }
    if (!any(hits)) continue;
    for (std::size_t j = i; j < i + BLOCK; ++j) keep_wanted(values[j], buckets, wanted);
  }
  for (; i < n; ++i) keep_wanted(values[i], buckets, wanted);
}

struct Sums {
  double count = 0, first = 0, second = 0;
};

// Number, sum and sum of squares of value - centre over the values within half of the centre; NaN is not.
STREAMCHAR_MULTIVERSION
void add_clipped(const float *values, std::size_t n, double centre, double half, Sums &sums) {
  constexpr std::size_t UNROLL = 2;
  Longs count[UNROLL] = {};
  Doubles first[UNROLL] = {}, second[UNROLL] = {};
  const Doubles middle = Doubles{} + centre, high = Doubles{} + half, low = -high;
  std::size_t i = 0;
  for (; i + UNROLL * NARROW <= n; i += UNROLL * NARROW)
    for (std::size_t u = 0; u < UNROLL; ++u) {
      HalfFloats v;
      std::memcpy(&v, values + i + u * NARROW, sizeof v);
      const Doubles d = __builtin_convertvector(v, Doubles) - middle;
      const Longs keep = (d <= high) & (d >= low);
      const Doubles kept = keep ? d : Doubles{};
      count[u] -= keep;
      first[u] += kept;
      second[u] += kept * kept;
    }
  for (std::size_t u = 0; u < UNROLL; ++u)
    for (std::size_t j = 0; j < NARROW; ++j) {
      sums.count += double(count[u][j]);
      sums.first += first[u][j];
      sums.second += second[u][j];
    }
  for (; i < n; ++i) {
    const double d = double(values[i]) - centre;
    if (!(std::fabs(d) <= half)) continue;
    sums.count += 1.0;
    sums.first += d;
    sums.second += d * d;
  }
}

// A source of pixels with NaN for the unusable ones: hands them out in pieces, and says which are usable.

struct Gathered { // already in one buffer
  const float *values;
  std::size_t total;
  static constexpr std::size_t buckets = 1024, sample = 64, selected_below = 64;

  template <typename F> void each(F f) const { f(values, total); }
  bool usable(std::size_t i) const { return finite(values[i]); }
};

struct InPlace { // cleaned piece by piece, where needed
  const float *values;
  const std::int32_t *mask;
  std::int32_t bits;
  std::size_t total;
  const std::vector<bool> &clean; // by piece
  float *buffer;                  // CHUNK
  static constexpr std::size_t buckets = 4096, sample = 4096, selected_below = 4096;

  template <typename F> void each_piece(F f) const {
    for (std::size_t start = 0; start < total; start += CHUNK) f(values + start, mask ? mask + start : nullptr, std::min(CHUNK, total - start));
  }
  template <typename F> void each(F f) const {
    std::size_t piece = 0;
    each_piece([&](const float *v, const std::int32_t *flags, std::size_t m) {
      const bool as_is = clean[piece++];
      if (!as_is) copy_usable(v, flags, bits, m, buffer);
      f(as_is ? v : buffer, m);
    });
  }
  bool usable(std::size_t i) const { return finite(values[i]) && !(mask && (mask[i] & bits)); }
};

struct Workspace {
  std::vector<float> sample;
  std::vector<std::uint32_t> counts;
  Wanted wanted;
};

struct Quartiles {
  double lower = NOT_A_NUMBER, median = NOT_A_NUMBER, upper = NOT_A_NUMBER;
};

// Where the bulk of the values lies: five interquartile ranges of a sample.
template <typename Source> Buckets choose_buckets(const Source &source, Workspace &work) {
  std::vector<float> &sample = work.sample;
  sample.clear();
  const std::size_t stride = (source.total / Source::sample) | 1; // odd, so that it walks over the columns
  for (std::size_t i = stride / 2; i < source.total; i += stride)
    if (source.usable(i)) sample.push_back(source.values[i]);
  if (sample.empty()) return {0.0f, 1.0f, float(Source::buckets - 1)};
  const std::size_t last = sample.size() - 1;
  const auto lower = sample.begin() + std::ptrdiff_t(last / 4), upper = sample.begin() + std::ptrdiff_t(last - last / 4);
  std::nth_element(sample.begin(), lower, sample.end());
  const float q1 = *lower;
  std::nth_element(lower, upper, sample.end());
  const float q3 = *upper;
  const float low = q1 - 2.0f * (q3 - q1), width = 5.0f * (q3 - q1);
  if (!(width > 0.0f)) {
    const auto [least, greatest] = std::minmax_element(sample.begin(), sample.end());
    return {*least, float(Source::buckets) / (*greatest - *least), float(Source::buckets - 1)};
  }
  return {low, float(Source::buckets) / width, float(Source::buckets - 1)};
}

constexpr double FRACTIONS[3] = {0.25, 0.5, 0.75};

// Interpolate between the values at the six ranks.
Quartiles interpolate(std::size_t n, const double *at) {
  double result[3];
  for (std::size_t q = 0; q < 3; ++q) {
    const double position = FRACTIONS[q] * double(n - 1), weight = position - std::floor(position);
    result[q] = (1.0 - weight) * at[2 * q] + weight * at[2 * q + 1];
  }
  return {result[0], result[1], result[2]};
}

// Places of the six values among those collected: which bucket's, and the rank in it.
struct Ranks {
  std::size_t rank[RANKS], slot[RANKS];

  explicit Ranks(std::size_t n) {
    for (std::size_t q = 0; q < 3; ++q) {
      rank[2 * q] = std::size_t(FRACTIONS[q] * double(n - 1));
      rank[2 * q + 1] = std::min(rank[2 * q] + 1, n - 1);
    }
  }
  // Find the buckets that hold them, from how many values each has.
  void find(const std::vector<std::uint32_t> &counts, std::size_t buckets, Wanted &wanted) {
    wanted.count = 0;
    std::size_t before = 0, r = 0; // the ranks ascend because n is not tiny
    for (std::size_t b = 0; b < buckets && r < RANKS; ++b) {
      const std::size_t here = std::size_t(counts[b]) + counts[buckets + 1 + b];
      if (rank[r] < before + here) {
        wanted.bucket[wanted.count] = std::int32_t(b);
        wanted.values[wanted.count++].clear();
      }
      for (; r < RANKS && rank[r] < before + here; ++r) {
        slot[r] = wanted.count - 1;
        rank[r] -= before;
      }
      before += here;
    }
  }
  Quartiles pick(std::size_t n, Wanted &wanted) const {
    double at[RANKS];
    for (std::size_t r = 0; r < RANKS; ++r) {
      std::vector<float> &found = wanted.values[slot[r]];
      const auto here = found.begin() + std::ptrdiff_t(rank[r]);
      if (r % 2 == 1 && slot[r] == slot[r - 1] && rank[r] > rank[r - 1])
        at[r] = *std::min_element(here, found.end()); // the previous selection left the larger ones behind it
      else {
        std::nth_element(found.begin(), here, found.end());
        at[r] = *here;
      }
    }
    return interpolate(n, at);
  }
};

template <typename Source> Quartiles selected_quartiles(const Source &source, std::size_t n, Workspace &work) {
  std::vector<float> &all = work.sample;
  all.clear();
  source.each([&](const float *v, std::size_t m) { std::copy_if(v, v + m, std::back_inserter(all), finite); });
  const Ranks ranks(n);
  double at[RANKS];
  auto rest = all.begin(); // no value before it is greater than one behind
  for (std::size_t r = 0; r < RANKS; r += 2) {
    const auto here = all.begin() + std::ptrdiff_t(ranks.rank[r]);
    std::nth_element(rest, here, all.end());
    rest = here;
    at[r] = *here;
    at[r + 1] = ranks.rank[r + 1] > ranks.rank[r] ? *std::min_element(here + 1, all.end()) : *here;
  }
  return interpolate(n, at);
}

template <typename Source> Quartiles find_quartiles(const Source &source, std::size_t n, Workspace &work) {
  if (n == 0) return {};
  if (n < Source::selected_below) return selected_quartiles(source, n, work);
  const Buckets buckets = choose_buckets(source, work);
  work.counts.assign(2 * (Source::buckets + 1), 0);
  std::uint32_t *counts = work.counts.data();
  source.each([&](const float *v, std::size_t m) { add_to_histogram(v, m, buckets, counts); });
  Ranks ranks(n);
  ranks.find(work.counts, Source::buckets, work.wanted);
  source.each([&](const float *v, std::size_t m) { collect(v, m, buckets, work.wanted); });
  return ranks.pick(n, work.wanted);
}

struct Settings {
  bool quartiles;
  int rounds;
  double sigmas;
};

struct Moments {
  double mean = NOT_A_NUMBER, variance = NOT_A_NUMBER, count = 0;
};

Moments of_sums(const Sums &sums, double centre) {
  const double n = sums.count, mean = sums.first / n;
  return {centre + mean, (sums.second / n - mean * mean) * (n / (n - 1.0)), n};
}

template <typename Source> Moments find_moments(const Source &source, double centre, double half) {
  Sums sums;
  source.each([&](const float *v, std::size_t m) { add_clipped(v, m, centre, half, sums); });
  return of_sums(sums, centre);
}

void write(std::size_t n, const Quartiles &quartiles, const Moments &moments, double *out) {
  const double row[COLUMNS] = {double(n), quartiles.lower, quartiles.median, quartiles.upper, moments.mean, moments.variance, moments.count};
  std::copy(row, row + COLUMNS, out);
}

// All rounds of clipping; moments_of(centre, half) are those of one.
template <typename F> Moments clip(std::size_t n, const Quartiles &quartiles, const Settings &settings, F moments_of) {
  Moments moments;
  double centre = quartiles.median, half = settings.sigmas * IQR_TO_SIGMA * (quartiles.upper - quartiles.lower);
  for (int round = 0; round < settings.rounds; ++round) {
    if (round > 0) {
      centre = moments.mean;
      if (n > 1) half = settings.sigmas * std::sqrt(moments.variance < 0.0 ? 0.0 : moments.variance);
    }
    moments = moments_of(centre, half);
  }
  return moments;
}

template <typename Source> void describe(const Source &source, std::size_t n, const Settings &settings, Workspace &work, double *out) {
  Quartiles quartiles;
  Moments moments;
  if (settings.quartiles || settings.rounds > 0) quartiles = find_quartiles(source, n, work);
  if (n > 0 && settings.rounds == 0) {
    const double all = std::numeric_limits<double>::infinity();
    moments = find_moments(source, find_moments(source, 0.0, all).mean, all);
  }
  if (n > 0 && settings.rounds > 0)
    moments = clip(n, quartiles, settings, [&](double centre, double half) { return find_moments(source, centre, half); });
  write(n, quartiles, moments, out);
}

// What the histogram of many values tells before they are read again: between which buckets every round will keep all of
// them, and between which ones it may keep some.
struct Forecast {
  static constexpr std::int32_t MARGIN = 2;       // buckets: one by which a limit may be off, one between it and what is not asked
  static constexpr double MOST_DOUBTFUL = 1 / 32.0; // of the values: asking more of them one by one takes longer than another pass
  std::int32_t outer_low, inner_low, inner_high, outer_high;
  float centre;
  bool any = false;

  Forecast(const std::vector<std::uint32_t> &counts, std::size_t n, Buckets buckets, const Settings &settings) {
    const std::size_t size = std::size_t(buckets.top) + 1;
    const auto count = [&](std::size_t b) { return double(counts[b]) + double(counts[size + 1 + b]); };
    const auto within = [&](double place) { return place > 0.0 ? std::min(place, double(size - 1)) : 0.0; };
    double at[3] = {}, before = 0.0;
    std::size_t q = 0;
    for (std::size_t b = 0; b < size && q < 3; ++b) {
      for (; q < 3 && FRACTIONS[q] * double(n) < before + count(b); ++q) at[q] = double(b) + (FRACTIONS[q] * double(n) - before) / count(b);
      before += count(b);
    }
    // All places in units of buckets.
    const Quartiles places{at[0], at[1], at[2]};
    outer_low = inner_high = std::int32_t(size);
    inner_low = outer_high = 0;
    clip(n, places, settings, [&](double middle, double half) {
      const double low = within(middle - half), high = within(middle + half);
      const std::int32_t first = std::int32_t(low), last = std::int32_t(high);
      outer_low = std::min(outer_low, first - MARGIN);
      inner_low = std::max(inner_low, first + MARGIN + 1);
      inner_high = std::min(inner_high, last - MARGIN - 1);
      outer_high = std::max(outer_high, last + MARGIN);
      double kept = 0.0, sum = 0.0, square = 0.0;
      for (std::int32_t b = first; b <= last; ++b) {
        const double here = std::max(0.0, std::min(high, b + 1.0) - std::max(low, double(b))) * count(std::size_t(b)), place = b + 0.5 - middle;
        kept += here;
        sum += here * place;
        square += here * place * place;
      }
      const double mean = kept > 0.0 ? sum / kept : 0.0;
      return Moments{middle + mean, kept > 0.0 ? square / kept - mean * mean : 0.0, kept};
    });
    // The first and the last bucket hold all that lies beyond them.
    any = settings.rounds > 0 && outer_low > 0 && outer_high < std::int32_t(size) - 1 && inner_low < inner_high;
    if (!any) return;
    double doubtful = 0.0;
    for (std::int32_t b = outer_low; b <= outer_high; ++b)
      if (b < inner_low || b > inner_high) doubtful += count(std::size_t(b));
    any = doubtful < MOST_DOUBTFUL * double(n);
    centre = float(double(buckets.low) + at[1] / double(buckets.scale));
  }
  bool holds(Buckets buckets, double low, double high) const {
    const std::int32_t first = buckets.of(float(low)), last = buckets.of(float(high));
    return any && first > outer_low && first < inner_low - 1 && last > inner_high + 1 && last < outer_high;
  }
};

// Sums of what every round keeps, and the values of which each has to be asked.
struct Inner {
  Sums sums;
  std::vector<float> doubtful;
};

inline void keep_doubtful(float value, Buckets buckets, const Forecast &forecast, Inner &inner) {
  const std::int32_t b = buckets.of(value);
  if ((b >= forecast.outer_low && b < forecast.inner_low) || (b > forecast.inner_high && b <= forecast.outer_high)) inner.doubtful.push_back(value);
}

inline void add_inner(float value, Buckets buckets, const Forecast &forecast, Inner &inner) {
  const std::int32_t b = buckets.of(value);
  if (b < forecast.inner_low || b > forecast.inner_high) return;
  const double d = double(value) - double(forecast.centre);
  inner.sums.count += 1.0;
  inner.sums.first += d;
  inner.sums.second += d * d;
}

// The least value in a bucket or beyond.
float begin_of(std::int32_t bucket, Buckets buckets) {
  // Bisect the floats in their order; as integers those below zero come in reverse.
  const auto value = [](std::int64_t place) {
    const std::uint32_t raw = place < 0 ? 0x80000000u | std::uint32_t(-place) : std::uint32_t(place);
    float result;
    std::memcpy(&result, &raw, sizeof result);
    return result;
  };
  std::int64_t below = -0x7f800000LL, high = 0x7f800000LL; // the infinities
  while (high - below > 1) {
    const std::int64_t middle = (below + high) / 2;
    (buckets.of(value(middle)) < bucket ? below : high) = middle;
  }
  return value(high);
}

// The same in terms of values: first those of which each has to be asked, then those of the wanted buckets.
struct Bounds {
  float outer_low, inner_low, inner_high, outer_high, wanted[RANKS][2];

  Bounds(Buckets buckets, const Wanted &buckets_wanted, const Forecast &forecast)
      : outer_low(begin_of(forecast.outer_low, buckets)), inner_low(begin_of(forecast.inner_low, buckets)),
        inner_high(begin_of(forecast.inner_high + 1, buckets)), outer_high(begin_of(forecast.outer_high + 1, buckets)) {
    for (std::size_t k = 0; k < RANKS; ++k) {
      // Unused slots repeat the first bucket.
      const std::int32_t b = buckets_wanted.bucket[k < buckets_wanted.count ? k : 0];
      wanted[k][0] = begin_of(b, buckets);
      wanted[k][1] = begin_of(b + 1, buckets);
    }
  }
};

// Collect the values of the first SLOTS wanted buckets and sum what every round keeps, in one pass.
template <std::size_t SLOTS>
STREAMCHAR_MULTIVERSION void collect_and_add(const float *values, std::size_t n, Buckets buckets, const Bounds &bounds, Wanted &wanted,
                                             const Forecast &forecast, Inner &inner) {
  Ints count = {};
  Floats from[SLOTS], to[SLOTS];
  for (std::size_t k = 0; k < SLOTS; ++k) {
    from[k] = Floats{} + bounds.wanted[k][0];
    to[k] = Floats{} + bounds.wanted[k][1];
  }
  const Floats outer_low = Floats{} + bounds.outer_low, inner_low = Floats{} + bounds.inner_low, inner_high = Floats{} + bounds.inner_high,
               outer_high = Floats{} + bounds.outer_high, middle = Floats{} + forecast.centre;
  const Doubles centre = Doubles{} + double(forecast.centre);
  Doubles first = {}, second = {};
  std::size_t i = 0;
  for (; i + WIDE <= n; i += WIDE) {
    Floats v;
    std::memcpy(&v, values + i, sizeof v);
    __builtin_prefetch(values + i + AHEAD);
    const Ints above = v >= inner_low, beyond = v >= inner_high, within = above ^ beyond;
    Ints hits = ((v >= outer_low) ^ above) | (beyond ^ (v >= outer_high));
    for (std::size_t k = 0; k < SLOTS; ++k) hits |= (v >= from[k]) ^ (v >= to[k]);
    count -= within;
    const Floats kept = within ? v : middle; // what is not kept deviates by nothing
    const Doubles d = __builtin_convertvector(__builtin_shufflevector(kept, kept, 0, 1, 2, 3), Doubles) - centre;
    const Doubles e = __builtin_convertvector(__builtin_shufflevector(kept, kept, 4, 5, 6, 7), Doubles) - centre;
    first += d + e;
    second += d * d + e * e;
    if (!any(hits)) continue;
    std::int32_t hit[WIDE];
    std::memcpy(hit, &hits, sizeof hits);
    for (std::size_t j = 0; j < WIDE; ++j)
      if (hit[j]) {
        keep_wanted(values[i + j], buckets, wanted);
        keep_doubtful(values[i + j], buckets, forecast, inner);
      }
  }
  for (std::size_t j = 0; j < WIDE; ++j) inner.sums.count += double(count[j]);
  for (std::size_t j = 0; j < NARROW; ++j) {
    inner.sums.first += first[j];
    inner.sums.second += second[j];
  }
  for (; i < n; ++i) {
    keep_wanted(values[i], buckets, wanted);
    keep_doubtful(values[i], buckets, forecast, inner);
    add_inner(values[i], buckets, forecast, inner);
  }
}

// Quartiles and clipped moments of a long array in two passes instead of one for the histogram, one for the quartiles and
// one for each round; `counts` is its histogram.
void describe_counted(const InPlace &source, std::size_t n, Buckets buckets, const Settings &settings, Workspace &work, double *out) {
  Ranks ranks(n);
  ranks.find(work.counts, InPlace::buckets, work.wanted);
  const Forecast forecast(work.counts, n, buckets, settings);
  Inner inner;
  if (forecast.any) {
    const Bounds bounds(buckets, work.wanted, forecast);
    const auto pass = work.wanted.count <= 3 ? collect_and_add<3> : collect_and_add<RANKS>;
    source.each([&](const float *v, std::size_t m) { pass(v, m, buckets, bounds, work.wanted, forecast, inner); });
  } else
    source.each([&](const float *v, std::size_t m) { collect(v, m, buckets, work.wanted); });
  const Quartiles quartiles = ranks.pick(n, work.wanted);
  const Moments moments = clip(n, quartiles, settings, [&](double centre, double half) {
    if (!forecast.holds(buckets, centre - half, centre + half)) return find_moments(source, centre, half);
    Sums sums = inner.sums;
    for (const float value : inner.doubtful) {
      if (!(std::fabs(double(value) - centre) <= half)) continue;
      const double d = double(value) - double(forecast.centre);
      sums.count += 1.0;
      sums.first += d;
      sums.second += d * d;
    }
    return of_sums(sums, forecast.centre);
  });
  write(n, quartiles, moments, out);
}

void describe_short(const float *values, const std::int32_t *mask, std::int32_t bits, std::size_t total, const Settings &settings, double *out) {
  std::vector<float> pixels(total);
  Workspace work;
  const std::size_t n = copy_usable(values, mask, bits, total, pixels.data());
  describe(Gathered{pixels.data(), total}, n, settings, work, out);
}

void describe_long(const float *values, const std::int32_t *mask, std::int32_t bits, std::size_t total, const Settings &settings, double *out) {
  std::vector<float> buffer(CHUNK);
  Workspace work;
  std::vector<bool> clean;
  const InPlace source{values, mask, bits, total, clean, buffer.data()};
  const bool counted = settings.quartiles || settings.rounds > 0;
  const Buckets buckets = counted ? choose_buckets(source, work) : Buckets{};
  work.counts.assign(2 * (InPlace::buckets + 1), 0);
  std::size_t n = total;
  source.each_piece([&](const float *piece, const std::int32_t *flags, std::size_t m) {
    const std::size_t unusable = count_unusable(piece, flags, bits, m);
    clean.push_back(unusable == 0);
    n -= unusable;
    if (!counted) return;
    if (unusable) copy_usable(piece, flags, bits, m, buffer.data());
    add_to_histogram(unusable ? buffer.data() : piece, m, buckets, work.counts.data(), piece + m);
  });
  if (counted && n >= InPlace::selected_below)
    describe_counted(source, n, buckets, settings, work, out);
  else
    describe(source, n, settings, work, out);
}

using Edges = Vector<const std::int64_t>;

void check_edges(const Edges &edges, std::size_t length) {
  if (edges.shape(0) < 2) throw std::invalid_argument("at least two bin edges are needed");
  for (std::size_t i = 0; i < edges.shape(0); ++i)
    if (edges(i) < 0 || std::size_t(edges(i)) > length || (i > 0 && edges(i) < edges(i - 1)))
      throw std::invalid_argument("bin edges must ascend within the plane");
}

nb::ndarray<nb::numpy, double, nb::ndim<3>> bin_statistics(Plane<const float> image, Plane<const std::int32_t> mask, std::int32_t bits, Edges y_edges,
                                                           Edges x_edges, bool quartiles, int rounds, double sigmas) {
  if (mask.shape(0) != image.shape(0) || mask.shape(1) != image.shape(1)) throw std::invalid_argument("image and mask differ in shape");
  check_edges(y_edges, image.shape(0));
  check_edges(x_edges, image.shape(1));
  const std::size_t ny = y_edges.shape(0) - 1, nx = x_edges.shape(0) - 1, width = image.shape(1);
  auto out = unset<double>(ny * nx * COLUMNS);
  {
    nb::gil_scoped_release release;
    std::vector<float> pixels;
    Workspace work;
    for (std::size_t j = 0; j < ny; ++j)
      for (std::size_t i = 0; i < nx; ++i) {
        const auto x0 = std::size_t(x_edges(i)), m = std::size_t(x_edges(i + 1)) - x0;
        const auto y0 = std::size_t(y_edges(j)), y1 = std::size_t(y_edges(j + 1));
        const std::size_t next = i + 1 < nx ? std::size_t(x_edges(i + 2)) - x0 - m : 0;
        pixels.resize(std::max(pixels.size(), m * (y1 - y0)));
        std::size_t usable = 0;
        for (std::size_t y = y0; y < y1; ++y) {
          const std::size_t start = y * width + x0;
          usable += copy_usable(image.data() + start, mask.data() + start, bits, m, pixels.data() + (y - y0) * m);
          // A bin's rows are too short for the processor to foresee them.
          for (std::size_t ahead = start + m; ahead < start + m + next; ahead += 64 / sizeof(float)) {
            __builtin_prefetch(image.data() + ahead);
            __builtin_prefetch(mask.data() + ahead);
          }
        }
        describe(Gathered{pixels.data(), m * (y1 - y0)}, usable, {quartiles, rounds, sigmas}, work, out.get() + (j * nx + i) * COLUMNS);
      }
  }
  return to_numpy(std::move(out), ny, nx, COLUMNS);
}

nb::ndarray<nb::numpy, double, nb::ndim<1>> sample_statistics(Vector<const float> values, std::optional<Vector<const std::int32_t>> mask, std::int32_t bits,
                                                              bool quartiles, int rounds, double sigmas) {
  const std::size_t total = values.shape(0);
  if (mask && mask->shape(0) != total) throw std::invalid_argument("values and mask differ in length");
  auto out = unset<double>(COLUMNS);
  {
    nb::gil_scoped_release release;
    const std::int32_t *plane = mask && bits ? mask->data() : nullptr;
    const auto of_size = total <= GATHERED_UP_TO ? describe_short : describe_long;
    of_size(values.data(), plane, bits, total, {quartiles, rounds, sigmas}, out.get());
  }
  return to_numpy(std::move(out), COLUMNS);
}

nb::ndarray<nb::numpy, double, nb::ndim<2>> segment_statistics(Vector<const float> values, Vector<const std::int64_t> start, bool quartiles, int rounds,
                                                               double sigmas) {
  const std::size_t n = start.shape(0) ? start.shape(0) - 1 : 0;
  if (start.shape(0) == 0 || start(0) != 0 || start(n) != std::int64_t(values.shape(0)))
    throw std::invalid_argument("start must run from 0 to the number of values");
  for (std::size_t i = 0; i < n; ++i)
    if (start(i + 1) < start(i)) throw std::invalid_argument("start must not decrease");
  auto out = unset<double>(n * COLUMNS);
  {
    nb::gil_scoped_release release;
    std::vector<float> pixels;
    Workspace work;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t m = std::size_t(start(i + 1) - start(i));
      pixels.resize(std::max(pixels.size(), m));
      const std::size_t usable = copy_usable(values.data() + start(i), nullptr, 0, m, pixels.data());
      describe(Gathered{pixels.data(), m}, usable, {quartiles, rounds, sigmas}, work, out.get() + i * COLUMNS);
    }
  }
  return to_numpy(std::move(out), n, COLUMNS);
}

} // namespace

void register_bin_statistics(nb::module_ &m) {
  m.def("bin_statistics", &bin_statistics, nb::arg("image"), nb::arg("mask"), nb::arg("bits"), nb::arg("y_edges"), nb::arg("x_edges"), nb::arg("quartiles"),
        nb::arg("rounds"), nb::arg("sigmas"),
        "Statistics of the bins between y_edges (ny + 1) and x_edges (nx + 1): float64 (ny, nx, 7) with the number of usable pixels, "
        "lower quartile, median, upper quartile, mean, variance, number of pixels in the last two. Usable is finite and without any of bits. "
        "Rounds > 0 clip that often at sigmas standard deviations, 0 takes all pixels, < 0 leaves mean and variance NaN. "
        "Quartiles are NaN unless asked for or needed to clip.");
  m.def("sample_statistics", &sample_statistics, nb::arg("values"), nb::arg("mask").none(), nb::arg("bits"), nb::arg("quartiles"), nb::arg("rounds"),
        nb::arg("sigmas"), "The same seven numbers for one array with an optional mask of the same length.");
  m.def("segment_statistics", &segment_statistics, nb::arg("values"), nb::arg("start"), nb::arg("quartiles"), nb::arg("rounds"), nb::arg("sigmas"),
        "The same seven numbers of values[start[i]:start[i + 1]] for each i: float64 (n, 7).");
}

} // namespace streamchar
