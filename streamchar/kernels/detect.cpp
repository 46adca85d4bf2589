// Threshold a plane and gather the pixels that pass into 8-connected footprints, run by run, without a label plane.
#include "results.hpp"
#include "smooth.hpp"
#include <cmath>
#include <cstring>
#include <limits>
#include <nanobind/stl/optional.h>
#include <optional>
#include <stdexcept>

namespace streamchar {
namespace {

enum : std::uint8_t { above = 1, below = 2, far_above = 4, far_below = 8 };

constexpr std::size_t BLOCK = 32; // pixels that are looked at before any of them is told apart: few blocks hold a source

// Whether one of a block of pixels may reach the threshold whose square, in units of the variance, is given: never false where one does.
inline bool any_reaches(const float *image, const float *variance, float squared) {
  std::int32_t any = 0;
  for (std::size_t x = 0; x < BLOCK; ++x) any |= !(image[x] * image[x] * 1.00001f < squared * variance[x]);
  return any != 0;
}

inline void classify(const float *image, const float *variance, std::size_t n, float value, float include, std::uint8_t *__restrict flags) {
  for (std::size_t x = 0; x < n; ++x) {
    const float level = value * std::sqrt(variance[x]), high = include * level, pixel = image[x];
    flags[x] = (pixel >= level ? above : 0) | (-pixel >= level ? below : 0) | (pixel >= high ? far_above : 0) |
               (-pixel >= high ? far_below : 0);
  }
}

STREAMCHAR_MULTIVERSION void classify_scaled(const float *image, const float *variance, std::size_t n, float value, float include,
                                             std::uint8_t *__restrict flags) {
  const float squared = value * value;
  std::size_t x = 0;
  for (; x + BLOCK <= n; x += BLOCK)
    if (value >= 0.0f && !any_reaches(image + x, variance + x, squared))
      std::memset(flags + x, 0, BLOCK);
    else
      classify(image + x, variance + x, BLOCK, value, include, flags + x);
  classify(image + x, variance + x, n - x, value, include, flags + x);
}

STREAMCHAR_MULTIVERSION void classify_constant(const float *image, std::size_t n, float level, float include,
                                               std::uint8_t *__restrict flags) {
  const float high = include * level;
  for (std::size_t x = 0; x < n; ++x) {
    const float pixel = image[x];
    flags[x] = (pixel >= level ? above : 0) | (-pixel >= level ? below : 0) | (pixel >= high ? far_above : 0) |
               (-pixel >= high ? far_below : 0);
  }
}

bool any_flag(const std::uint8_t *flags) {
  std::uint64_t any = 0;
  for (std::size_t x = 0; x < BLOCK; x += sizeof any) {
    std::uint64_t word;
    std::memcpy(&word, flags + x, sizeof word);
    any |= word;
  }
  return any != 0;
}

// Append the runs of one polarity in a row. flags holds a readable zero word behind its n bytes.
void append_runs(const std::uint8_t *flags, std::int32_t n, std::int32_t y, std::uint8_t in, std::uint8_t far, std::vector<Run> &runs) {
  std::uint64_t wanted;
  std::memset(&wanted, in, sizeof wanted);
  for (std::int32_t x = 0; x < n;) {
    if (std::size_t(x) + BLOCK <= std::size_t(n) && !any_flag(flags + x)) {
      x += std::int32_t(BLOCK);
      continue;
    }
    std::uint64_t word;
    std::memcpy(&word, flags + x, sizeof word);
    if ((word & wanted) == 0) {
      x += sizeof word;
      continue;
    }
    while (!(flags[x] & in)) ++x;
    const std::int32_t first = x;
    std::uint8_t seen = 0;
    while (flags[x] & in) seen |= flags[x++];
    runs.push_back({y, first, x - 1, (seen & far) != 0});
  }
}

Components keep_components(const std::vector<Run> &runs, std::int64_t min_pixels) {
  std::vector<std::int32_t> component;
  const std::int32_t count = label_runs(runs, component);
  std::vector<std::uint8_t> keep(count, 0);
  std::vector<std::int64_t> area(count, 0);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    keep[component[i]] |= runs[i].reaches;
    area[component[i]] += runs[i].x1 - runs[i].x0 + 1;
  }
  for (std::int32_t i = 0; i < count; ++i) keep[i] &= area[i] >= min_pixels;
  return group_runs(runs, component, count, keep);
}

nb::tuple detect(Box image, std::optional<Box> variance, float value, float include, std::int64_t min_pixels, bool both,
                 std::optional<Vector<const float>> taps, std::optional<Vector<const float>> image_taps) {
  const Convolved signal = convolved(image, image_taps), noise = convolved(variance, taps, signal.height(), signal.width());
  Components positive, negative;
  {
    nb::gil_scoped_release release;
    find_components(signal, noise, {value, include, min_pixels}, &positive, both ? &negative : nullptr);
  }
  return nb::make_tuple(to_tuple(positive), to_tuple(negative));
}

} // namespace

std::int32_t label_runs(const std::vector<Run> &runs, std::vector<std::int32_t> &component) {
  std::vector<std::int32_t> parent;
  component.assign(runs.size(), 0);
  const auto new_root = [&parent] {
    parent.push_back(std::int32_t(parent.size()));
    return parent.back();
  };
  std::size_t row = 0, above_first = 0, above_last = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Run &run = runs[i];
    if (i == 0 || run.y != runs[i - 1].y) {
      const bool adjacent = i > 0 && run.y == runs[i - 1].y + 1;
      above_first = adjacent ? row : i;
      above_last = i;
      row = i;
    }
    while (above_first < above_last && runs[above_first].x1 < run.x0 - 1) ++above_first;
    std::int32_t root = -1;
    for (std::size_t k = above_first; k < above_last && runs[k].x0 <= run.x1 + 1; ++k) {
      const std::int32_t other = find_root(parent, component[k]);
      if (root < 0) root = runs[k].x0 <= run.x0 + 1 ? other : new_root();
      parent[other] = root;
    }
    component[i] = root < 0 ? new_root() : root;
  }
  std::vector<std::int32_t> number(parent.size());
  std::int32_t count = 0;
  for (std::size_t i = 0; i < parent.size(); ++i)
    if (parent[i] == std::int32_t(i)) number[i] = count++;
  for (std::int32_t &root : component) root = number[find_root(parent, root)];
  return count;
}

Components group_runs(const std::vector<Run> &runs, const std::vector<std::int32_t> &component, std::int32_t count,
                      const std::vector<std::uint8_t> &keep) {
  std::vector<std::int64_t> next(count, 0);
  for (std::int32_t c : component) ++next[c];
  Components result;
  std::int64_t total = 0;
  for (std::int32_t c = 0; c < count; ++c) {
    const std::int64_t length = next[c];
    next[c] = total;
    if (!keep.empty() && !keep[c]) continue;
    total += length;
    result.start.push_back(total);
  }
  result.y.resize(total);
  result.x0.resize(total);
  result.x1.resize(total);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!keep.empty() && !keep[component[i]]) continue;
    const std::int64_t at = next[component[i]]++;
    result.y[at] = runs[i].y;
    result.x0[at] = runs[i].x0;
    result.x1[at] = runs[i].x1;
  }
  return result;
}

void find_components(const Convolved &image, const Convolved &variance, Threshold threshold, Components *positive, Components *negative) {
  const std::int32_t width = image.width(), height = image.height();
  std::vector<std::uint8_t> flags(std::size_t(width) + sizeof(std::uint64_t), 0);
  std::vector<Run> up, down;
  std::optional<ConvolvedRows> signal, noise;
  if (height > 0) signal.emplace(image);
  if (height > 0 && variance.plane.data) noise.emplace(variance);
  for (std::int32_t y = 0; y < height; ++y) {
    const float *row = signal->next();
    if (noise)
      classify_scaled(row, noise->next(), width, threshold.value, threshold.include, flags.data());
    else
      classify_constant(row, width, threshold.value, threshold.include, flags.data());
    if (positive) append_runs(flags.data(), width, y, above, far_above, up);
    if (negative) append_runs(flags.data(), width, y, below, far_below, down);
  }
  if (positive) *positive = keep_components(up, threshold.min_pixels);
  if (negative) *negative = keep_components(down, threshold.min_pixels);
}

void register_detect(nb::module_ &m) {
  m.def("detect", &detect, nb::arg("image"), nb::arg("variance").none(), nb::arg("value"), nb::arg("include"), nb::arg("min_pixels"),
        nb::arg("both"), nb::arg("taps").none() = nb::none(), nb::arg("image_taps").none() = nb::none(),
        "Footprints of the pixels with image >= t, t = value x sqrt(variance) (value alone without variance), that hold a pixel with "
        "image >= include x t and at least min_pixels pixels; then, with both, those of -image. Each is a tuple of span y, x0, x1 "
        "(int32, inclusive) and the first span of each footprint (int64, one more than footprints). With taps the variance is wider than "
        "image by len(taps) - 1 pixels on every side and convolved as by smooth; with image_taps so is the image itself, and what is left of it "
        "is searched.");
}

} // namespace streamchar
