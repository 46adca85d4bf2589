// Split footprints into the basins of their prominent peaks: steepest ascent, then joining across the highest saddles.
#include "arrays.hpp"
#include "results.hpp"
#include "smooth.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <nanobind/stl/optional.h>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

using I32 = Vector<const std::int32_t>;
using I64 = Vector<const std::int64_t>;

// What a peak must exceed to stand alone; see register_split.
struct Prominent {
  float significance, prominence, contrast;
};

// Height of pixels that are not finite upward, of pixels d beyond the image (times d), and around a footprint.
constexpr float unknown = -1e29f, beyond = -1e30f, outside = -std::numeric_limits<float>::infinity();

// The image in the exposure's coordinates. Beyond its border the heights fall with the distance, below anything inside, so
// that every pixel there leads to the nearest part of the image.
class Surface {
public:
  Surface(const Convolved &image, const Convolved &variance, std::int32_t height, std::int32_t width, std::int32_t border)
      : height_(height), width_(width), border_(border), spans_(image), variance_(variance) {}

  // Ask for what a footprint needs.
  void fetch(const Spans &spans, std::size_t footprint) const {
    const std::size_t first = spans.start(footprint), last = spans.start(footprint + 1);
    for (std::size_t i = first; i < last; ++i)
      spans_.fetch(clamp(spans.y(i), height_), clamp(spans.x0(i), width_), clamp(spans.x1(i), width_), i == first);
  }

  // Heights of the pixels x0..x1 of a row.
  void copy(std::int32_t y, std::int32_t x0, std::int32_t x1, float *out) {
    const std::int32_t row = clamp(y, height_), first = clamp(x0, width_), last = clamp(x1, width_), n = last - first + 1;
    const float *pixels = spans_.values(row, first, last);
    float *inside = out + std::clamp(first + border_ - x0, 0, x1 - x0);
    for (std::int32_t i = 0; i < n; ++i) inside[i] = pixels[i] > unknown ? pixels[i] : unknown;
    const std::int32_t above_or_below = std::abs(y - border_ - row);
    if (above_or_below == 0 && first + border_ == x0 && last + border_ == x1) return;
    for (std::int32_t x = x0; x <= x1; ++x) {
      const std::int32_t distance = std::max(above_or_below, std::abs(x - border_ - clamp(x, width_)));
      if (distance > 0) out[x - x0] = beyond * float(distance);
    }
  }

  // Whether `passes`, which the smaller noise passes more easily, is true of the noise of a pixel.
  template <typename F> bool bears_noise(std::int32_t x, std::int32_t y, F passes) const {
    const std::int32_t column = clamp(x, width_), row = clamp(y, height_);
    // A part of the noise, which costs little, decides of most summits.
    const float least = std::sqrt(variance_.middle(column, row));
    if (least == least && !passes(least)) return false;
    return passes(std::sqrt(variance_.pixel(column, row)));
  }

private:
  std::int32_t clamp(std::int32_t i, std::int32_t length) const { return std::clamp(i - border_, 0, length - 1); }

  std::int32_t height_, width_, border_;
  ConvolvedSpans spans_;
  Convolved variance_;
};

// The greatest of n adjacent cells each and its neighbours; of equals the first, so that a plateau has one summit.
STREAMCHAR_MULTIVERSION void lead_uphill(const float *height, std::int32_t cell, std::int32_t n, std::int32_t width, std::int32_t *__restrict to) {
  const std::int32_t steps[9] = {-width - 1, -width, -width + 1, -1, 0, 1, width - 1, width, width + 1};
  for (std::int32_t i = 0; i < n; ++i) {
    float best = height[i + steps[0]];
    std::int32_t step = steps[0];
    for (int k = 1; k < 9; ++k) {
      const float here = height[i + steps[k]];
      step = here > best ? steps[k] : step;
      best = here > best ? here : best;
    }
    to[i] = cell + i + step;
  }
}

// Whether each of n adjacent cells is in another basin than the cell a step away, and that in one.
STREAMCHAR_MULTIVERSION void flag_edges(const std::int32_t *basin, std::int32_t n, std::int32_t step, std::int32_t *__restrict flags) {
  for (std::int32_t i = 0; i < n; ++i) flags[i] = (basin[i] != basin[i + step]) & (basin[i + step] >= 0);
}

// Whether lead_uphill leads each of n adjacent cells to itself.
STREAMCHAR_MULTIVERSION void flag_summits(const float *height, std::int32_t n, std::int32_t width, std::int32_t *__restrict flags) {
  const float *up = height - width, *down = height + width;
  for (std::int32_t i = 0; i < n; ++i) {
    const float here = height[i];
    flags[i] = (here > up[i - 1]) & (here > up[i]) & (here > up[i + 1]) & (here > height[i - 1]) & (here >= height[i + 1]) & (here >= down[i - 1]) &
               (here >= down[i]) & (here >= down[i + 1]);
  }
}

// List `first` + i for those of n flags i that are set, and return their number.
std::size_t list_flagged(const std::int32_t *flags, std::int32_t n, std::int32_t first, std::int32_t *__restrict list) {
  std::size_t count = 0;
  for (std::int32_t i = 0; i < n; ++i) {
    list[count] = first + i;
    count += flags[i];
  }
  return count;
}

struct Parts {
  Components spans;
  std::vector<Peak> peaks;
  std::vector<std::int64_t> origin;
};

class Splitter {
public:
  Splitter(Surface surface, Prominent prominent) : surface_(surface), prominent_(prominent) {}

  void split(const Spans &spans, std::size_t footprint, Parts &parts) {
    gather(spans, footprint);
    find_summits();
    if (footprint + 1 < spans.size()) surface_.fetch(spans, footprint + 1);
    if (is_single()) {
      append_whole(spans, footprint, parts);
      return;
    }
    ascend();
    join();
    append_parts(spans, footprint, parts);
  }

private:
  struct Saddle {
    std::uint64_t order; // highest first, then in reading order
    std::int32_t a, b;   // basins, the lower number first
    std::int32_t before; // the saddle listed before this one of the same first basin, or -1
  };

  // One row of a footprint in the box.
  struct Row {
    std::int32_t first, last;
    std::int32_t size() const { return last - first + 1; }
    // Whole vectors cost less than the cells that do not fill one; what is written behind the row is not looked at before it is written again.
    std::int32_t whole_vectors() const { return (size() + 7) / 8 * 8; }
  };

  // Copy the heights into a box one pixel wider than the footprint on every side.
  void gather(const Spans &spans, std::size_t footprint) {
    const std::size_t first = spans.start(footprint), last = spans.start(footprint + 1);
    const Region box = spans.box(footprint);
    left_ = std::int32_t(box.x0) - 1;
    top_ = std::int32_t(box.y0) - 1;
    width_ = std::int32_t(box.x1) + 2 - left_;
    const std::size_t size = std::size_t(width_) * (box.y1 + 2 - top_);
    if (size > std::size_t(INT32_MAX) / 2) throw std::length_error("the footprint's box has too many pixels");
    steps_ = {1, width_ - 1, width_, width_ + 1};
    height_.assign(size + 8, outside);
    rows_.clear();
    flags_.resize(width_ + 8);
    flagged_.resize(width_);
    for (std::size_t i = first; i < last; ++i) {
      const std::int32_t cell = (spans.y(i) - top_) * width_ + spans.x0(i) - left_;
      surface_.copy(spans.y(i), spans.x0(i), spans.x1(i), height_.data() + cell);
      rows_.push_back({cell, cell + spans.x1(i) - spans.x0(i)});
    }
  }

  bool above(std::int32_t a, std::int32_t b) const { return height_[a] != height_[b] ? height_[a] > height_[b] : a < b; }

  Peak peak(std::int32_t cell) const { return {cell % width_ + left_, cell / width_ + top_, height_[cell]}; }

  template <typename F> bool bears_noise(std::int32_t cell, F passes) const {
    return surface_.bears_noise(cell % width_ + left_, cell / width_ + top_, passes);
  }

  // Do something with each cell of a row that is flagged.
  template <typename F> void for_flagged(const Row &row, F act) {
    const std::size_t count = list_flagged(flags_.data(), row.size(), row.first, flagged_.data());
    for (std::size_t i = 0; i < count; ++i) act(flagged_[i]);
  }

  // List the cells without a greater neighbour, and find the greatest of all.
  void find_summits() {
    summits_.clear();
    for (const Row &row : rows_) {
      flag_summits(height_.data() + row.first, row.whole_vectors(), width_, flags_.data());
      for_flagged(row, [this](std::int32_t cell) { summits_.push_back(cell); });
    }
    greatest_ = summits_.front();
    for (const std::int32_t summit : summits_)
      if (height_[summit] > height_[greatest_]) greatest_ = summit;
  }

  bool is_significant(std::int32_t cell) const {
    return bears_noise(cell, [&](float noise) { return height_[cell] >= prominent_.significance * noise; });
  }

  // Whether no summit besides the greatest is significant: then there is nothing to part.
  bool is_single() const {
    return std::none_of(summits_.begin(), summits_.end(), [this](std::int32_t summit) { return summit != greatest_ && is_significant(summit); });
  }

  // Lead every cell to its greatest neighbour and so to a summit.
  void ascend() {
    up_.resize(height_.size());
    basin_.assign(height_.size(), -1);
    for (std::size_t i = 0; i < summits_.size(); ++i) basin_[summits_[i]] = std::int32_t(i);
    for (const Row &row : rows_) lead_uphill(height_.data() + row.first, row.first, row.whole_vectors(), width_, up_.data() + row.first);
    const std::int32_t *up = up_.data();
    std::int32_t *basin = basin_.data();
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell) {
        std::int32_t at = up[up[up[cell]]];
        while (basin[at] < 0) at = up[at];
        basin[cell] = basin[at];
      }
  }

  // List the highest place where each pair of basins touches, highest first; where they are equal, in reading order.
  void list_saddles() {
    saddles_.clear();
    latest_.assign(summits_.size(), -1);
    for (const Row &row : rows_)
      for (int k = 0; k < 4; ++k) {
        flag_edges(basin_.data() + row.first, row.whole_vectors(), steps_[k], flags_.data());
        for_flagged(row, [&](std::int32_t cell) { touch(cell, cell + steps_[k], 4 * std::uint32_t(cell) + k); });
      }
    std::sort(saddles_.begin(), saddles_.end(), [](const Saddle &a, const Saddle &b) { return a.order < b.order; });
  }

  void touch(std::int32_t cell, std::int32_t near, std::uint32_t place) {
    const std::int32_t a = std::min(basin_[cell], basin_[near]), b = std::max(basin_[cell], basin_[near]);
    const std::uint64_t order = order_of(std::min(height_[cell], height_[near]), place);
    for (std::int32_t i = latest_[a]; i >= 0; i = saddles_[i].before)
      if (saddles_[i].b == b) {
        saddles_[i].order = std::min(saddles_[i].order, order);
        return;
      }
    saddles_.push_back({order, a, b, latest_[a]});
    latest_[a] = std::int32_t(saddles_.size()) - 1;
  }

  static std::uint64_t order_of(float height, std::uint32_t place) { return std::uint64_t(~ascending(height)) << 32 | place; }

  // An unsigned integer that increases with the number; both zeros are the same.
  static std::uint32_t ascending(float value) {
    std::uint32_t bits;
    value += 0.0f;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }

  // The lower of the two cells that touch there.
  float height_of(const Saddle &saddle) const {
    const std::uint32_t place = std::uint32_t(saddle.order), cell = place / 4;
    return std::min(height_[cell], height_[cell + steps_[place % 4]]);
  }

  bool stands_alone(std::int32_t summit, float saddle) const {
    const float value = height_[summits_[summit]], rise = value - saddle;
    return rise >= prominent_.contrast * std::max(saddle, 0.0f) && bears_noise(summits_[summit], [&](float noise) {
             return value >= prominent_.significance * noise && rise >= prominent_.prominence * noise;
           });
  }

  // Lower the water: where two regions first touch, the fainter one's summit has its key saddle. A summit that does
  // not stand out is given to the region of the basin it touches.
  void join() {
    const std::size_t count = summits_.size();
    region_.resize(count);
    group_.resize(count);
    for (std::size_t i = 0; i < count; ++i) region_[i] = group_[i] = std::int32_t(i);
    list_saddles();
    for (const Saddle &saddle : saddles_) {
      std::int32_t bright = find_root(region_, saddle.a), faint = find_root(region_, saddle.b), beside = saddle.a;
      if (bright == faint) continue;
      if (above(summits_[faint], summits_[bright])) {
        std::swap(bright, faint);
        beside = saddle.b;
      }
      region_[faint] = bright;
      if (!stands_alone(faint, height_of(saddle))) group_[find_root(group_, faint)] = find_root(group_, beside);
    }
  }

  void append_whole(const Spans &spans, std::size_t footprint, Parts &parts) const {
    const std::size_t first = spans.start(footprint), last = spans.start(footprint + 1);
    parts.spans.y.insert(parts.spans.y.end(), spans.y.data() + first, spans.y.data() + last);
    parts.spans.x0.insert(parts.spans.x0.end(), spans.x0.data() + first, spans.x0.data() + last);
    parts.spans.x1.insert(parts.spans.x1.end(), spans.x1.data() + first, spans.x1.data() + last);
    append_peak(std::int64_t(parts.spans.y.size()), greatest_, footprint, parts);
  }

  void append_peak(std::int64_t end, std::int32_t cell, std::size_t footprint, Parts &parts) const {
    parts.spans.start.push_back(end);
    parts.peaks.push_back(peak(cell));
    parts.origin.push_back(std::int64_t(footprint));
  }

  // Write one part per group, the brightest first.
  void append_parts(const Spans &spans, std::size_t footprint, Parts &parts) {
    std::vector<std::int32_t> leaders;
    for (std::int32_t i = 0; i < std::int32_t(summits_.size()); ++i)
      if (find_root(group_, i) == i) leaders.push_back(i);
    std::sort(leaders.begin(), leaders.end(),
              [this](std::int32_t a, std::int32_t b) { return brighter(peak(summits_[a]), peak(summits_[b])); });
    std::vector<std::int32_t> number(summits_.size());
    for (std::size_t i = 0; i < leaders.size(); ++i) number[leaders[i]] = std::int32_t(i);
    for (std::size_t i = 0; i < number.size(); ++i) number[i] = number[find_root(group_, std::int32_t(i))];
    std::vector<Run> runs;
    std::vector<std::int32_t> part;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const std::size_t span = spans.start(footprint) + i;
      for (std::int32_t cell = rows_[i].first; cell <= rows_[i].last; ++cell) {
        const std::int32_t x = spans.x0(span) + cell - rows_[i].first, owner = number[basin_[cell]];
        if (cell == rows_[i].first || owner != part.back()) {
          runs.push_back({spans.y(span), x, x, true});
          part.push_back(owner);
        }
        runs.back().x1 = x;
      }
    }
    const Components grouped = group_runs(runs, part, std::int32_t(leaders.size()), {});
    const std::int64_t offset = parts.spans.start.back();
    parts.spans.y.insert(parts.spans.y.end(), grouped.y.begin(), grouped.y.end());
    parts.spans.x0.insert(parts.spans.x0.end(), grouped.x0.begin(), grouped.x0.end());
    parts.spans.x1.insert(parts.spans.x1.end(), grouped.x1.begin(), grouped.x1.end());
    for (std::size_t i = 0; i < leaders.size(); ++i)
      append_peak(offset + grouped.start[i + 1], summits_[leaders[i]], footprint, parts);
  }

  Surface surface_;
  Prominent prominent_;
  std::int32_t left_ = 0, top_ = 0, width_ = 0, greatest_ = 0;
  std::array<std::int32_t, 4> steps_{}; // to the neighbours that come later in reading order
  std::vector<float> height_;
  std::vector<Row> rows_;
  std::vector<std::int32_t> up_, basin_, summits_, region_, group_, latest_;
  std::vector<Saddle> saddles_;
  std::vector<std::int32_t> flags_, flagged_;
};

nb::tuple split_footprints(Box image, Box variance, std::int64_t border, I32 y, I32 x0, I32 x1, I64 start, float significance, float prominence,
                           float contrast, std::optional<Vector<const float>> image_taps, std::optional<Vector<const float>> variance_taps) {
  const std::size_t around = image_taps && image_taps->shape(0) > 0 ? 2 * (image_taps->shape(0) - 1) : 0;
  if (image.shape(0) <= around || image.shape(1) <= around || border < 0 || border > INT32_MAX / 4)
    throw std::invalid_argument("no pixels to follow");
  const std::size_t height = image.shape(0) - around, width = image.shape(1) - around;
  const Convolved heights = convolved(image, image_taps, height, width), noise = convolved(variance, variance_taps, height, width);
  const Spans spans{y, x0, x1, start};
  check_spans(spans, height + 2 * std::size_t(border), width + 2 * std::size_t(border));
  Parts parts;
  {
    nb::gil_scoped_release release;
    Splitter splitter(Surface(heights, noise, std::int32_t(height), std::int32_t(width), std::int32_t(border)), {significance, prominence, contrast});
    for (std::size_t i = 0; i < spans.size(); ++i) splitter.split(spans, i, parts);
  }
  std::vector<std::int32_t> peak_x, peak_y;
  std::vector<float> value;
  for (const Peak &peak : parts.peaks) {
    peak_x.push_back(peak.x);
    peak_y.push_back(peak.y);
    value.push_back(peak.value);
  }
  return nb::make_tuple(copy_to_numpy(parts.spans.y), copy_to_numpy(parts.spans.x0), copy_to_numpy(parts.spans.x1),
                        copy_to_numpy(parts.spans.start), copy_to_numpy(peak_x), copy_to_numpy(peak_y), copy_to_numpy(value),
                        copy_to_numpy(parts.origin));
}

} // namespace

void register_split(nb::module_ &m) {
  m.def("split_footprints", &split_footprints, nb::arg("image"), nb::arg("variance"), nb::arg("border"), nb::arg("y"), nb::arg("x0"),
        nb::arg("x1"), nb::arg("start"), nb::arg("significance"), nb::arg("prominence"), nb::arg("contrast"), nb::arg("image_taps").none() = nb::none(), nb::arg("variance_taps").none() = nb::none(),
        "Split footprints on an exposure that is wider than image by border pixels on every side. Every pixel belongs to the summit that "
        "steepest ascent inside the footprint leads to (8 neighbours). With s the height of the highest saddle to a greater summit and "
        "n = sqrt(variance) at its pixel, a summit v stands alone when v >= significance x n, v - s >= prominence x n and "
        "v - s >= contrast x max(s, 0); its pixels else go to the summit they touch at s. The greatest summit of a footprint always stands "
        "alone. Returns span y, x0, x1 (int32) and the first span of each part (int64), the summit's x, y (int32) and value (float32) of each "
        "part, greatest first in each footprint, and the footprint it is a part of (int64). Image and variance may be wider and have taps, as "
        "the variance of detect; the image is then convolved to the rounding of smooth.");
}

} // namespace streamchar
