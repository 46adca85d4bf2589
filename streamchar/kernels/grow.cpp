// Dilate footprints by a symmetric structuring element, run by run on a plane of bits.
#include "arrays.hpp"
#include "results.hpp"
#include "runs.hpp"
#include <algorithm>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

using I32 = Vector<const std::int32_t>;
using I64 = Vector<const std::int64_t>;

// One bit per pixel of the box with corner (x0, y0); what is set outside is dropped.
class Bits {
public:
  Bits(std::int32_t x0, std::int32_t y0, std::int32_t height, std::int32_t width)
      : x0_(x0), y0_(y0), height_(height), width_(width), words_((std::size_t(width) + 63) / 64), bits_(words_ * height, 0) {}

  void set(std::int32_t y, std::int32_t first, std::int32_t last) {
    y -= y0_;
    first = std::max(first - x0_, 0);
    last = std::min(last - x0_, width_ - 1);
    if (y < 0 || y >= height_ || first > last) return;
    std::uint64_t *row = bits_.data() + words_ * y;
    const std::size_t a = first / 64, b = last / 64;
    const std::uint64_t head = ~std::uint64_t(0) << (first % 64), tail = ~std::uint64_t(0) >> (63 - last % 64);
    if (a == b) {
      row[a] |= head & tail;
      return;
    }
    row[a] |= head;
    std::fill(row + a + 1, row + b, ~std::uint64_t(0));
    row[b] |= tail;
  }

  void append_runs(std::vector<Run> &runs) const {
    for (std::int32_t y = 0; y < height_; ++y) {
      const std::uint64_t *row = bits_.data() + words_ * y;
      for (std::int32_t x = next(row, 0, 0); x < width_;) {
        const std::int32_t end = next(row, x, ~std::uint64_t(0));
        runs.push_back({y + y0_, x + x0_, end - 1 + x0_, true});
        x = next(row, end, 0);
      }
    }
  }

private:
  // First pixel from x on whose bit differs from those of `like` (all zeros or all ones), or the width.
  std::int32_t next(const std::uint64_t *row, std::int32_t x, std::uint64_t like) const {
    if (x >= width_) return width_;
    std::size_t word = x / 64;
    std::uint64_t differs = (row[word] ^ like) & (~std::uint64_t(0) << (x % 64));
    while (differs == 0 && ++word < words_) differs = row[word] ^ like;
    if (differs == 0) return width_;
    return std::min(std::int32_t(word * 64 + __builtin_ctzll(differs)), width_);
  }

  std::int32_t x0_, y0_, height_, width_;
  std::size_t words_;
  std::vector<std::uint64_t> bits_;
};

void dilate(const Spans &spans, std::size_t first, std::size_t last, const I32 &half_widths, Bits &bits) {
  const std::int32_t radius = std::int32_t(half_widths.shape(0)) - 1;
  for (std::size_t i = first; i < last; ++i)
    for (std::int32_t dy = -radius; dy <= radius; ++dy) {
      const std::int32_t wider = half_widths(std::abs(dy));
      bits.set(spans.y(i) + dy, spans.x0(i) - wider, spans.x1(i) + wider);
    }
}

void check(const Spans &spans, std::int64_t height, std::int64_t width, const I32 &half_widths) {
  if (height < 0 || width < 0 || height > INT32_MAX / 2 || width > INT32_MAX / 2) throw std::invalid_argument("shape out of range");
  check_spans(spans, height, width);
  if (half_widths.shape(0) == 0 || std::int64_t(half_widths.shape(0)) > INT32_MAX / 4) throw std::invalid_argument("radius out of range");
  for (std::size_t i = 0; i < half_widths.shape(0); ++i)
    if (half_widths(i) < 0 || half_widths(i) > INT32_MAX / 4) throw std::invalid_argument("half width out of range");
}

// Component of the run that holds the first pixel of each footprint.
std::vector<std::int64_t> owners(const Spans &spans, const std::vector<Run> &runs, const std::vector<std::int32_t> &component) {
  std::vector<std::int64_t> owner(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const Run pixel{spans.y(spans.start(i)), spans.x0(spans.start(i)), 0, true};
    const auto after = std::upper_bound(runs.begin(), runs.end(), pixel,
                                        [](const Run &a, const Run &b) { return a.y != b.y ? a.y < b.y : a.x0 < b.x0; });
    owner[i] = component[std::size_t(after - runs.begin()) - 1];
  }
  return owner;
}

nb::tuple grow_merging(I32 y, I32 x0, I32 x1, I64 start, std::int64_t height, std::int64_t width, I32 half_widths) {
  const Spans spans{y, x0, x1, start};
  check(spans, height, width, half_widths);
  Components grown;
  std::vector<std::int64_t> owner;
  {
    nb::gil_scoped_release release;
    Bits bits(0, 0, std::int32_t(height), std::int32_t(width));
    dilate(spans, 0, y.shape(0), half_widths, bits);
    std::vector<Run> runs;
    bits.append_runs(runs);
    std::vector<std::int32_t> component;
    const std::int32_t count = label_runs(runs, component);
    owner = owners(spans, runs, component);
    grown = group_runs(runs, component, count, {});
  }
  return nb::make_tuple(copy_to_numpy(grown.y), copy_to_numpy(grown.x0), copy_to_numpy(grown.x1), copy_to_numpy(grown.start),
                        copy_to_numpy(owner));
}

nb::tuple grow_each(I32 y, I32 x0, I32 x1, I64 start, std::int64_t height, std::int64_t width, I32 half_widths) {
  const Spans spans{y, x0, x1, start};
  check(spans, height, width, half_widths);
  Components grown;
  {
    nb::gil_scoped_release release;
    const std::int32_t radius = std::int32_t(half_widths.shape(0)) - 1;
    std::int32_t widest = 0;
    for (std::size_t i = 0; i < half_widths.shape(0); ++i) widest = std::max(widest, half_widths(i));
    std::vector<Run> runs;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      const std::size_t first = start(i), last = start(i + 1);
      const Region own = spans.box(i);
      const Region box = Region{own.x0 - widest, own.y0 - radius, own.x1 + widest, own.y1 + radius}.within(width, height);
      Bits bits(std::int32_t(box.x0), std::int32_t(box.y0), std::int32_t(box.y1 - box.y0 + 1), std::int32_t(box.x1 - box.x0 + 1));
      dilate(spans, first, last, half_widths, bits);
      runs.clear();
      bits.append_runs(runs);
      for (const Run &run : runs) {
        grown.y.push_back(run.y);
        grown.x0.push_back(run.x0);
        grown.x1.push_back(run.x1);
      }
      grown.start.push_back(std::int64_t(grown.y.size()));
    }
  }
  return to_tuple(grown);
}

} // namespace

void register_grow(nb::module_ &m) {
  m.def("grow_merging", &grow_merging, nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("height"), nb::arg("width"),
        nb::arg("half_widths"),
        "Dilate all footprints by the element of half width half_widths[|dy|], dy = -r..r, r = len(half_widths) - 1, clipped to "
        "height x width, and join those that then touch (8-connectivity). Returns span y, x0, x1 (int32), the first span of each new "
        "footprint (int64) and the new footprint of each old one (int64).");
  m.def("grow_each", &grow_each, nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("height"), nb::arg("width"),
        nb::arg("half_widths"),
        "Dilate every footprint on its own, as grow_merging does, so that they may overlap. Returns span y, x0, x1 (int32) and the first "
        "span of each footprint (int64).");
}

} // namespace streamchar
