// Quartiles and clipped moments of pixels, for every bin of a grid, for one long array or for segments of it, without sorting.
#include "arrays.hpp"
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

STREAMCHAR_MULTIVERSION
void add_to_histogram(const float *values, std::size_t n, Buckets buckets, std::uint32_t *counts) {
  // Two histograms in turn: equal neighbours would otherwise wait for each other's store.
  const std::size_t size = std::size_t(buckets.top) + 2;
  std::int32_t index[256];
  for (std::size_t start = 0; start < n; start += 256) {
    const std::size_t m = std::min<std::size_t>(256, n - start);
    const float *v = values + start;
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

STREAMCHAR_MULTIVERSION
void collect(const float *values, std::size_t n, Buckets buckets, Wanted &wanted) {
  // Unused slots repeat the first bucket, so that the test below has a fixed length.
  Ints target[RANKS];
  for (std::size_t k = 0; k < RANKS; ++k) target[k] = Ints{} + wanted.bucket[k < wanted.count ? k : 0];
  const Floats low = Floats{} + buckets.low, scale = Floats{} + buckets.scale, top = Floats{} + buckets.top, behind = top + 1.0f, zero = {};
  std::size_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
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
    Longs any;
    std::memcpy(&any, &hits, sizeof any);
    if (!(any[0] | any[1] | any[2] | any[3])) continue;
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

// A source of pixels with NaN for the unusable ones: hands them out in pieces, and a sample of the usable ones.

struct Gathered { // already in one buffer
  const float *values;
  std::size_t total;
  static constexpr std::size_t buckets = 1024, sample = 64, sorted_below = 64;

  template <typename F> void each(F f) const { f(values, total); }
  void draw(std::vector<float> &out) const {
    const std::size_t stride = (total / sample) | 1; // odd, so that it walks over the columns
    for (std::size_t i = stride / 2; i < total; i += stride)
      if (finite(values[i])) out.push_back(values[i]);
  }
};

struct InPlace { // cleaned piece by piece, where needed
  const float *values;
  const std::int32_t *mask;
  std::int32_t bits;
  std::size_t total;
  const std::vector<bool> &clean; // by piece
  float *buffer;                  // CHUNK
  static constexpr std::size_t buckets = 4096, sample = 4096, sorted_below = 4096;

  template <typename F> void each(F f) const {
    for (std::size_t start = 0; start < total; start += CHUNK) {
      const std::size_t m = std::min(CHUNK, total - start);
      const bool as_is = clean[start / CHUNK];
      if (!as_is) copy_usable(values + start, mask ? mask + start : nullptr, bits, m, buffer);
      f(as_is ? values + start : buffer, m);
    }
  }
  void draw(std::vector<float> &out) const {
    const std::size_t stride = (total / sample) | 1;
    for (std::size_t i = stride / 2; i < total; i += stride)
      if (finite(values[i]) && !(mask && (mask[i] & bits))) out.push_back(values[i]);
  }
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
  source.draw(sample);
  if (sample.empty()) return {0.0f, 1.0f, float(Source::buckets - 1)};
  std::sort(sample.begin(), sample.end());
  const std::size_t last = sample.size() - 1;
  const float q1 = sample[last / 4], q3 = sample[last - last / 4];
  const float low = q1 - 2.0f * (q3 - q1), width = 5.0f * (q3 - q1);
  if (!(width > 0.0f)) return {sample.front(), float(Source::buckets) / (sample.back() - sample.front()), float(Source::buckets - 1)};
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

template <typename Source> Quartiles find_quartiles(const Source &source, std::size_t n, Workspace &work) {
  if (n == 0) return {};
  std::size_t rank[RANKS], slot[RANKS];
  for (std::size_t q = 0; q < 3; ++q) {
    rank[2 * q] = std::size_t(FRACTIONS[q] * double(n - 1));
    rank[2 * q + 1] = std::min(rank[2 * q] + 1, n - 1);
  }
  double at[RANKS];
  if (n < Source::sorted_below) {
    std::vector<float> &all = work.sample;
    all.clear();
    source.each([&](const float *v, std::size_t m) { std::copy_if(v, v + m, std::back_inserter(all), finite); });
    std::sort(all.begin(), all.end());
    for (std::size_t r = 0; r < RANKS; ++r) at[r] = all[rank[r]];
    return interpolate(n, at);
  }

  const Buckets buckets = choose_buckets(source, work);
  constexpr std::size_t size = Source::buckets + 1;
  work.counts.assign(2 * size, 0);
  std::uint32_t *counts = work.counts.data();
  source.each([&](const float *v, std::size_t m) { add_to_histogram(v, m, buckets, counts); });
  Wanted &wanted = work.wanted;
  wanted.count = 0;
  std::size_t before = 0, r = 0; // the ranks ascend because n is not tiny
  for (std::size_t b = 0; b < Source::buckets && r < RANKS; ++b) {
    const std::size_t here = std::size_t(counts[b]) + counts[size + b];
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
  source.each([&](const float *v, std::size_t m) { collect(v, m, buckets, wanted); });
  for (r = 0; r < RANKS; ++r) {
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

struct Settings {
  bool quartiles;
  int rounds;
  double sigmas;
};

struct Moments {
  double mean = NOT_A_NUMBER, variance = NOT_A_NUMBER, count = 0;
};

template <typename Source> Moments find_moments(const Source &source, double centre, double half) {
  Sums sums;
  source.each([&](const float *v, std::size_t m) { add_clipped(v, m, centre, half, sums); });
  const double n = sums.count, mean = sums.first / n;
  return {centre + mean, (sums.second / n - mean * mean) * (n / (n - 1.0)), n};
}

template <typename Source> void describe(const Source &source, std::size_t n, const Settings &settings, Workspace &work, double *out) {
  Quartiles quartiles;
  Moments moments;
  if (settings.quartiles || settings.rounds > 0) quartiles = find_quartiles(source, n, work);
  if (n > 0 && settings.rounds == 0) {
    const double all = std::numeric_limits<double>::infinity();
    moments = find_moments(source, find_moments(source, 0.0, all).mean, all);
  }
  if (n > 0 && settings.rounds > 0) {
    double centre = quartiles.median, half = settings.sigmas * IQR_TO_SIGMA * (quartiles.upper - quartiles.lower);
    for (int round = 0; round < settings.rounds; ++round) {
      if (round > 0) {
        centre = moments.mean;
        if (n > 1) half = settings.sigmas * std::sqrt(moments.variance < 0.0 ? 0.0 : moments.variance);
      }
      moments = find_moments(source, centre, half);
    }
  }
  const double row[COLUMNS] = {double(n), quartiles.lower, quartiles.median, quartiles.upper, moments.mean, moments.variance, moments.count};
  std::copy(row, row + COLUMNS, out);
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
  auto *out = new double[std::max<std::size_t>(1, ny * nx * COLUMNS)];
  nb::capsule owner(out, [](void *p) noexcept { delete[] static_cast<double *>(p); });
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
        describe(Gathered{pixels.data(), m * (y1 - y0)}, usable, {quartiles, rounds, sigmas}, work, out + (j * nx + i) * COLUMNS);
      }
  }
  return {out, {ny, nx, COLUMNS}, owner};
}

nb::ndarray<nb::numpy, double, nb::ndim<1>> sample_statistics(Vector<const float> values, std::optional<Vector<const std::int32_t>> mask, std::int32_t bits,
                                                              bool quartiles, int rounds, double sigmas) {
  const std::size_t total = values.shape(0);
  if (mask && mask->shape(0) != total) throw std::invalid_argument("values and mask differ in length");
  auto *out = new double[COLUMNS];
  nb::capsule owner(out, [](void *p) noexcept { delete[] static_cast<double *>(p); });
  {
    nb::gil_scoped_release release;
    std::vector<float> buffer(CHUNK);
    Workspace work;
    const std::int32_t *plane = mask && bits ? mask->data() : nullptr;
    std::vector<bool> clean;
    std::size_t n = total;
    for (std::size_t start = 0; start < total; start += CHUNK) {
      const std::size_t unusable = count_unusable(values.data() + start, plane ? plane + start : nullptr, bits, std::min(CHUNK, total - start));
      clean.push_back(unusable == 0);
      n -= unusable;
    }
    const InPlace source{values.data(), plane, bits, total, clean, buffer.data()};
    describe(source, n, {quartiles, rounds, sigmas}, work, out);
  }
  return {out, {COLUMNS}, owner};
}

nb::ndarray<nb::numpy, double, nb::ndim<2>> segment_statistics(Vector<const float> values, Vector<const std::int64_t> start, bool quartiles, int rounds,
                                                               double sigmas) {
  const std::size_t n = start.shape(0) ? start.shape(0) - 1 : 0;
  if (start.shape(0) == 0 || start(0) != 0 || start(n) != std::int64_t(values.shape(0)))
    throw std::invalid_argument("start must run from 0 to the number of values");
  for (std::size_t i = 0; i < n; ++i)
    if (start(i + 1) < start(i)) throw std::invalid_argument("start must not decrease");
  auto *out = new double[std::max<std::size_t>(1, n * COLUMNS)];
  nb::capsule owner(out, [](void *p) noexcept { delete[] static_cast<double *>(p); });
  {
    nb::gil_scoped_release release;
    std::vector<float> pixels;
    Workspace work;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t m = std::size_t(start(i + 1) - start(i));
      pixels.resize(std::max(pixels.size(), m));
      const std::size_t usable = copy_usable(values.data() + start(i), nullptr, 0, m, pixels.data());
      describe(Gathered{pixels.data(), m}, usable, {quartiles, rounds, sigmas}, work, out + i * COLUMNS);
    }
  }
  return {out, {n, COLUMNS}, owner};
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
