// Finding cosmic rays by their sharpness, growing them, and replacing their pixels from their neighbours.
//
// The scan is sequential by definition: a pixel found is replaced at once, and its neighbours are tested against the
// replaced value. Few pixels are tested: those that may pass as the plane is, and those next to one that was replaced.
#include "arrays.hpp"
#include "fetch.hpp"
#include "results.hpp"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <nanobind/stl/optional.h>
#include <optional>
#include <queue>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::int64_t REACH = 32; // how far the long-range interpolation looks

struct Parameters {
  double background, horizontal, vertical, diagonal, min_sigma, noise_factor, min_counts;
  int iterations;
  std::size_t max_pixels;
  std::int32_t bad, near, unused, cosmic;
};

// How far away the pairs may be whose mean a pixel must stand above, and how high.
struct Sharpness {
  double reach, sigmas, noise_factor;
};

// Pairs of pixels on opposite sides of one: their mean is at least the threshold times the pixel of a source as sharp as allowed,
// by place on the plane.
struct Pairs {
  std::vector<std::int64_t> dy, dx;
  std::vector<double> distance;
  std::int64_t rows, columns;
  const double *threshold; // (rows, columns, pairs)
  Sharpness seed, growth;
  double filled_factor; // on the threshold of a pair that holds a replaced pixel

  std::size_t size() const { return dy.size(); }
};

constexpr double LEAST_THRESHOLD = 0.02; // of a pair that tells anything but noise

// Whether a pixel may pass the first two conditions of the test: never false where it does. Sums of two neighbours are rounded
// as in the test; the factor covers the rounding of the squares.
struct Sharp {
  float four_sigmas_squared;

  inline bool operator()(const float *up, const float *here, const float *down, float variance) const {
    const float ns = *up + *down, we = here[-1] + here[1], swne = up[-1] + down[1], nwse = up[1] + down[-1];
    const float a = ns < we ? ns : we, b = swne < nwse ? swne : nwse, low = a < b ? a : b;
    const float all = (ns + we) + (swne + nwse), d = 2.0f * *here - low;
    const bool above = !(d < 0.0f) & !(d * d * 1.000001f < four_sigmas_squared * variance);
    return (*here >= 0.0f) & (variance >= 0.0f) & (above | (all != all));
  }
};

// The same when a level decides instead of the neighbours.
struct High {
  float level;

  inline bool operator()(const float *, const float *here, const float *, float) const { return (*here >= 0.0f) & (*here >= level); }
};

// How many pixels are looked at before it is asked which: few blocks hold one.
constexpr std::int64_t BLOCK = 32;

// Whether any of n pixels, a block at most, may be one, and each.
template <typename May>
inline bool any_of_block(May may, const float *up, const float *here, const float *down, const float *variance, std::int64_t n, std::int32_t *each) {
  std::int32_t any = 0;
  for (std::int64_t x = 0; x < n; ++x) any |= each[x] = may(up + x, here + x, down + x, variance[x]);
  return any != 0;
}

// Part of a row that is not the last one of its plane: n pixels, and how far ahead the row after next is, 0 without one.
struct Part {
  const float *here, *variance;
  std::int64_t n, width, ahead;
};

// Append the indices of the pixels that may be a cosmic ray's; the first one's is `index`.
template <typename May> inline void append_part(May may, const Part &part, std::int64_t index, std::vector<std::int64_t> &found) {
  const auto [here, variance, n, width, ahead] = part;
  const float *up = here - width, *down = here + width;
  std::int32_t each[BLOCK];
  for (std::int64_t first = 0; first < n; first += BLOCK) {
    const std::int64_t last = std::min(first + BLOCK, n);
    // The processor does not foresee enough of the rows that come next.
    fetch(down + ahead + first, last - first);
    fetch(variance + width + first, last - first);
    if (!any_of_block(may, up + first, here + first, down + first, variance + first, last - first, each)) continue;
    for (std::int64_t x = first; x < last; ++x)
      if (each[x - first]) found.push_back(index + x);
  }
}

STREAMCHAR_MULTIVERSION void append_sharp(Sharp may, const Part &part, std::int64_t index, std::vector<std::int64_t> &found) {
  append_part(may, part, index, found);
}

STREAMCHAR_MULTIVERSION void append_high(High may, const Part &part, std::int64_t index, std::vector<std::int64_t> &found) {
  append_part(may, part, index, found);
}

// The pixels off the border that may pass the test, ascending.
std::vector<std::int64_t> list_candidates(const float *image, const float *variance, std::int64_t height, std::int64_t width, double min_sigma) {
  std::vector<std::int64_t> found;
  for (std::int64_t y = 1; y + 1 < height; ++y) {
    const std::int64_t index = y * width + 1;
    const Part part{image + index, variance + index, width - 2, width, y + 2 < height ? width : 0};
    if (min_sigma >= 0.0)
      append_sharp({float(4.0 * min_sigma * min_sigma)}, part, index, found);
    else
      append_high({std::nextafter(float(-min_sigma), 0.0f)}, part, index, found);
  }
  return found;
}

using Pixels = std::vector<std::int64_t>; // y * width + x, ascending

struct Span {
  std::int64_t y, x0, x1;
};

// Replaces pixels by estimates from the pixels around them that have none of the excluded bits and are finite.
class Replacer {
public:
  Replacer(float *image, const std::int32_t *mask, const float *variance, std::int64_t height, std::int64_t width, double background, std::int32_t excluded)
      : image(image), mask(mask), variance(variance), height(height), width(width), background(background), excluded(excluded) {}

  Pixels unfounded; // replaced by the background for want of any usable pixel

  void replace(std::int64_t index) {
    struct Direction {
      std::int64_t dy, dx;
      double near, far;
    };
    // Weights of noise-free kriging with covariance exp(-d^2/4) at distances 1 and sqrt(2).
    constexpr Direction directions[4] = {{0, 1, 0.7737, -0.2737}, {1, 0, 0.7737, -0.2737}, {1, 1, 0.7358, -0.2358}, {1, -1, 0.7358, -0.2358}};
    // Mean of the smallest of n unit normals.
    constexpr double smallest[5] = {0.0, 0.0, -0.5641895835, -0.8462843753, -1.0293753730};
    const std::int64_t y = index / width, x = index % width;
    int candidates = 0;
    double best = std::numeric_limits<double>::infinity(), noise = 0.0;
    for (const Direction &d : directions) {
      if (!usable(y - 2 * d.dy, x - 2 * d.dx) || !usable(y - d.dy, x - d.dx) || !usable(y + d.dy, x + d.dx) || !usable(y + 2 * d.dy, x + 2 * d.dx)) continue;
      const std::int64_t step = d.dy * width + d.dx;
      const double value = d.near * (double(image[index - step]) + image[index + step]) + d.far * (double(image[index - 2 * step]) + image[index + 2 * step]);
      // The variance of the pixels read, not that of the hit itself, to which its own photons may have been added.
      const double error = std::sqrt(d.near * d.near * (double(variance[index - step]) + variance[index + step]) +
                                     d.far * d.far * (double(variance[index - 2 * step]) + variance[index + 2 * step]));
      if (!(value > background - 2.0 * error)) continue;
      ++candidates;
      noise += error;
      best = std::min(best, value);
    }
    if (candidates > 0)
      image[index] = float(best - smallest[candidates] * noise / candidates);
    else
      image[index] = float(from_afar(index, y, x));
  }

private:
  float *image;
  const std::int32_t *mask;
  const float *variance;
  std::int64_t height, width;
  double background;
  std::int32_t excluded;

  bool usable(std::int64_t y, std::int64_t x) const {
    return y >= 0 && y < height && x >= 0 && x < width && !(mask[y * width + x] & excluded) && std::isfinite(image[y * width + x]);
  }

  // Mean of the linear interpolations along row and column between the nearest usable pixels.
  double from_afar(std::int64_t index, std::int64_t y, std::int64_t x) {
    double sum = 0.0;
    int lines = 0;
    for (int vertical = 0; vertical < 2; ++vertical) {
      const std::int64_t dy = vertical, dx = 1 - vertical, step = dy * width + dx;
      std::int64_t back = 1, ahead = 1;
      while (back <= REACH && !usable(y - back * dy, x - back * dx)) ++back;
      while (ahead <= REACH && !usable(y + ahead * dy, x + ahead * dx)) ++ahead;
      if (back > REACH && ahead > REACH) continue;
      ++lines;
      if (back > REACH)
        sum += image[index + ahead * step];
      else if (ahead > REACH)
        sum += image[index - back * step];
      else
        sum += (double(ahead) * image[index - back * step] + double(back) * image[index + ahead * step]) / double(back + ahead);
    }
    if (lines > 0) return sum / lines;
    unfounded.push_back(index);
    return background;
  }
};

class Finder {
public:
  // The candidates are those of list_candidates.
  Finder(float *image, std::int32_t *mask, const float *variance, std::int64_t height, std::int64_t width, const Parameters &parameters, Pairs pairs,
         const std::int64_t *candidates, std::size_t count)
      : image(image), mask(mask), variance(variance), height(height), width(width), p(parameters), pairs(std::move(pairs)), candidates(candidates), count(count),
        replacer(image, mask, variance, height, width, parameters.background, parameters.bad | parameters.cosmic) {}

  std::vector<Pixels> footprints;
  std::size_t found = 0;  // by the scan, or before it was given up
  std::size_t marked = 0; // in any footprint

  // The image is afterwards as before. Returns false when the limit is exceeded; the mask is then as before, too.
  bool run() {
    if (!scan()) return give_up();
    found = recorded.size();
    group();
    restore();
    discard_faint();
    for (const Pixels &pixels : footprints) mark(pixels);
    replace_all();
    if (!grow()) return give_up();
    restore();
    return true;
  }

  std::vector<Span> spans(const Pixels &pixels) const {
    std::vector<Span> result;
    for (const std::int64_t index : pixels) {
      const std::int64_t y = index / width, x = index % width;
      if (!result.empty() && result.back().y == y && result.back().x1 + 1 == x)
        ++result.back().x1;
      else
        result.push_back({y, x, x});
    }
    return result;
  }

private:
  struct Record {
    std::int64_t index;
    float value;
  };

  float *image;
  std::int32_t *mask;
  const float *variance;
  std::int64_t height, width;
  Parameters p;
  Pairs pairs;
  const std::int64_t *candidates;
  std::size_t count;
  std::vector<Record> recorded;
  Replacer replacer;

  // The pixel test; estimate is the mean of the pair that shows the pixel to be too sharp.
  bool test(std::int64_t index, double sigmas, double noise_factor, float &estimate, const Sharpness *far = nullptr) const {
    const float *v = image + index;
    const float *s2 = variance + index;
    const std::int64_t w = width;
    const double value = *v;
    if (value < 0.0) return false;
    // No pixel is high or sharp compared with infinity.
    const auto mean = [&](std::int64_t a, std::int64_t b) {
      return (mask[index + a] | mask[index + b]) & p.unused ? std::numeric_limits<float>::infinity() : (v[a] + v[b]) * 0.5f;
    };
    const float we = mean(-1, 1), ns = mean(w, -w), swne = mean(-w - 1, w + 1), nwse = mean(w - 1, -w + 1);
    const double d0 = std::sqrt(double(*s2));
    if (sigmas < 0.0) {
      if (value < -sigmas) return false;
    } else {
      const double t = sigmas * d0;
      if (value < we + t && value < ns + t && value < swne + t && value < nwse + t) return false;
    }
    const double peak = value - p.background - noise_factor * d0;
    const auto sharp = [&](float mean, double threshold, std::int64_t a, std::int64_t b) {
      const double error = std::sqrt(double(s2[a]) + double(s2[b])) * 0.5;
      estimate = mean;
      return threshold * peak > (mean - p.background) + noise_factor * error;
    };
    if (sharp(ns, p.vertical, w, -w) || sharp(we, p.horizontal, -1, 1) || sharp(swne, p.diagonal, -w - 1, w + 1) || sharp(nwse, p.diagonal, w - 1, -w + 1))
      return true;
    return far && stands_out(index / width, index % width, *far, estimate);
  }

  // The test by pairs near and far; estimate is the mean of the pair that shows the pixel to be too high.
  bool stands_out(std::int64_t y, std::int64_t x, const Sharpness &sharpness, float &estimate) const {
    const std::int64_t index = y * width + x;
    const double peak = image[index] - p.background, noise = variance[index];
    if (!(peak > sharpness.sigmas * std::sqrt(noise))) return false;
    const double *thresholds = pairs.threshold + ((y * pairs.rows / height) * pairs.columns + x * pairs.columns / width) * std::int64_t(pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (!(thresholds[i] >= LEAST_THRESHOLD) || pairs.distance[i] > sharpness.reach) continue;
      const std::int64_t dy = pairs.dy[i], dx = pairs.dx[i], reach_y = std::abs(dy), reach_x = std::abs(dx);
      if (y < reach_y || y + reach_y >= height || x < reach_x || x + reach_x >= width) continue;
      const std::int64_t a = index - dy * width - dx, b = index + dy * width + dx;
      const std::int32_t planes = mask[a] | mask[b];
      if (planes & p.unused) continue;
      const double threshold = thresholds[i] * (planes & p.cosmic ? pairs.filled_factor : 1.0);
      if (!(threshold >= LEAST_THRESHOLD)) continue;
      const float mean = (image[a] + image[b]) * 0.5f;
      const double excess = threshold * peak - (mean - p.background);
      if (!(excess > sharpness.noise_factor * std::sqrt(threshold * threshold * noise + 0.25 * (double(variance[a]) + variance[b])))) continue;
      estimate = mean;
      return true;
    }
    return false;
  }

  bool vetoed(std::int64_t index) const {
    if (mask[index] & p.bad) return true;
    for (std::int64_t dy = -1; dy <= 1; ++dy)
      for (std::int64_t dx = -1; dx <= 1; ++dx)
        if ((dx || dy) && (mask[index + dy * width + dx] & p.near)) return true;
    return false;
  }

  // Test the candidates, and the pixels behind each one that was replaced: they may have become sharp.
  bool scan() {
    std::priority_queue<std::int64_t, Pixels, std::greater<std::int64_t>> behind;
    const std::int64_t none = height * width;
    std::int64_t last = -1;
    for (std::size_t i = 0; i < count || !behind.empty();) {
      const std::int64_t listed = i < count ? candidates[i] : none, waiting = behind.empty() ? none : behind.top();
      const std::int64_t index = std::min(listed, waiting);
      if (listed == index) ++i;
      if (waiting == index) behind.pop();
      if (index == last) continue;
      last = index;
      float estimate;
      if (!test(index, p.min_sigma, p.noise_factor, estimate, &pairs.seed) || vetoed(index)) continue;
      recorded.push_back({index, image[index]});
      image[index] = estimate;
      if (recorded.size() > p.max_pixels) return false;
      for (const std::int64_t next : {index + 1, index + width - 1, index + width, index + width + 1})
        if (inside(next)) behind.push(next);
    }
    return true;
  }

  // Whether a pixel is off the border.
  bool inside(std::int64_t index) const {
    const std::int64_t y = index / width, x = index % width;
    return y > 0 && y + 1 < height && x > 0 && x + 1 < width;
  }

  // Spans touching by side or corner belong together; a group carries the number of the last root it was joined to.
  void group() {
    Pixels pixels;
    for (const Record &record : recorded) pixels.push_back(record.index);
    const std::vector<Span> all = spans(pixels);
    std::vector<std::size_t> alias(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) alias[i] = i;
    const auto root = [&](std::size_t i) {
      while (alias[i] != i) i = alias[i] = alias[alias[i]];
      return i;
    };
    std::size_t first_below = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      while (first_below < all.size() && (all[first_below].y < all[i].y + 1 || (all[first_below].y == all[i].y + 1 && all[first_below].x1 < all[i].x0 - 1)))
        ++first_below;
      for (std::size_t j = first_below; j < all.size() && all[j].y == all[i].y + 1 && all[j].x0 <= all[i].x1 + 1; ++j) {
        const std::size_t upper = root(i), later = root(j);
        if (upper != later) alias[upper] = later;
      }
    }
    std::vector<std::size_t> number(all.size(), 0);
    std::size_t count = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (root(i) == i) number[i] = count++;
    footprints.assign(count, {});
    for (std::size_t i = 0; i < all.size(); ++i)
      for (std::int64_t x = all[i].x0; x <= all[i].x1; ++x) footprints[number[root(i)]].push_back(all[i].y * width + x);
  }

  void restore() {
    for (std::size_t i = recorded.size(); i-- > 0;) image[recorded[i].index] = recorded[i].value;
  }

  bool give_up() {
    restore();
    for (const Record &record : recorded) mask[record.index] &= ~p.cosmic;
    for (const Pixels &pixels : footprints)
      for (const std::int64_t index : pixels) mask[index] &= ~p.cosmic;
    footprints.clear();
    found = recorded.size();
    return false;
  }

  void discard_faint() {
    const auto faint = [&](const Pixels &pixels) {
      float sum = 0.0f;
      for (const std::int64_t index : pixels) sum += float(image[index] - p.background);
      return sum < p.min_counts;
    };
    footprints.erase(std::remove_if(footprints.begin(), footprints.end(), faint), footprints.end());
  }

  void mark(const Pixels &pixels) {
    for (const std::int64_t index : pixels) {
      marked += !(mask[index] & p.cosmic);
      mask[index] |= p.cosmic;
    }
  }

  // Returns false when the limit is exceeded.
  bool grow() {
    if (pairs.size() > 0) return spread();
    if (height < 5 || width < 5) return true;
    std::size_t grown = 0;
    for (int pass = 0; pass < p.iterations; ++pass) {
      for (Pixels &pixels : footprints) {
        const Pixels extra = test_around(pixels);
        if (extra.empty()) continue;
        if (grown + found > p.max_pixels) return false;
        grown += extra.size();
        Pixels both;
        std::set_union(pixels.begin(), pixels.end(), extra.begin(), extra.end(), std::back_inserter(both));
        pixels.swap(both);
        mark(extra);
      }
      if (grown == 0) return true;
    }
    return true;
  }

  // Growth by pairs: pixels of one pass are judged by the same plane, and replaced together after it, so that the order
  // of footprints does not matter. Returns false when the limit is exceeded.
  bool spread() {
    std::size_t grown = 0;
    std::vector<Pixels> extra(footprints.size());
    for (int pass = 0; pass < p.iterations; ++pass) {
      std::size_t added = 0;
      for (std::size_t i = 0; i < footprints.size(); ++i) {
        extra[i] = beside(footprints[i]);
        added += extra[i].size();
      }
      if (added == 0) return true;
      grown += added;
      if (grown + found > p.max_pixels) return false;
      for (std::size_t i = 0; i < footprints.size(); ++i) join(footprints[i], extra[i]);
      for (const Pixels &pixels : extra)
        for (const std::int64_t index : pixels) replacer.replace(index);
    }
    return true;
  }

  Pixels beside(const Pixels &pixels) const {
    Pixels extra;
    float estimate;
    for (const std::int64_t index : pixels) {
      const std::int64_t y = index / width, x = index % width;
      for (std::int64_t b = std::max<std::int64_t>(y - 1, 0); b <= std::min(y + 1, height - 1); ++b)
        for (std::int64_t a = std::max<std::int64_t>(x - 1, 0); a <= std::min(x + 1, width - 1); ++a)
          if (!(mask[b * width + a] & (p.cosmic | p.bad)) && stands_out(b, a, pairs.growth, estimate)) extra.push_back(b * width + a);
    }
    std::sort(extra.begin(), extra.end());
    extra.erase(std::unique(extra.begin(), extra.end()), extra.end());
    return extra;
  }

  void join(Pixels &pixels, const Pixels &extra) {
    if (extra.empty()) return;
    Pixels both;
    std::set_union(pixels.begin(), pixels.end(), extra.begin(), extra.end(), std::back_inserter(both));
    pixels.swap(both);
    for (const std::int64_t index : extra) recorded.push_back({index, image[index]});
    mark(extra);
  }

  // Pixels on and around a footprint that pass the test at half the threshold and without allowance for noise.
  Pixels test_around(const Pixels &pixels) {
    Pixels extra;
    for (const Span &span : spans(pixels)) {
      if (span.y < 2 || span.y >= height - 2) continue;
      const std::int64_t x0 = std::clamp<std::int64_t>(span.x0, 2, width - 3), x1 = std::clamp<std::int64_t>(span.x1, 2, width - 3);
      for (std::int64_t y = span.y - 1; y <= span.y + 1; ++y)
        for (std::int64_t x = x0 - 1; x <= x1 + 1; ++x) {
          float estimate;
          const std::int64_t index = y * width + x;
          if (!test(index, 0.5 * p.min_sigma, 0.0, estimate)) continue;
          recorded.push_back({index, image[index]});
          image[index] = estimate;
          extra.push_back(index);
        }
    }
    std::sort(extra.begin(), extra.end());
    extra.erase(std::unique(extra.begin(), extra.end()), extra.end());
    return extra;
  }

  // Only pixels outside footprints are read, so the order does not matter.
  void replace_all() {
    for (const Pixels &pixels : footprints)
      for (const std::int64_t index : pixels) replacer.replace(index);
  }
};

nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>> cosmic_ray_candidates(Plane<const float> image, Plane<const float> variance, double min_sigma) {
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (variance.shape(0) != height || variance.shape(1) != width) throw std::invalid_argument("image and variance differ in shape");
  Pixels found;
  {
    nb::gil_scoped_release release;
    found = list_candidates(image.data(), variance.data(), std::int64_t(height), std::int64_t(width), min_sigma);
  }
  return copy_to_numpy(found);
}

// Refuse candidates that are not in order, or on the border or beyond.
void check_candidates(const Vector<const std::int64_t> &candidates, std::int64_t height, std::int64_t width) {
  std::int64_t last = -1, row = width; // where the last one's row begins
  for (std::size_t i = 0; i < candidates.shape(0); ++i) {
    const std::int64_t index = candidates(i);
    if (index <= last || index >= (height - 1) * width || index < width) throw std::invalid_argument("candidates must ascend and keep off the border");
    while (index >= row + width) row += width;
    if (index == row || index == row + width - 1) throw std::invalid_argument("candidates must ascend and keep off the border");
    last = index;
  }
}

using Offsets = nb::ndarray<nb::numpy, const std::int32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

nb::tuple find_cosmic_rays(Plane<float> image, Plane<std::int32_t> mask, Plane<const float> variance, double background, double horizontal, double vertical,
                           double diagonal, double min_sigma, double noise_factor, double min_counts, int iterations, std::int64_t max_pixels,
                           std::int32_t bad_bits, std::int32_t near_bits, std::int32_t unused_bits, std::int32_t cosmic_bit, Offsets offsets,
                           Cube<const double> thresholds, double seed_reach, double seed_noise_factor, double growth_sigma, double growth_noise_factor,
                           double filled_factor, std::optional<Vector<const std::int64_t>> candidates) {
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (mask.shape(0) != height || mask.shape(1) != width || variance.shape(0) != height || variance.shape(1) != width)
    throw std::invalid_argument("image, mask and variance differ in shape");
  if (max_pixels < 0) throw std::invalid_argument("max_pixels must not be negative");
  if (thresholds.shape(2) != offsets.shape(0) || (offsets.shape(0) > 0 && (thresholds.shape(0) == 0 || thresholds.shape(1) == 0)))
    throw std::invalid_argument("thresholds must be (rows, columns, offsets)");
  Pairs pairs{{}, {}, {}, std::int64_t(thresholds.shape(0)), std::int64_t(thresholds.shape(1)), thresholds.data(),
              {seed_reach, std::max(min_sigma, 0.0), seed_noise_factor},
              {std::numeric_limits<double>::infinity(), growth_sigma, growth_noise_factor}, filled_factor};
  for (std::size_t i = 0; i < offsets.shape(0); ++i) {
    pairs.dy.push_back(offsets(i, 0));
    pairs.dx.push_back(offsets(i, 1));
    pairs.distance.push_back(std::hypot(double(offsets(i, 0)), double(offsets(i, 1))));
  }
  const Parameters parameters{background, horizontal, vertical, diagonal,        min_sigma, noise_factor, min_counts,
                              iterations, std::size_t(max_pixels), bad_bits, near_bits, unused_bits, cosmic_bit};
  Pixels listed;
  if (candidates)
    check_candidates(*candidates, std::int64_t(height), std::int64_t(width));
  else
    listed = list_candidates(image.data(), variance.data(), std::int64_t(height), std::int64_t(width), min_sigma);
  Finder finder(image.data(), mask.data(), variance.data(), std::int64_t(height), std::int64_t(width), parameters, std::move(pairs),
                candidates ? candidates->data() : listed.data(), candidates ? candidates->shape(0) : listed.size());
  bool complete;
  std::vector<Span> all;
  std::vector<std::int64_t> start{0};
  {
    nb::gil_scoped_release release;
    complete = finder.run();
    for (const Pixels &pixels : finder.footprints) {
      const std::vector<Span> some = finder.spans(pixels);
      all.insert(all.end(), some.begin(), some.end());
      start.push_back(std::int64_t(all.size()));
    }
  }
  auto y = unset<std::int32_t>(all.size()), x0 = unset<std::int32_t>(all.size()), x1 = unset<std::int32_t>(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    y[i] = std::int32_t(all[i].y);
    x0[i] = std::int32_t(all[i].x0);
    x1[i] = std::int32_t(all[i].x1);
  }
  return nb::make_tuple(complete, complete ? finder.marked : finder.found, to_numpy(std::move(y), all.size()), to_numpy(std::move(x0), all.size()),
                        to_numpy(std::move(x1), all.size()), copy_to_numpy(start));
}

using Index = Vector<const std::int32_t>;

nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>> replace_pixels(Plane<float> image, Plane<const std::int32_t> mask, Plane<const float> variance, Index y,
                                                                 Index x0, Index x1, double background, std::int32_t excluded_bits) {
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (mask.shape(0) != height || mask.shape(1) != width || variance.shape(0) != height || variance.shape(1) != width)
    throw std::invalid_argument("image, mask and variance differ in shape");
  if (x0.shape(0) != y.shape(0) || x1.shape(0) != y.shape(0)) throw std::invalid_argument("span arrays differ in length");
  for (std::size_t i = 0; i < y.shape(0); ++i) {
    if (y(i) < 0 || std::size_t(y(i)) >= height || x0(i) < 0 || x1(i) < x0(i) || std::size_t(x1(i)) >= width)
      throw std::invalid_argument("span outside the plane");
    for (std::int32_t x = x0(i); x <= x1(i); ++x)
      if (!(mask(std::size_t(y(i)), std::size_t(x)) & excluded_bits)) throw std::invalid_argument("every pixel to replace needs one of the excluded bits");
  }
  Replacer replacer(image.data(), mask.data(), variance.data(), std::int64_t(height), std::int64_t(width), background, excluded_bits);
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < y.shape(0); ++i)
      for (std::int64_t x = x0(i); x <= x1(i); ++x) replacer.replace(y(i) * std::int64_t(width) + x);
  }
  return copy_to_numpy(replacer.unfounded);
}

} // namespace

void register_cosmic_rays(nb::module_ &m) {
  m.def("find_cosmic_rays", &find_cosmic_rays, nb::arg("image").noconvert(), nb::arg("mask").noconvert(), nb::arg("variance"), nb::arg("background"), nb::arg("horizontal"),
        nb::arg("vertical"), nb::arg("diagonal"), nb::arg("min_sigma"), nb::arg("noise_factor"), nb::arg("min_counts"), nb::arg("iterations"),
        nb::arg("max_pixels"), nb::arg("bad_bits"), nb::arg("near_bits"), nb::arg("unused_bits"), nb::arg("cosmic_bit"), nb::arg("offsets"),
        nb::arg("thresholds"), nb::arg("seed_reach"), nb::arg("seed_noise_factor"), nb::arg("growth_sigma"), nb::arg("growth_noise_factor"),
        nb::arg("filled_factor"), nb::arg("candidates").none() = nb::none(),
        "Find cosmic rays and set cosmic_bit (clear on entry) in mask (in place) on their pixels; image is written to but left as it was. "
        "Returns (complete, pixels, y, x0, x1, start): the number of pixels in any footprint, and the spans of each. Not complete: more than max_pixels were found, "
        "and nothing is set. "
        "Candidates are those of cosmic_ray_candidates, when they are known.");
  m.def("cosmic_ray_candidates", &cosmic_ray_candidates, nb::arg("image"), nb::arg("variance"), nb::arg("min_sigma"),
        "Flat indices (int64, ascending) of the pixels off the border that may be cosmic rays by min_sigma as for find_cosmic_rays: all that stand so many "
        "standard deviations above the mean of two opposite neighbours, or have a NaN beside them, and have no negative value.");
  m.def("replace_pixels", &replace_pixels, nb::arg("image").noconvert(), nb::arg("mask"), nb::arg("variance"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"),
        nb::arg("background"), nb::arg("excluded_bits"),
        "Replace the pixels of the spans in image (in place) from finite pixels near them without excluded_bits; the pixels replaced must have one. "
        "Returns the flat indices of those that got the background because no usable pixel was near.");
}

} // namespace streamchar
