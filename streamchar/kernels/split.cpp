// Split footprints into the basins of their prominent peaks: steepest ascent, then joining across the highest saddles.
#include "arrays.hpp"
#include "results.hpp"
#include "runs.hpp"
#include <algorithm>
#include <cmath>
#include <nanobind/stl/optional.h>
#include <optional>
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

// The image in the exposure's coordinates. Outside of it the values fall with the distance, below anything inside, so that
// every pixel there leads to the nearest part of the image; NaN lies in between.
class Surface {
public:
  Surface(View image, View variance, std::int32_t border) : image_(image), variance_(variance), border_(border) {}

  float value(std::int32_t x, std::int32_t y) const {
    const std::int32_t column = clamp(x, image_.width), row = clamp(y, image_.height);
    const std::int32_t distance = std::max(std::abs(x - border_ - column), std::abs(y - border_ - row));
    if (distance > 0) return -1e30f * float(distance);
    const float pixel = image_.row(row)[column];
    return std::isnan(pixel) ? -1e29f : pixel;
  }

  float noise(std::int32_t x, std::int32_t y) const {
    return std::sqrt(variance_.row(clamp(y, variance_.height))[clamp(x, variance_.width)]);
  }

private:
  std::int32_t clamp(std::int32_t i, std::int32_t length) const { return std::clamp(i - border_, 0, length - 1); }

  View image_, variance_;
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
    ascend();
    join();
    append(spans, footprint, parts);
  }

private:
  struct Saddle {
    float value;
    std::int32_t a, b;
  };

  // List the pixels and map them, in a box one pixel wider than the footprint on every side.
  void gather(const Spans &spans, std::size_t footprint) {
    const std::size_t first = spans.start(footprint), last = spans.start(footprint + 1);
    const std::int32_t left = *std::min_element(spans.x0.data() + first, spans.x0.data() + last) - 1;
    const std::int32_t right = *std::max_element(spans.x1.data() + first, spans.x1.data() + last) + 1;
    const std::int32_t top = spans.y(first) - 1, bottom = spans.y(last - 1) + 1;
    stride_ = right - left + 1;
    map_.assign(std::size_t(stride_) * (bottom - top + 1), -1);
    pixels_.clear();
    cells_.clear();
    for (std::size_t i = first; i < last; ++i)
      for (std::int32_t x = spans.x0(i); x <= spans.x1(i); ++x) {
        const std::size_t cell = std::size_t(spans.y(i) - top) * stride_ + (x - left);
        map_[cell] = std::int32_t(pixels_.size());
        cells_.push_back(cell);
        pixels_.push_back({x, spans.y(i), surface_.value(x, spans.y(i))});
      }
  }

  // Ties go to the earlier pixel, so that a plateau has one summit.
  bool above(std::int32_t a, std::int32_t b) const {
    return pixels_[a].value != pixels_[b].value ? pixels_[a].value > pixels_[b].value : a < b;
  }

  // Lead every pixel to its greatest neighbour and number the summits.
  void ascend() {
    const std::ptrdiff_t steps[8] = {-stride_ - 1, -stride_, -stride_ + 1, -1, 1, stride_ - 1, stride_, stride_ + 1};
    const std::int32_t count = std::int32_t(pixels_.size());
    up_.resize(count);
    for (std::int32_t i = 0; i < count; ++i) {
      std::int32_t best = i;
      for (const std::ptrdiff_t step : steps) {
        const std::int32_t near = map_[cells_[i] + step];
        if (near >= 0 && above(near, best)) best = near;
      }
      up_[i] = best;
    }
    basin_.assign(count, -1);
    summits_.clear();
    for (std::int32_t i = 0; i < count; ++i) {
      path_.clear();
      std::int32_t at = i;
      for (; basin_[at] < 0 && up_[at] != at; at = up_[at]) path_.push_back(at);
      if (basin_[at] < 0) {
        basin_[at] = std::int32_t(summits_.size());
        summits_.push_back(at);
      }
      for (const std::int32_t below : path_) basin_[below] = basin_[at];
    }
  }

  void list_saddles() {
    const std::ptrdiff_t steps[4] = {1, stride_ - 1, stride_, stride_ + 1};
    saddles_.clear();
    for (std::int32_t i = 0; i < std::int32_t(pixels_.size()); ++i)
      for (const std::ptrdiff_t step : steps) {
        const std::int32_t near = map_[cells_[i] + step];
        if (near >= 0 && basin_[near] != basin_[i])
          saddles_.push_back({std::min(pixels_[i].value, pixels_[near].value), basin_[i], basin_[near]});
      }
    std::sort(saddles_.begin(), saddles_.end(), [](const Saddle &p, const Saddle &q) {
      return p.value != q.value ? p.value > q.value : p.a != q.a ? p.a < q.a : p.b < q.b;
    });
  }

  bool stands_alone(std::int32_t summit, float saddle) const {
    const Peak &peak = pixels_[summits_[summit]];
    const float noise = surface_.noise(peak.x, peak.y), height = peak.value - saddle;
    return peak.value >= prominent_.significance * noise && height >= prominent_.prominence * noise &&
           height >= prominent_.contrast * std::max(saddle, 0.0f);
  }

  // Lower the water: where two regions first touch, the fainter one's summit has its key saddle. A summit that does
  // not stand out is given to the region of the basin it touches.
  void join() {
    const std::size_t count = summits_.size();
    region_.resize(count);
    group_.resize(count);
    for (std::size_t i = 0; i < count; ++i) region_[i] = group_[i] = std::int32_t(i);
    if (count == 1) return;
    list_saddles();
    for (const Saddle &saddle : saddles_) {
      std::int32_t bright = find(region_, saddle.a), faint = find(region_, saddle.b), beside = saddle.a;
      if (bright == faint) continue;
      if (above(summits_[faint], summits_[bright])) {
        std::swap(bright, faint);
        beside = saddle.b;
      }
      region_[faint] = bright;
      if (!stands_alone(faint, saddle.value)) group_[find(group_, faint)] = find(group_, beside);
    }
  }

  // Write one part per group, the brightest first.
  void append(const Spans &spans, std::size_t footprint, Parts &parts) {
    std::vector<std::int32_t> leaders;
    for (std::int32_t i = 0; i < std::int32_t(summits_.size()); ++i)
      if (find(group_, i) == i) leaders.push_back(i);
    std::sort(leaders.begin(), leaders.end(),
              [this](std::int32_t a, std::int32_t b) { return brighter(pixels_[summits_[a]], pixels_[summits_[b]]); });
    std::vector<std::int32_t> number(summits_.size());
    for (std::size_t i = 0; i < leaders.size(); ++i) number[leaders[i]] = std::int32_t(i);
    for (std::int32_t &basin : basin_) basin = number[find(group_, basin)];
    std::vector<Run> runs;
    std::vector<std::int32_t> part;
    std::size_t pixel = 0;
    for (std::int64_t i = spans.start(footprint); i < spans.start(footprint + 1); ++i)
      for (std::int32_t x = spans.x0(i); x <= spans.x1(i); ++x, ++pixel) {
        if (x == spans.x0(i) || basin_[pixel] != basin_[pixel - 1]) {
          runs.push_back({spans.y(i), x, x, true});
          part.push_back(basin_[pixel]);
        }
        runs.back().x1 = x;
      }
    const Components grouped = group_runs(runs, part, std::int32_t(leaders.size()), {});
    const std::int64_t offset = parts.spans.start.back();
    parts.spans.y.insert(parts.spans.y.end(), grouped.y.begin(), grouped.y.end());
    parts.spans.x0.insert(parts.spans.x0.end(), grouped.x0.begin(), grouped.x0.end());
    parts.spans.x1.insert(parts.spans.x1.end(), grouped.x1.begin(), grouped.x1.end());
    for (std::size_t i = 0; i < leaders.size(); ++i) {
      parts.spans.start.push_back(offset + grouped.start[i + 1]);
      parts.peaks.push_back(pixels_[summits_[leaders[i]]]);
      parts.origin.push_back(std::int64_t(footprint));
    }
  }

  Surface surface_;
  Prominent prominent_;
  std::ptrdiff_t stride_ = 0;
  std::vector<std::int32_t> map_, up_, basin_, summits_, path_, region_, group_;
  std::vector<std::size_t> cells_;
  std::vector<Peak> pixels_;
  std::vector<Saddle> saddles_;
};

nb::tuple split_footprints(Plane<const float> image, Plane<const float> variance, std::int64_t border, I32 y, I32 x0, I32 x1, I64 start,
                           float significance, float prominence, float contrast) {
  if (variance.shape(0) != image.shape(0) || variance.shape(1) != image.shape(1))
    throw std::invalid_argument("image and variance differ in shape");
  if (image.shape(0) == 0 || image.shape(1) == 0 || border < 0 || border > INT32_MAX / 4) throw std::invalid_argument("no pixels to follow");
  const Spans spans{y, x0, x1, start};
  check_spans(spans, image.shape(0) + 2 * std::size_t(border), image.shape(1) + 2 * std::size_t(border));
  Parts parts;
  {
    nb::gil_scoped_release release;
    Splitter splitter(Surface(view(image), view(variance), std::int32_t(border)), {significance, prominence, contrast});
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
        nb::arg("x1"), nb::arg("start"), nb::arg("significance"), nb::arg("prominence"), nb::arg("contrast"),
        "Split footprints on an exposure that is wider than image by border pixels on every side. Every pixel belongs to the summit that "
        "steepest ascent inside the footprint leads to (8 neighbours). With s the height of the highest saddle to a greater summit and "
        "n = sqrt(variance) at its pixel, a summit v stands alone when v >= significance x n, v - s >= prominence x n and "
        "v - s >= contrast x max(s, 0); its pixels else go to the summit they touch at s. The greatest summit of a footprint always stands "
        "alone. Returns span y, x0, x1 (int32) and the first span of each part (int64), the summit's x, y (int32) and value (float32) of each "
        "part, greatest first in each footprint, and the footprint it is a part of (int64).");
}

} // namespace streamchar
