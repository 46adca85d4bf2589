// Row runs of a thresholded plane and their 8-connected components.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace streamchar {

// Pixels x0..x1 (inclusive) of row y. `reaches` tells whether one of them passes the second, higher threshold.
struct Run {
  std::int32_t y, x0, x1;
  bool reaches;
};

// Runs grouped by component: component i holds runs start[i]..start[i + 1], ordered by (y, x).
struct Components {
  std::vector<std::int32_t> y, x0, x1;
  std::vector<std::int64_t> start{0};
  std::size_t size() const { return start.size() - 1; }
};

// A plane or a box of one, read only.
struct View {
  const float *data;
  std::size_t stride;
  std::int32_t height, width;
  const float *row(std::int32_t y) const { return data + std::size_t(y) * stride; }
};

// The root of i's tree, to which the way becomes shorter.
inline std::int32_t find_root(std::vector<std::int32_t> &parent, std::int32_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

// Number the 8-connected components of runs ordered by (y, x); returns how many there are. The order of the numbers is
// that of the component's root: a run takes the root of the run above its first pixel or a new one, and the other runs
// above join it (so the root is the one met from the left, not always the first of the component).
std::int32_t label_runs(const std::vector<Run> &runs, std::vector<std::int32_t> &component);

// Group runs by component, leaving out those where keep is false (keep empty: all stay).
Components group_runs(const std::vector<Run> &runs, const std::vector<std::int32_t> &component, std::int32_t count,
                      const std::vector<std::uint8_t> &keep);

// What a pixel must reach: value, or value x sqrt(variance) when `variance` is given; `include` multiplies it for the
// second threshold that one pixel of every component must reach.
struct Threshold {
  float value, include;
  std::int64_t min_pixels;
};

struct Convolved;

// Components of the pixels at or above the threshold (below minus the threshold into `negative`, unless null).
// NaN pixels and pixels of NaN or negative variance are never in.
void find_components(const Convolved &image, const Convolved &variance, Threshold threshold, Components *positive, Components *negative);

struct Peak {
  std::int32_t x, y;
  float value;
};

inline bool brighter(const Peak &a, const Peak &b) {
  return a.value != b.value ? a.value > b.value : a.x != b.x ? a.x < b.x : a.y < b.y;
}

// Append the peaks of the runs first..last of a component: pixels off the outermost ring of the image without a strictly
// greater neighbour (negative: smaller), sorted; at least one.
void find_component_peaks(View image, const std::int32_t *y, const std::int32_t *x0, const std::int32_t *x1, std::size_t first,
                          std::size_t last, bool negative, std::vector<Peak> &peaks);

} // namespace streamchar
