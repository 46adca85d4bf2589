// Shares of blended footprints' peaks in their pixels: symmetric, monotonic templates in proportion.
#include "arrays.hpp"
#include "results.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr double opening = 0.3; // half width of a pixel's shadow at the pixel, pixels
constexpr int shadow = 5;       // length of a shadow, and rings between updates of what casts it

// A rectangle of values around a peak; the peak is its middle.
class Template {
public:
  void resize(std::int32_t half_width, std::int32_t half_height) {
    rx = half_width;
    ry = half_height;
    values.assign(std::size_t(2 * rx + 1) * std::size_t(2 * ry + 1), 0.0f);
  }
  bool holds(std::int32_t x, std::int32_t y) const { return std::abs(x) <= rx && std::abs(y) <= ry; }
  float &at(std::int32_t x, std::int32_t y) { return values[index(x, y)]; }
  float at(std::int32_t x, std::int32_t y) const { return values[index(x, y)]; }

  std::int32_t rx = 0, ry = 0;
  std::vector<float> values;

private:
  std::size_t index(std::int32_t x, std::int32_t y) const {
    return std::size_t(y + ry) * std::size_t(2 * rx + 1) + std::size_t(x + rx);
  }
};

class Deblender {
public:
  Deblender(View image, bool smooth, std::int32_t reach) : image_(image), smooth_(smooth), reach_(reach) {}

  // Append the children of one footprint, one per peak; each has its peak's pixel at least.
  void divide(const Spans &spans, std::size_t parent, const std::int32_t *px, const std::int32_t *py, std::size_t peaks,
              Components &children, std::vector<float> &shares) {
    gather(spans, parent);
    templates_.resize(peaks);
    total_.assign(inside_.size(), 0.0f);
    for (std::size_t k = 0; k < peaks; ++k) {
      build(templates_[k], px[k] - left_, py[k] - top_);
      add(templates_[k], px[k] - left_, py[k] - top_);
    }
    for (std::size_t k = 0; k < peaks; ++k) append(templates_[k], px[k] - left_, py[k] - top_, children, shares);
  }

private:
  void gather(const Spans &spans, std::size_t parent) {
    const std::size_t first = std::size_t(spans.start(parent)), last = std::size_t(spans.start(parent + 1));
    left_ = *std::min_element(spans.x0.data() + first, spans.x0.data() + last);
    width_ = *std::max_element(spans.x1.data() + first, spans.x1.data() + last) - left_ + 1;
    top_ = spans.y(first);
    height_ = spans.y(last - 1) - top_ + 1;
    const std::size_t size = std::size_t(width_) * std::size_t(height_);
    inside_.assign(size, 0);
    data_.assign(size, 0.0f);
    for (std::size_t i = first; i < last; ++i)
      for (std::int32_t x = spans.x0(i); x <= spans.x1(i); ++x) {
        const std::size_t cell = place(x - left_, spans.y(i) - top_);
        const float value = image_.row(spans.y(i))[x];
        inside_[cell] = 1;
        data_[cell] = std::isfinite(value) ? value : 0.0f;
      }
  }

  std::size_t place(std::int32_t x, std::int32_t y) const { return std::size_t(y) * std::size_t(width_) + std::size_t(x); }
  bool inside(std::int32_t x, std::int32_t y) const { return x >= 0 && y >= 0 && x < width_ && y < height_ && inside_[place(x, y)]; }

  void build(Template &t, std::int32_t cx, std::int32_t cy) {
    t.resize(std::min({cx, width_ - 1 - cx, reach_}), std::min({cy, height_ - 1 - cy, reach_}));
    for (std::int32_t y = -t.ry; y <= t.ry; ++y)
      for (std::int32_t x = -t.rx; x <= t.rx; ++x)
        if (inside(cx + x, cy + y) && inside(cx - x, cy - y))
          t.at(x, y) = std::max(std::min(data_[place(cx + x, cy + y)], data_[place(cx - x, cy - y)]), 0.0f);
    if (smooth_) smooth(t);
    make_monotonic(t);
  }

  // Medians of 5 x 5 pixels where all of them are in the rectangle.
  void smooth(Template &t) {
    before_ = t;
    float window[25];
    for (std::int32_t y = -t.ry + 2; y <= t.ry - 2; ++y)
      for (std::int32_t x = -t.rx + 2; x <= t.rx - 2; ++x) {
        int n = 0;
        for (std::int32_t dy = -2; dy <= 2; ++dy)
          for (std::int32_t dx = -2; dx <= 2; ++dx) window[n++] = before_.at(x + dx, y + dy);
        std::nth_element(window, window + 12, window + 25);
        t.at(x, y) = window[12];
      }
  }

  // From the peak outward, ring by ring, no pixel in the shadow of another exceeds it.
  void make_monotonic(Template &t) {
    before_ = t;
    const std::int32_t rings = std::max(t.rx, t.ry);
    for (std::int32_t ring = 0; ring <= rings; ++ring) {
      if (ring % shadow == 0) before_ = t;
      for (std::int32_t i = -ring; i <= ring; ++i) {
        cast(t, ring, i);
        cast(t, i, ring);
        cast(t, -ring, i);
        cast(t, i, -ring);
      }
    }
  }

  void cast(Template &t, std::int32_t x, std::int32_t y) const {
    if (!before_.holds(x, y)) return;
    const float value = before_.at(x, y);
    const bool across = std::abs(x) >= std::abs(y);
    const std::int32_t longer = across ? x : y, other = across ? y : x;
    if (longer == 0) {
      // The peak itself limits all its neighbours.
      for (std::int32_t dy = -1; dy <= 1; ++dy)
        for (std::int32_t dx = -1; dx <= 1; ++dx)
          if (t.holds(dx, dy)) t.at(dx, dy) = std::min(t.at(dx, dy), value);
      return;
    }
    const int sign = longer > 0 ? 1 : -1;
    const double low = (other - opening) / std::abs(longer), high = (other + opening) / std::abs(longer);
    for (int step = 1; step <= shadow; ++step)
      for (long aside = std::lround(step * low); aside <= std::lround(step * high); ++aside) {
        const std::int32_t far = longer + sign * step, beside = other + std::int32_t(aside);
        const std::int32_t sx = across ? far : beside, sy = across ? beside : far;
        if (t.holds(sx, sy)) t.at(sx, sy) = std::min(t.at(sx, sy), value);
      }
  }

  void add(const Template &t, std::int32_t cx, std::int32_t cy) {
    for (std::int32_t y = -t.ry; y <= t.ry; ++y)
      for (std::int32_t x = -t.rx; x <= t.rx; ++x) total_[place(cx + x, cy + y)] += t.at(x, y);
  }

  void append(const Template &t, std::int32_t cx, std::int32_t cy, Components &children, std::vector<float> &shares) const {
    for (std::int32_t y = -t.ry; y <= t.ry; ++y) {
      bool open = false;
      for (std::int32_t x = -t.rx; x <= t.rx; ++x) {
        const std::size_t cell = place(cx + x, cy + y);
        const float value = t.at(x, y);
        const bool peak = x == 0 && y == 0;
        if (!(value > 0.0f) && !peak) {
          open = false;
          continue;
        }
        if (!open) {
          children.y.push_back(top_ + cy + y);
          children.x0.push_back(left_ + cx + x);
          children.x1.push_back(0);
          open = true;
        }
        children.x1.back() = left_ + cx + x;
        const float all = total_[cell];
        shares.push_back(all > 0.0f ? value / all : 0.0f);
      }
    }
    children.start.push_back(std::int64_t(children.y.size()));
  }

  View image_;
  bool smooth_;
  std::int32_t reach_, left_ = 0, top_ = 0, width_ = 0, height_ = 0;
  std::vector<std::uint8_t> inside_;
  std::vector<float> data_, total_;
  std::vector<Template> templates_;
  Template before_;
};

using I32 = Vector<const std::int32_t>;
using I64 = Vector<const std::int64_t>;

void check_peaks(const Spans &spans, const I32 &x, const I32 &y, const I64 &start) {
  if (x.shape(0) != y.shape(0)) throw std::invalid_argument("peak coordinates differ in length");
  if (start.shape(0) != spans.size() + 1 || start(0) != 0 || start(spans.size()) != std::int64_t(x.shape(0)))
    throw std::invalid_argument("peak offsets do not cover the peaks");
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (start(i + 1) < start(i)) throw std::invalid_argument("peak offsets decrease");
    for (std::int64_t k = start(i); k < start(i + 1); ++k) {
      bool found = false;
      for (std::int64_t s = spans.start(i); s < spans.start(i + 1) && !found; ++s)
        found = spans.y(std::size_t(s)) == y(std::size_t(k)) && spans.x0(std::size_t(s)) <= x(std::size_t(k)) &&
                spans.x1(std::size_t(s)) >= x(std::size_t(k));
      if (!found) throw std::invalid_argument("peak outside its footprint");
    }
  }
}

nb::tuple apportion(Plane<const float> image, I32 y, I32 x0, I32 x1, I64 start, I32 peak_x, I32 peak_y, I64 peak_start, bool smooth,
                    std::int32_t reach) {
  const Spans spans{y, x0, x1, start};
  check_spans(spans, image.shape(0), image.shape(1));
  check_peaks(spans, peak_x, peak_y, peak_start);
  if (reach < 0) throw std::invalid_argument("reach is negative");
  Components children;
  std::vector<float> shares;
  {
    nb::gil_scoped_release release;
    Deblender deblender(view(image), smooth, reach);
    for (std::size_t i = 0; i < spans.size(); ++i)
      if (peak_start(i + 1) > peak_start(i))
        deblender.divide(spans, i, peak_x.data() + peak_start(i), peak_y.data() + peak_start(i),
                         std::size_t(peak_start(i + 1) - peak_start(i)), children, shares);
  }
  return nb::make_tuple(copy_to_numpy(children.y), copy_to_numpy(children.x0), copy_to_numpy(children.x1), copy_to_numpy(children.start),
                        copy_to_numpy(shares));
}

} // namespace

void register_deblend(nb::module_ &m) {
  m.def("apportion", &apportion, nb::arg("image"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("peak_x"),
        nb::arg("peak_y"), nb::arg("peak_start"), nb::arg("smooth"), nb::arg("reach"),
        "Divide the pixels I of footprints among their peaks. The template of a peak is min(I(p), I(2 c - p)), not below 0, on the pixels of the "
        "footprint whose mirror image about the peak c is one too, at most `reach` pixels from it along either axis; with `smooth` replaced by "
        "the median of 5 x 5 where these are in the template's rectangle; then, in square rings from the peak, no pixel exceeds one that casts "
        "its shadow on it: 5 pixels along the longer axis of its distance (X, Y) from the peak, between the slopes (Y - 0.3)/|X| and "
        "(Y + 0.3)/|X| rounded to pixels, with its value before the last multiple of 5 rings (the peak: on its 8 neighbours). A peak's share of a pixel is its template over the "
        "sum of all; the child is where its template is positive, and the peak. Pixels that are not finite count as 0. Returns the children's span "
        "y, x0, x1 (int32), first span of each (int64, one child per peak in the order of the peaks), and the shares, 0 to 1, span after span (float32).");
}

} // namespace streamchar
