// Quartiles and clipped moments of pixels, for every bin of a grid or for one long array, without sorting it.
#include "arrays.hpp"
#include <algorithm>
#include <cmath>
#include <cstring>
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

// Minus the number of unusable pixels among BLOCK.
inline __attribute__((always_inline)) std::int32_t minus_unusable(const float *values, const std::int32_t *mask, std::int32_t bits) {
  Ints total = {};
  for (std::size_t j = 0; j < BLOCK; j += WIDE) {
    Ints raw, planes = {};
    std::memcpy(&raw, values + j, sizeof raw);
    if (mask) std::memcpy(&planes, mask + j, sizeof planes);
    total += ((raw & 0x7f800000) == 0x7f800000) | ((planes & bits) != 0);
  }
  std::int32_t sum = 0;
  for (std::size_t j = 0; j < WIDE; ++j) sum += total[j];
  return sum;
}

// Append the usable pixels to out, which has room for n + BLOCK; returns how many. Masked pixels come in
// patches, so whole blocks are mostly kept or dropped at once.
STREAMCHAR_MULTIVERSION
std::size_t append_usable(const float *values, const std::int32_t *mask, std::int32_t bits, std::size_t n, float *out) {
  std::size_t kept = 0, i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    const std::int32_t bad = minus_unusable(values + i, mask ? mask + i : nullptr, bits);
    if (bad == 0) {
      std::memcpy(out + kept, values + i, BLOCK * sizeof(float));
      kept += BLOCK;
    } else if (bad > -std::int32_t(BLOCK)) {
      for (std::size_t j = i; j < i + BLOCK; ++j) {
        out[kept] = values[j];
        kept += finite(values[j]) & !(mask && (mask[j] & bits));
      }
    }
  }
  for (; i < n; ++i) {
    out[kept] = values[i];
    kept += finite(values[i]) & !(mask && (mask[i] & bits));
  }
  return kept;
}

// Buckets of equal width; a non-decreasing function of the value, so buckets are in the order of the values.
struct Buckets {
  float low, scale, top;

  inline std::int32_t of(float value) const {
    float t = (value - low) * scale;
    t = t > 0.0f ? t : 0.0f; // also where 0 * infinity made a NaN
    return std::int32_t(t < top ? t : top);
  }
};

STREAMCHAR_MULTIVERSION
void add_to_histogram(const float *values, std::size_t n, Buckets buckets, std::uint32_t *counts) {
  // Two interleaved histograms: equal neighbours would otherwise wait for each other's store.
  const std::size_t size = std::size_t(buckets.top) + 1;
  std::int32_t index[256];
  for (std::size_t start = 0; start < n; start += 256) {
    const std::size_t m = std::min<std::size_t>(256, n - start);
    const float *v = values + start;
    for (std::size_t j = 0; j < m; ++j) index[j] = buckets.of(v[j]);
    std::size_t j = 0;
    for (; j + 2 <= m; j += 2) {
      ++counts[index[j]];
      ++counts[size + index[j + 1]];
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
  const Floats low = Floats{} + buckets.low, scale = Floats{} + buckets.scale, top = Floats{} + buckets.top, zero = {};
  std::size_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    Ints hits = {};
    for (std::size_t j = i; j < i + BLOCK; j += WIDE) {
      Floats t;
      std::memcpy(&t, values + j, sizeof t);
      t = (t - low) * scale;
      t = t > zero ? t : zero;
      t = t < top ? t : top;
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

// Number, sum and sum of squares of value - centre over the values within half of the centre.
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

// A source of usable pixels: hands them out in pieces, and a sample of them.

struct Gathered { // already in one buffer
  const float *values;
  std::size_t n;
  static constexpr std::size_t buckets = 1024, sample = 64, sorted_below = 64;

  template <typename F> void each(F f) const { f(values, n); }
  void draw(std::vector<float> &out) const {
    const std::size_t stride = std::max<std::size_t>(1, n / sample);
    for (std::size_t i = stride / 2; i < n; i += stride) out.push_back(values[i]);
  }
};

struct Scattered { // among unusable ones
  const float *values;
  const std::int32_t *mask;
  std::int32_t bits;
  std::size_t n;
  float *buffer; // CHUNK + BLOCK
  static constexpr std::size_t buckets = 4096, sample = 4096, sorted_below = 4096;

  template <typename F> void each(F f) const {
    for (std::size_t start = 0; start < n; start += CHUNK) {
      const std::size_t m = std::min(CHUNK, n - start);
      const float *v = values + start;
      const std::int32_t *bad = mask ? mask + start : nullptr;
      if (count_unusable(v, bad, bits, m) == 0)
        f(v, m);
      else
        f(static_cast<const float *>(buffer), append_usable(v, bad, bits, m, buffer));
    }
  }
  void draw(std::vector<float> &out) const {
    const std::size_t stride = (n / sample) | 1; // odd, so that it walks over the columns
    for (std::size_t i = stride / 2; i < n; i += stride)
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
    source.each([&](const float *v, std::size_t m) { all.insert(all.end(), v, v + m); });
    std::sort(all.begin(), all.end());
    for (std::size_t r = 0; r < RANKS; ++r) at[r] = all[rank[r]];
    return interpolate(n, at);
  }

  const Buckets buckets = choose_buckets(source, work);
  work.counts.assign(2 * Source::buckets, 0);
  std::uint32_t *counts = work.counts.data();
  source.each([&](const float *v, std::size_t m) { add_to_histogram(v, m, buckets, counts); });
  Wanted &wanted = work.wanted;
  wanted.count = 0;
  std::size_t before = 0, r = 0; // the ranks ascend because n is not tiny
  for (std::size_t b = 0; b < Source::buckets && r < RANKS; ++b) {
    const std::size_t here = std::size_t(counts[b]) + counts[Source::buckets + b];
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
    std::nth_element(found.begin(), found.begin() + std::ptrdiff_t(rank[r]), found.end());
    at[r] = found[rank[r]];
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
        pixels.resize(std::max(pixels.size(), m * (y1 - y0) + BLOCK));
        std::size_t n = 0;
        for (std::size_t y = y0; y < y1; ++y) {
          const std::size_t start = y * width + x0;
          n += append_usable(image.data() + start, mask.data() + start, bits, m, pixels.data() + n);
        }
        describe(Gathered{pixels.data(), n}, n, {quartiles, rounds, sigmas}, work, out + (j * nx + i) * COLUMNS);
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
    std::vector<float> buffer(CHUNK + BLOCK);
    Workspace work;
    const std::int32_t *plane = mask && bits ? mask->data() : nullptr;
    const Scattered source{values.data(), plane, bits, total, buffer.data()};
    std::size_t n = total;
    for (std::size_t start = 0; start < total; start += CHUNK)
      n -= count_unusable(values.data() + start, plane ? plane + start : nullptr, bits, std::min(CHUNK, total - start));
    describe(source, n, {quartiles, rounds, sigmas}, work, out);
  }
  return {out, {COLUMNS}, owner};
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
}

} // namespace streamchar
