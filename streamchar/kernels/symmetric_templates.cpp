// Templates of blended sources: symmetric about the peak and falling outward from it.
#include "blends.hpp"
#include "rows.hpp"

namespace streamchar {
namespace {

constexpr double opening = 0.3; // half width of a pixel's shadow at the pixel, pixels
constexpr int shadow = 5;       // length of a shadow, and rings between updates of what casts it

enum Edge : int { clip = 0, ramp = 1, noclip = 2 };
enum Treated : std::int32_t { ramped = 1, patched = 2 };

struct Options {
  bool smooth;
  std::int32_t reach, edge_bits;
  int edge;
  double edge_significance;
};

struct Planes {
  View image, variance;
  const std::int32_t *mask; // as wide as the image
  const double *profile;    // an image of a point source, the middle being its peak
  std::int32_t profile_width, profile_height;
};

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

// To the nearest integer, halves away from zero.
inline std::int32_t rounded(double value) { return value < 0 ? -std::int32_t(0.5 - value) : std::int32_t(value + 0.5); }

// Where the shadows of pixels fall: for a pixel `longer` pixels from the peak along one axis and `other` along the other, how far
// aside the shadow begins and ends after each step.
class Shadows {
public:
  struct Width {
    std::int8_t first, last;
  };
  // Of 0 < longer <= most.
  void reach(std::int32_t most) {
    for (; known_ < most; ++known_) {
      const std::int32_t longer = known_ + 1;
      for (std::int32_t other = -longer; other <= longer; ++other) {
        const double low = (other - opening) / longer, high = (other + opening) / longer;
        for (int step = 1; step <= shadow; ++step) widths_.push_back({std::int8_t(rounded(step * low)), std::int8_t(rounded(step * high))});
      }
    }
  }
  // The first of them, in order; |other| <= longer.
  const Width *of(std::int32_t longer, std::int32_t other) const {
    // Before it are 2 l + 1 pixels for each l from 1 to longer - 1.
    return widths_.data() + std::size_t(shadow) * std::size_t(longer * longer - 1 + other + longer);
  }

private:
  std::int32_t known_ = 0;
  std::vector<Width> widths_;
};

class Builder {
public:
  Builder(const Planes &planes, const Options &options) : planes_(planes), options_(options) {}

  void take(const Spans &spans, std::size_t i) { box_.take(spans, i); }

  // The template of the peak at (x, y) of the image, and what was done at the edge.
  const Template &build(std::int32_t x, std::int32_t y, std::int32_t &treated) {
    cx_ = x - box_.left;
    cy_ = y - box_.top;
    treated = 0;
    const std::int32_t reach = options_.reach;
    const std::int32_t right = box_.width - 1 - cx_, below = box_.height - 1 - cy_;
    const bool cut = options_.edge != clip && is_cut(std::min(std::max(cx_, right), reach), std::min(std::max(cy_, below), reach));
    if (cut)
      t_.resize(std::min(std::max(cx_, right), reach), std::min(std::max(cy_, below), reach));
    else
      t_.resize(std::min({cx_, right, reach}), std::min({cy_, below, reach}));
    for (std::int32_t v = -std::min({t_.ry, cy_, below}); v <= std::min({t_.ry, cy_, below}); ++v) {
      const std::uint8_t *inside = box_.row(cy_ + v) + cx_, *mirrored = box_.row(cy_ - v) + cx_;
      for (std::int32_t u = -std::min({t_.rx, cx_, right}); u <= std::min({t_.rx, cx_, right}); ++u)
        if (inside[u] & mirrored[-u]) t_.at(u, v) = std::max(std::min(value(u, v), value(-u, -v)), 0.0f);
    }
    if (cut) treated = options_.edge == ramp ? add_ramp() : patch();
    if (options_.smooth) smooth();
    make_monotonic();
    crop(last_ring());
    return t_;
  }

private:
  // Offsets (u, v) are from the peak.
  bool inside(std::int32_t u, std::int32_t v) const { return box_.inside(cx_ + u, cy_ + v); }
  float value(std::int32_t u, std::int32_t v) const {
    const float found = planes_.image.row(box_.top + cy_ + v)[box_.left + cx_ + u];
    return std::isfinite(found) ? found : 0.0f;
  }
  bool beyond(std::int32_t u, std::int32_t v) const {
    const std::int32_t x = box_.left + cx_ + u, y = box_.top + cy_ + v;
    if (x < 0 || y < 0 || x >= planes_.image.width || y >= planes_.image.height) return true;
    return !inside(u, v) && (planes_.mask[std::size_t(y) * planes_.image.stride + std::size_t(x)] & options_.edge_bits);
  }
  bool lacks_mirror(std::int32_t u, std::int32_t v) const { return inside(u, v) && beyond(-u, -v); }

  bool is_cut(std::int32_t rx, std::int32_t ry) const {
    if (!may_be_cut(rx, ry)) return false;
    for (std::int32_t v = -ry; v <= ry; ++v)
      for (std::int32_t u = -rx; u <= rx; ++u)
        if (lacks_mirror(u, v)) return true;
    return false;
  }

  // Whether the rectangle has any pixel at the edge, or beyond it.
  bool may_be_cut(std::int32_t rx, std::int32_t ry) const {
    const std::int32_t x = box_.left + cx_, y = box_.top + cy_;
    if (x < rx || y < ry || x + rx >= planes_.image.width || y + ry >= planes_.image.height) return true;
    std::int32_t found = 0;
    for (std::int32_t v = y - ry; v <= y + ry; ++v) {
      const std::int32_t *mask = planes_.mask + std::size_t(v) * planes_.image.stride;
      for (std::int32_t u = x - rx; u <= x + rx; ++u) found |= mask[u];
    }
    return (found & options_.edge_bits) != 0;
  }

  std::int32_t patch() {
    for (std::int32_t v = -t_.ry; v <= t_.ry; ++v)
      for (std::int32_t u = -t_.rx; u <= t_.rx; ++u)
        if (lacks_mirror(u, v)) t_.at(u, v) = std::max(value(u, v), 0.0f);
    return patched;
  }

  // Continue the template from its significant rim as a point source would fall off.
  std::int32_t add_ramp() {
    const std::int32_t hx = planes_.profile_width / 2, hy = planes_.profile_height / 2;
    const double top = planes_.profile[std::size_t(hy) * std::size_t(planes_.profile_width) + std::size_t(hx)];
    if (!(top > 0)) return 0;
    std::vector<float> slope(t_.values.size(), 0.0f);
    bool any = false;
    for (std::int32_t v = -t_.ry; v <= t_.ry; ++v)
      for (std::int32_t u = -t_.rx; u <= t_.rx; ++u) {
        if (!is_rim(u, v)) continue;
        any = true;
        for (std::int32_t q = std::max(v - hy, -t_.ry); q <= std::min(v + hy, t_.ry); ++q)
          for (std::int32_t p = std::max(u - hx, -t_.rx); p <= std::min(u + hx, t_.rx); ++p) {
            const std::size_t cell = std::size_t(q - v + hy) * std::size_t(planes_.profile_width) + std::size_t(p - u + hx);
            float &here = slope[std::size_t(q + t_.ry) * std::size_t(2 * t_.rx + 1) + std::size_t(p + t_.rx)];
            here = std::max(here, float(planes_.profile[cell] / top));
          }
      }
    if (!any) return 0;
    for (std::int32_t v = -t_.ry; v <= t_.ry; ++v)
      for (std::int32_t u = -t_.rx; u <= t_.rx; ++u)
        if (lacks_mirror(u, v))
          t_.at(u, v) = std::max(value(u, v), 0.0f) * slope[std::size_t(v + t_.ry) * std::size_t(2 * t_.rx + 1) + std::size_t(u + t_.rx)];
    return ramped;
  }

  bool is_rim(std::int32_t u, std::int32_t v) const {
    if (!inside(u, v) || !inside(-u, -v)) return false;
    const double variance = planes_.variance.row(box_.top + cy_ + v)[box_.left + cx_ + u];
    if (!(t_.at(u, v) > options_.edge_significance * std::sqrt(variance))) return false;
    return lacks_mirror(u - 1, v) || lacks_mirror(u + 1, v) || lacks_mirror(u, v - 1) || lacks_mirror(u, v + 1);
  }

  // Medians of 5 x 5 pixels where all of them are in the rectangle.
  void smooth() {
    before_ = t_;
    float window[25];
    for (std::int32_t y = -t_.ry + 2; y <= t_.ry - 2; ++y)
      for (std::int32_t x = -t_.rx + 2; x <= t_.rx - 2; ++x) {
        int n = 0;
        for (std::int32_t dy = -2; dy <= 2; ++dy)
          for (std::int32_t dx = -2; dx <= 2; ++dx) window[n++] = before_.at(x + dx, y + dy);
        std::nth_element(window, window + 12, window + 25);
        t_.at(x, y) = window[12];
      }
  }

  // From the peak outward, ring by ring, no pixel in the shadow of another exceeds it.
  void make_monotonic() {
    before_ = t_;
    const std::int32_t last = last_ring();
    shadows_.reach(last);
    for (std::int32_t ring = 0; ring <= last; ++ring) {
      if (ring % shadow == 0) before_ = t_;
      for (std::int32_t i = -ring; i <= ring; ++i) {
        cast(ring, i);
        cast(i, ring);
        cast(-ring, i);
        cast(i, -ring);
      }
    }
  }

  void crop(std::int32_t ring) {
    if (t_.rx <= ring && t_.ry <= ring) return;
    before_ = t_;
    t_.resize(std::min(t_.rx, ring), std::min(t_.ry, ring));
    for (std::int32_t y = -t_.ry; y <= t_.ry; ++y)
      for (std::int32_t x = -t_.rx; x <= t_.rx; ++x) t_.at(x, y) = before_.at(x, y);
  }

  // The outermost ring with anything in it; shadows fall outward only.
  std::int32_t last_ring() const {
    std::int32_t ring = std::max(t_.rx, t_.ry);
    while (ring > 0 && !has_any(ring)) --ring;
    return ring;
  }
  bool has_any(std::int32_t ring) const {
    const auto positive = [&](std::int32_t x, std::int32_t y) { return t_.holds(x, y) && t_.at(x, y) > 0.0f; };
    for (std::int32_t i = -ring; i <= ring; ++i)
      if (positive(ring, i) || positive(-ring, i) || positive(i, ring) || positive(i, -ring)) return true;
    return false;
  }

  void cast(std::int32_t x, std::int32_t y) {
    if (!before_.holds(x, y)) return;
    const float value = before_.at(x, y);
    const bool across = std::abs(x) >= std::abs(y);
    const std::int32_t longer = across ? x : y, other = across ? y : x;
    if (longer == 0) {
      // The peak itself limits all its neighbours.
      for (std::int32_t dy = -1; dy <= 1; ++dy)
        for (std::int32_t dx = -1; dx <= 1; ++dx)
          if (t_.holds(dx, dy)) t_.at(dx, dy) = std::min(t_.at(dx, dy), value);
      return;
    }
    const std::int32_t sign = longer > 0 ? 1 : -1, end = across ? t_.rx : t_.ry, side = across ? t_.ry : t_.rx;
    const Shadows::Width *widths = shadows_.of(std::abs(longer), other);
    for (std::int32_t step = 1; step <= std::min(shadow, end - std::abs(longer)); ++step) {
      const std::int32_t far = longer + sign * step, first = std::max(other + widths[step - 1].first, -side);
      for (std::int32_t beside = first; beside <= std::min(other + widths[step - 1].last, side); ++beside) {
        float &there = across ? t_.at(far, beside) : t_.at(beside, far);
        there = std::min(there, value);
      }
    }
  }

  Planes planes_;
  Options options_;
  BlendBox box_;
  std::int32_t cx_ = 0, cy_ = 0;
  Template t_, before_;
  Shadows shadows_;
};

nb::tuple symmetric_templates(Plane<const float> image, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t edge_bits, I32 y,
                              I32 x0, I32 x1, I64 start, I32 peak_x, I32 peak_y, I64 peak_start, Vector<const bool> wanted, bool smooth,
                              std::int32_t reach, int edge, Plane<const double> profile, double edge_significance) {
  const Spans spans{y, x0, x1, start};
  const PeakList peaks{peak_x, peak_y, peak_start};
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (variance.shape(0) != height || variance.shape(1) != width || mask.shape(0) != height || mask.shape(1) != width)
    throw std::invalid_argument("image, variance and mask differ in shape");
  check_spans(spans, height, width);
  check_peaks(spans, peaks);
  if (wanted.shape(0) != peaks.size()) throw std::invalid_argument("one choice for each peak is needed");
  if (reach < 0) throw std::invalid_argument("reach is negative");
  if (edge < clip || edge > noclip) throw std::invalid_argument("no such treatment of the edge");
  if (profile.shape(0) % 2 == 0 || profile.shape(1) % 2 == 0) throw std::invalid_argument("the profile needs odd sides");
  std::vector<float> values;
  std::vector<std::int64_t> value_start{0};
  Rows<std::int32_t> boxes(peaks.size(), 4);
  Values<std::int32_t> treated(peaks.size());
  {
    nb::gil_scoped_release release;
    Builder builder({view(image), view(variance), mask.data(), profile.data(), std::int32_t(profile.shape(1)), std::int32_t(profile.shape(0))},
                    {smooth, reach, edge_bits, edge, edge_significance});
    for (std::size_t i = 0; i < spans.size(); ++i) {
      builder.take(spans, i);
      for (std::size_t k = std::size_t(peaks.start(i)); k < std::size_t(peaks.start(i + 1)); ++k) {
        std::int32_t *box = boxes.row(k);
        box[0] = peaks.x(k);
        box[1] = peaks.y(k);
        box[2] = box[0] - 1;
        box[3] = box[1] - 1;
        if (wanted(k)) {
          const Template &t = builder.build(peaks.x(k), peaks.y(k), treated[k]);
          box[0] -= t.rx;
          box[1] -= t.ry;
          box[2] += t.rx + 1;
          box[3] += t.ry + 1;
          values.insert(values.end(), t.values.begin(), t.values.end());
        }
        value_start.push_back(std::int64_t(values.size()));
      }
    }
  }
  return nb::make_tuple(copy_to_numpy(values), copy_to_numpy(value_start), boxes.release(), treated.release());
}

} // namespace

void register_symmetric_templates(nb::module_ &m) {
  m.def("symmetric_templates", &symmetric_templates, nb::arg("image"), nb::arg("variance"), nb::arg("mask"), nb::arg("edge_bits"), nb::arg("y"),
        nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("peak_x"), nb::arg("peak_y"), nb::arg("peak_start"), nb::arg("wanted"),
        nb::arg("smooth"), nb::arg("reach"), nb::arg("edge"), nb::arg("profile"), nb::arg("edge_significance"),
        "Templates of the wanted peaks (bool) of footprints with pixels I. A template is min(I(p), I(2 c - p)), not below 0, on the pixels of the footprint "
        "whose mirror image about the peak c is one too, at most `reach` pixels from it along either axis. Where the mirror image lies beyond the edge (off the "
        "image, or outside the footprint on a pixel with `edge_bits`), it is 0 (edge 0); I times the greatest of the profile, its middle being 1, about pixels of the "
        "template that lie beside such pixels and exceed `edge_significance` standard deviations (1); or I, not below 0 (2). "
        "With `smooth` it is replaced by the median of 5 x 5 where these are in the template's rectangle; then, in square rings from the peak, no pixel exceeds one "
        "that casts its shadow on it: 5 pixels along the longer axis of its distance (X, Y) from the peak, between the slopes (Y - 0.3)/|X| and (Y + 0.3)/|X| rounded "
        "to pixels, with its value before the last multiple of 5 rings (the peak: on its 8 neighbours). Pixels that are not finite count as 0. "
        "The rectangle reaches equally far from the peak on both sides: as far as the footprint's box on the nearer side or, where a mirror image lies beyond the edge, "
        "on the farther one; what is returned of it ends with the last square ring that has a positive value. Returns the values row by row (float32), the first of each peak (int64), the rectangles x0, y0, x1, y1 (int32 (peaks, 4); without area when not "
        "wanted) and what was done at the edge (int32: 0, 1 ramped, 2 patched).");
}

} // namespace streamchar
