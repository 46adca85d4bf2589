// Split footprints into the basins of their prominent peaks: steepest ascent, then joining across the highest saddles.
#include "arrays.hpp"
#include "results.hpp"
#include "smooth.hpp"
#include <algorithm>
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
  Surface(View image, const Convolved &variance, std::int32_t border) : image_(image), variance_(variance), border_(border) {}

  // Heights of the pixels x0..x1 of a row.
  void copy(std::int32_t y, std::int32_t x0, std::int32_t x1, float *out) const {
    const std::int32_t row = clamp(y, image_.height), below = std::abs(y - border_ - row);
    const float *pixels = image_.row(row);
    for (std::int32_t x = x0; x <= x1; ++x) {
      const std::int32_t column = x - border_, beside = std::max(std::max(-column, column - image_.width + 1), 0);
      const std::int32_t distance = std::max(below, beside);
      const float pixel = distance > 0 ? beyond * float(distance) : pixels[column];
      *out++ = pixel > unknown || distance > 0 ? pixel : unknown;
    }
  }

  float noise(std::int32_t x, std::int32_t y) const {
    return std::sqrt(variance_.pixel(clamp(x, image_.width), clamp(y, image_.height)));
  }

private:
  std::int32_t clamp(std::int32_t i, std::int32_t length) const { return std::clamp(i - border_, 0, length - 1); }

  View image_;
  Convolved variance_;
  std::int32_t border_;
};

std::int32_t find(std::vector<std::int32_t> &parent, std::int32_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
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
    float height;
    std::int32_t a, b;
  };

  // One row of a footprint in the box.
  struct Row {
    std::int32_t first, last;
  };

  // Copy the heights into a box one pixel wider than the footprint on every side.
  void gather(const Spans &spans, std::size_t footprint) {
    const std::size_t first = spans.start(footprint), last = spans.start(footprint + 1);
    left_ = *std::min_element(spans.x0.data() + first, spans.x0.data() + last) - 1;
    const std::int32_t right = *std::max_element(spans.x1.data() + first, spans.x1.data() + last) + 1;
    top_ = spans.y(first) - 1;
    const std::int32_t bottom = spans.y(last - 1) + 1;
    width_ = right - left_ + 1;
    const std::size_t size = std::size_t(width_) * (bottom - top_ + 1);
    if (size > std::size_t(INT32_MAX)) throw std::length_error("the footprint's box has too many pixels");
    height_.assign(size, outside);
    rows_.clear();
    for (std::size_t i = first; i < last; ++i) {
      const std::int32_t cell = (spans.y(i) - top_) * width_ + spans.x0(i) - left_;
      surface_.copy(spans.y(i), spans.x0(i), spans.x1(i), height_.data() + cell);
      rows_.push_back({cell, cell + spans.x1(i) - spans.x0(i)});
    }
  }

  // The greatest of a cell and its neighbours; of equals the first, so that a plateau has one summit.
  std::int32_t uphill(std::int32_t cell) const {
    const std::int32_t steps[8] = {-width_, -width_ + 1, -1, 0, 1, width_ - 1, width_, width_ + 1};
    std::int32_t best = cell - width_ - 1;
    for (const std::int32_t step : steps)
      if (height_[cell + step] > height_[best]) best = cell + step;
    return best;
  }

  bool above(std::int32_t a, std::int32_t b) const { return height_[a] != height_[b] ? height_[a] > height_[b] : a < b; }

  Peak peak(std::int32_t cell) const { return {cell % width_ + left_, cell / width_ + top_, height_[cell]}; }

  float noise(std::int32_t cell) const { return surface_.noise(cell % width_ + left_, cell / width_ + top_); }

  // Whether no summit besides the greatest is significant: then there is nothing to part.
  bool is_single() {
    greatest_ = rows_.front().first;
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell)
        if (height_[cell] > height_[greatest_]) greatest_ = cell;
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell)
        if (height_[cell] >= height_[cell - 1] && height_[cell] >= height_[cell + 1] && uphill(cell) == cell && cell != greatest_ &&
            height_[cell] >= prominent_.significance * noise(cell))
          return false;
    return true;
  }

  // Lead every cell to its greatest neighbour and number the summits.
  void ascend() {
    up_.resize(height_.size());
    basin_.assign(height_.size(), -1);
    summits_.clear();
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell) {
        up_[cell] = uphill(cell);
        if (up_[cell] != cell) continue;
        basin_[cell] = std::int32_t(summits_.size());
        summits_.push_back(cell);
      }
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell) {
        path_.clear();
        std::int32_t at = cell;
        for (; basin_[at] < 0; at = up_[at]) path_.push_back(at);
        for (const std::int32_t below : path_) basin_[below] = basin_[at];
      }
  }

  // List where basins touch, highest first; where they are equal, in reading order.
  void list_saddles() {
    const std::int32_t steps[4] = {1, width_ - 1, width_, width_ + 1};
    saddles_.clear();
    order_.clear();
    for (const Row &row : rows_)
      for (std::int32_t cell = row.first; cell <= row.last; ++cell) {
        const std::size_t before = saddles_.size();
        for (const std::int32_t step : steps) {
          const std::int32_t near = cell + step;
          if (basin_[near] < 0 || basin_[near] == basin_[cell]) continue;
          const float height = std::min(height_[cell], height_[near]);
          std::size_t known = before;
          while (known < saddles_.size() && saddles_[known].b != basin_[near]) ++known;
          if (known == saddles_.size())
            saddles_.push_back({height, basin_[cell], basin_[near]});
          else
            saddles_[known].height = std::max(saddles_[known].height, height);
        }
      }
    for (std::size_t i = 0; i < saddles_.size(); ++i) order_.push_back(std::uint64_t(~ascending(saddles_[i].height)) << 32 | i);
    std::sort(order_.begin(), order_.end());
  }

  // An unsigned integer that increases with the number.
  static std::uint32_t ascending(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }

  bool stands_alone(std::int32_t summit, float saddle) const {
    const float value = height_[summits_[summit]], stdev = noise(summits_[summit]), rise = value - saddle;
    return value >= prominent_.significance * stdev && rise >= prominent_.prominence * stdev &&
           rise >= prominent_.contrast * std::max(saddle, 0.0f);
  }

  // Lower the water: where two regions first touch, the fainter one's summit has its key saddle. A summit that does
  // not stand out is given to the region of the basin it touches.
  void join() {
    const std::size_t count = summits_.size();
    region_.resize(count);
    group_.resize(count);
    for (std::size_t i = 0; i < count; ++i) region_[i] = group_[i] = std::int32_t(i);
    list_saddles();
    for (const std::uint64_t key : order_) {
      const Saddle &saddle = saddles_[key & 0xffffffffu];
      std::int32_t bright = find(region_, saddle.a), faint = find(region_, saddle.b), beside = saddle.a;
      if (bright == faint) continue;
      if (above(summits_[faint], summits_[bright])) {
        std::swap(bright, faint);
        beside = saddle.b;
      }
      region_[faint] = bright;
      if (!stands_alone(faint, saddle.height)) group_[find(group_, faint)] = find(group_, beside);
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
      if (find(group_, i) == i) leaders.push_back(i);
    std::sort(leaders.begin(), leaders.end(),
              [this](std::int32_t a, std::int32_t b) { return brighter(peak(summits_[a]), peak(summits_[b])); });
    std::vector<std::int32_t> number(summits_.size());
    for (std::size_t i = 0; i < leaders.size(); ++i) number[leaders[i]] = std::int32_t(i);
    for (std::size_t i = 0; i < number.size(); ++i) number[i] = number[find(group_, std::int32_t(i))];
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
  std::vector<float> height_;
  std::vector<Row> rows_;
  std::vector<std::int32_t> up_, basin_, summits_, path_, region_, group_;
  std::vector<Saddle> saddles_;
  std::vector<std::uint64_t> order_;
};

nb::tuple split_footprints(Plane<const float> image, Box variance, std::int64_t border, I32 y, I32 x0, I32 x1, I64 start,
                           float significance, float prominence, float contrast, std::optional<Vector<const float>> taps) {
  const Convolved noise = convolved(variance, taps, image.shape(0), image.shape(1));
  if (image.shape(0) == 0 || image.shape(1) == 0 || border < 0 || border > INT32_MAX / 4) throw std::invalid_argument("no pixels to follow");
  const Spans spans{y, x0, x1, start};
  check_spans(spans, image.shape(0) + 2 * std::size_t(border), image.shape(1) + 2 * std::size_t(border));
  Parts parts;
  {
    nb::gil_scoped_release release;
    Splitter splitter(Surface(view(image), noise, std::int32_t(border)), {significance, prominence, contrast});
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
        nb::arg("x1"), nb::arg("start"), nb::arg("significance"), nb::arg("prominence"), nb::arg("contrast"), nb::arg("taps").none() = nb::none(),
        "Split footprints on an exposure that is wider than image by border pixels on every side. Every pixel belongs to the summit that "
        "steepest ascent inside the footprint leads to (8 neighbours). With s the height of the highest saddle to a greater summit and "
        "n = sqrt(variance) at its pixel, a summit v stands alone when v >= significance x n, v - s >= prominence x n and "
        "v - s >= contrast x max(s, 0); its pixels else go to the summit they touch at s. The greatest summit of a footprint always stands "
        "alone. Returns span y, x0, x1 (int32) and the first span of each part (int64), the summit's x, y (int32) and value (float32) of each "
        "part, greatest first in each footprint, and the footprint it is a part of (int64). The variance may be wider and have taps, as for "
        "detect.");
}

} // namespace streamchar
