// Footprints with their peaks, and the box of one of them with what is needed of its pixels.
#pragma once
#include "results.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace streamchar {

using I32 = Vector<const std::int32_t>;
using I64 = Vector<const std::int64_t>;

// Peaks of the footprints, one after the other: those of footprint i are start[i]..start[i + 1].
struct PeakList {
  I32 x, y;
  I64 start;
  std::size_t size() const { return x.shape(0); }
};

inline void check_peaks(const Spans &spans, const PeakList &peaks) {
  if (peaks.x.shape(0) != peaks.y.shape(0)) throw std::invalid_argument("peak coordinates differ in length");
  if (peaks.start.shape(0) != spans.size() + 1 || peaks.start(0) != 0 || peaks.start(spans.size()) != std::int64_t(peaks.size()))
    throw std::invalid_argument("peak offsets do not cover the peaks");
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (peaks.start(i + 1) < peaks.start(i)) throw std::invalid_argument("peak offsets decrease");
    for (std::int64_t k = peaks.start(i); k < peaks.start(i + 1); ++k) {
      const std::int32_t x = peaks.x(std::size_t(k)), y = peaks.y(std::size_t(k));
      bool found = false;
      for (std::int64_t s = spans.start(i); s < spans.start(i + 1) && !found; ++s)
        found = spans.y(std::size_t(s)) == y && spans.x0(std::size_t(s)) <= x && spans.x1(std::size_t(s)) >= x;
      if (!found) throw std::invalid_argument("peak outside its footprint");
    }
  }
}

// The bounding box of a footprint; its cells are numbered row by row.
class BlendBox {
public:
  void take(const Spans &spans, std::size_t i) {
    const std::size_t first = std::size_t(spans.start(i)), last = std::size_t(spans.start(i + 1));
    left = *std::min_element(spans.x0.data() + first, spans.x0.data() + last);
    width = *std::max_element(spans.x1.data() + first, spans.x1.data() + last) - left + 1;
    top = spans.y(first);
    height = spans.y(last - 1) - top + 1;
    inside_.assign(std::size_t(width) * std::size_t(height), 0);
    for (std::size_t s = first; s < last; ++s)
      std::fill_n(inside_.begin() + std::ptrdiff_t(place(spans.x0(s) - left, spans.y(s) - top)), spans.x1(s) - spans.x0(s) + 1,
                  std::uint8_t(1));
  }
  std::size_t cells() const { return inside_.size(); }
  std::size_t place(std::int32_t x, std::int32_t y) const { return std::size_t(y) * std::size_t(width) + std::size_t(x); }
  bool inside(std::int32_t x, std::int32_t y) const {
    return x >= 0 && y >= 0 && x < width && y < height && inside_[place(x, y)];
  }

  // Whether each pixel of a row of the box is inside: 1 or 0.
  const std::uint8_t *row(std::int32_t y) const { return inside_.data() + place(0, y); }

  std::int32_t left = 0, top = 0, width = 0, height = 0;

private:
  std::vector<std::uint8_t> inside_;
};

} // namespace streamchar
