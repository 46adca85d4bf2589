// Shares of blended sources in their footprint's pixels, in proportion to their templates.
#include "blends.hpp"
#include "rows.hpp"
#include <limits>

namespace streamchar {
namespace {

enum Stray : int { trim = 0, by_peak = 1, by_footprint = 2, nearest = 3 };
enum Point : int { always = 0, necessary = 1, never = 2 };

struct Rules {
  int stray, point_sources;
  double least; // smallest share of stray light
  std::int32_t reach;
};

struct Rectangle {
  std::int32_t x0, y0, x1, y1; // inclusive, of the image
  bool holds(std::int32_t x, std::int32_t y) const { return x >= x0 && x <= x1 && y >= y0 && y <= y1; }
  std::int32_t width() const { return x1 - x0 + 1; }
  std::size_t area() const { return x1 < x0 || y1 < y0 ? 0 : std::size_t(width()) * std::size_t(y1 - y0 + 1); }
  std::size_t place(std::int32_t x, std::int32_t y) const { return std::size_t(y - y0) * std::size_t(width()) + std::size_t(x - x0); }
  Rectangle with(const Rectangle &r) const {
    return {std::min(x0, r.x0), std::min(y0, r.y0), std::max(x1, r.x1), std::max(y1, r.y1)};
  }
};

struct Child {
  std::int32_t x, y; // of the peak
  Rectangle box;
  const float *values; // of the template
  bool point_source;

  float at(std::int32_t px, std::int32_t py) const {
    const float value = box.holds(px, py) ? values[box.place(px, py)] : 0.0f;
    return value > 0.0f ? value : 0.0f;
  }
  bool covers(std::int32_t px, std::int32_t py) const { return at(px, py) > 0.0f || (px == x && py == y); }

  // Claims on pixels without a template, in a rectangle around the peak.
  Rectangle window;
  std::vector<float> claims;
};

// Squared distance of every pixel of a rectangle from the nearest that the child's template covers.
class Distances {
public:
  const std::vector<float> &of(const Child &child) {
    const Rectangle &w = child.window;
    constexpr float far = std::numeric_limits<float>::infinity();
    along_.assign(w.area(), far);
    squared_.assign(w.area(), far);
    for (std::int32_t y = w.y0; y <= w.y1; ++y) {
      float steps = far;
      for (std::int32_t x = w.x0; x <= w.x1; ++x) along_[w.place(x, y)] = steps = child.covers(x, y) ? 0.0f : steps + 1.0f;
      steps = far;
      for (std::int32_t x = w.x1; x >= w.x0; --x) {
        float &here = along_[w.place(x, y)];
        here = std::min(here, steps += 1.0f);
        steps = std::min(steps, here);
      }
    }
    for (std::int32_t y = w.y0; y <= w.y1; ++y)
      for (std::int32_t row = w.y0; row <= w.y1; ++row) {
        const float *from = along_.data() + w.place(w.x0, row);
        float *to = squared_.data() + w.place(w.x0, y);
        const float dy = float(row - y);
        for (std::int32_t i = 0; i < w.width(); ++i) to[i] = std::min(to[i], from[i] * from[i] + dy * dy);
      }
    return squared_;
  }

private:
  std::vector<float> along_, squared_;
};

class Divider {
public:
  explicit Divider(const Rules &rules) : rules_(rules) {}

  void divide(const Spans &spans, std::size_t i, std::vector<Child> &children, Components &out, std::vector<float> &shares,
              std::uint8_t *has_stray) {
    box_.take(spans, i);
    total_.assign(box_.cells(), 0.0f);
    for (const Child &child : children)
      each_cell(child.box, [&](std::int32_t x, std::int32_t y, std::size_t cell) { total_[cell] += child.at(x, y); });
    if (rules_.stray != trim) share_stray(children);
    for (std::size_t k = 0; k < children.size(); ++k) append(children[k], out, shares, has_stray[k]);
  }

private:
  // The pixels of the footprint in a rectangle.
  template <typename F> void each_cell(const Rectangle &r, F f) const {
    const std::int32_t x0 = std::max(r.x0, box_.left), x1 = std::min(r.x1, box_.left + box_.width - 1);
    const std::int32_t y0 = std::max(r.y0, box_.top), y1 = std::min(r.y1, box_.top + box_.height - 1);
    for (std::int32_t y = y0; y <= y1; ++y)
      for (std::int32_t x = x0; x <= x1; ++x)
        if (box_.inside(x - box_.left, y - box_.top)) f(x, y, box_.place(x - box_.left, y - box_.top));
  }
  template <typename F> void each_claim(Child &child, F f) {
    if (child.claims.empty()) return;
    each_cell(child.window, [&](std::int32_t x, std::int32_t y, std::size_t cell) {
      float &claim = child.claims[child.window.place(x, y)];
      if (claim > 0.0f) f(claim, cell);
    });
  }

  void share_stray(std::vector<Child> &children) {
    claimed_.assign(box_.cells(), 0.0f);
    for (Child &child : children)
      if (!child.point_source || rules_.point_sources == always) claim(child);
    if (rules_.point_sources == necessary) {
      open_ = claimed_; // pixels that no extended source claims
      for (Child &child : children)
        if (child.point_source) claim(child, true);
    }
    if (rules_.stray == nearest) return;
    std::vector<float> &kept = open_;
    kept.assign(box_.cells(), 0.0f);
    for (Child &child : children)
      each_claim(child, [&](float &claim, std::size_t cell) {
        if (claim < rules_.least * claimed_[cell])
          claim = 0.0f;
        else
          kept[cell] += claim;
      });
    claimed_.swap(kept);
  }

  void claim(Child &child, bool only_open = false) {
    child.window = {std::max(child.x - rules_.reach, box_.left), std::max(child.y - rules_.reach, box_.top),
                    std::min(child.x + rules_.reach, box_.left + box_.width - 1), std::min(child.y + rules_.reach, box_.top + box_.height - 1)};
    child.claims.assign(child.window.area(), 0.0f);
    const std::vector<float> *distances = rules_.stray == by_peak ? nullptr : &distances_.of(child);
    each_cell(child.window, [&](std::int32_t x, std::int32_t y, std::size_t cell) {
      if (total_[cell] > 0.0f || (only_open && open_[cell] > 0.0f)) return;
      const float dx = float(x - child.x), dy = float(y - child.y);
      const float weight = 1.0f / (1.0f + (distances ? (*distances)[child.window.place(x, y)] : dx * dx + dy * dy));
      child.claims[child.window.place(x, y)] = weight;
      claimed_[cell] = rules_.stray == nearest ? std::max(claimed_[cell], weight) : claimed_[cell] + weight;
    });
  }

  float stray_share(Child &child, std::int32_t x, std::int32_t y, std::size_t cell) {
    if (child.claims.empty() || !child.window.holds(x, y) || total_[cell] > 0.0f) return 0.0f;
    const float claim = child.claims[child.window.place(x, y)];
    if (!(claim > 0.0f)) return 0.0f;
    if (rules_.stray != nearest) return claim / claimed_[cell];
    if (claim < claimed_[cell]) return 0.0f;
    claimed_[cell] = 2.0f; // weights are at most 1: later children of equal distance get nothing
    return 1.0f;
  }

  void append(Child &child, Components &out, std::vector<float> &shares, std::uint8_t &has_stray) {
    Rectangle all{child.x, child.y, child.x, child.y};
    if (child.box.area()) all = all.with(child.box);
    if (!child.claims.empty()) all = all.with(child.window);
    std::int32_t row = -1, next = -1;
    each_cell(all, [&](std::int32_t x, std::int32_t y, std::size_t cell) {
      const float value = child.at(x, y);
      float share = value > 0.0f ? value / total_[cell] : 0.0f;
      if (!(value > 0.0f)) {
        share = stray_share(child, x, y, cell);
        has_stray |= share > 0.0f;
      }
      if (!(share > 0.0f) && !(x == child.x && y == child.y)) return;
      if (y != row || x != next) {
        out.y.push_back(y);
        out.x0.push_back(x);
        out.x1.push_back(x);
      }
      out.x1.back() = x;
      row = y;
      next = x + 1;
      shares.push_back(share);
    });
    out.start.push_back(std::int64_t(out.y.size()));
  }

  Rules rules_;
  BlendBox box_;
  std::vector<float> total_, claimed_, open_;
  Distances distances_;
};

nb::tuple apportion(std::int64_t height, std::int64_t width, I32 y, I32 x0, I32 x1, I64 start, I32 peak_x, I32 peak_y, I64 peak_start,
                    Vector<const float> values, I64 value_start, nb::ndarray<nb::numpy, const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu> boxes,
                    Vector<const bool> point_source, int stray, int to_point_sources, double least, std::int32_t reach) {
  const Spans spans{y, x0, x1, start};
  const PeakList peaks{peak_x, peak_y, peak_start};
  if (height < 0 || width < 0) throw std::invalid_argument("negative shape");
  check_spans(spans, std::size_t(height), std::size_t(width));
  check_peaks(spans, peaks);
  if (boxes.shape(0) != peaks.size() || boxes.shape(1) != 4 || value_start.shape(0) != peaks.size() + 1 || point_source.shape(0) != peaks.size())
    throw std::invalid_argument("one template for each peak is needed");
  if (stray < trim || stray > nearest || to_point_sources < always || to_point_sources > never) throw std::invalid_argument("no such rule");
  if (reach < 0 || !(least >= 0 && least < 1)) throw std::invalid_argument("reach or the smallest share is out of range");
  if (value_start(0) != 0 || value_start(peaks.size()) != std::int64_t(values.shape(0)))
    throw std::invalid_argument("template offsets do not cover the values");
  std::vector<std::vector<Child>> blends(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i)
    for (std::size_t k = std::size_t(peaks.start(i)); k < std::size_t(peaks.start(i + 1)); ++k) {
      const Rectangle box{boxes(k, 0), boxes(k, 1), boxes(k, 2), boxes(k, 3)};
      if (value_start(k + 1) < value_start(k) || std::size_t(value_start(k + 1) - value_start(k)) != box.area())
        throw std::invalid_argument("a template does not fill its rectangle");
      blends[i].push_back({peaks.x(k), peaks.y(k), box, values.data() + value_start(k), point_source(k), {}, {}});
    }
  Components out;
  std::vector<float> shares;
  std::vector<std::uint8_t> has_stray(peaks.size(), 0);
  {
    nb::gil_scoped_release release;
    Divider divider({stray, to_point_sources, least, reach});
    for (std::size_t i = 0; i < spans.size(); ++i) {
      divider.divide(spans, i, blends[i], out, shares, has_stray.data() + peaks.start(i));
      std::vector<Child>().swap(blends[i]);
    }
  }
  return nb::make_tuple(copy_to_numpy(out.y), copy_to_numpy(out.x0), copy_to_numpy(out.x1), copy_to_numpy(out.start), copy_to_numpy(shares),
                        copy_to_numpy(has_stray));
}

} // namespace

void register_apportion(nb::module_ &m) {
  m.def("apportion", &apportion, nb::arg("height"), nb::arg("width"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("peak_x"),
        nb::arg("peak_y"), nb::arg("peak_start"), nb::arg("values"), nb::arg("value_start"), nb::arg("boxes"), nb::arg("point_source"), nb::arg("stray"),
        nb::arg("to_point_sources"), nb::arg("least"), nb::arg("reach"),
        "Divide the pixels of footprints on an image of (height, width) among their peaks. Each peak has a template: values in a rectangle x0, y0, x1, y1 (as from "
        "symmetric_templates; it may leave the footprint, and counts where it is positive). A child's share of a pixel is its template over the sum of all. Pixels of the footprint "
        "without any template are nobody's (stray 0), or each peak at most `reach` away along either axis claims 1/(1 + r^2) of them, r being the distance from the peak "
        "(1) or from the nearest pixel of its template in that reach (2), or the nearest template has them all, the first of several (3). Point sources claim like the others (to_point_sources 0), only "
        "what no other claims (1) or nothing (2). Shares of stray light (1, 2) below `least` are dropped before the rest are made to add up to 1. The child is where its share is positive, "
        "and the peak. Returns the children's span y, x0, x1 (int32), first span of each (int64, one child per peak in the order of the peaks), the shares, 0 to 1, span after span (float32), "
        "and whether stray light is among them (uint8).");
}

} // namespace streamchar
