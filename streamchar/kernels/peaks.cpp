// Local maxima of footprints: finding, refreshing on a flattened image, and the order of merged lists.
#include "arrays.hpp"
#include "results.hpp"
#include "smooth.hpp"
#include <algorithm>
#include <nanobind/stl/optional.h>
#include <optional>
#include <stdexcept>

namespace streamchar {
namespace {

using I32 = Vector<const std::int32_t>;
using I64 = Vector<const std::int64_t>;
using F32 = Vector<const float>;

nb::tuple peaks_to_tuple(const std::vector<Peak> &peaks, const std::vector<std::int64_t> &start) {
  auto x = unset<std::int32_t>(peaks.size()), y = unset<std::int32_t>(peaks.size());
  auto value = unset<float>(peaks.size());
  for (std::size_t i = 0; i < peaks.size(); ++i) {
    x[i] = peaks[i].x;
    y[i] = peaks[i].y;
    value[i] = peaks[i].value;
  }
  return nb::make_tuple(to_numpy(std::move(x), peaks.size()), to_numpy(std::move(y), peaks.size()), to_numpy(std::move(value), peaks.size()), copy_to_numpy(start));
}

void check_peaks(const I32 &x, const I32 &y, const F32 &value, const I64 &start, std::size_t footprints) {
  if (y.shape(0) != x.shape(0) || value.shape(0) != x.shape(0)) throw std::invalid_argument("peak arrays differ in length");
  if (start.shape(0) != footprints + 1 || start(0) != 0 || start(footprints) != std::int64_t(x.shape(0)))
    throw std::invalid_argument("peak offsets do not cover the peaks");
  for (std::size_t i = 0; i < footprints; ++i)
    if (start(i + 1) < start(i)) throw std::invalid_argument("peak offsets decrease");
}

// Pixels of a box of an image that is convolved, addressed as in the whole of it.
class ConvolvedBox {
public:
  View of(const Convolved &image, const Region &box) {
    // Whole vectors cost less than the pixels that do not fill one.
    const std::size_t width = std::min((box.x1 - box.x0) / 8 * 8 + 8, image.width() - box.x0), height = box.y1 - box.y0 + 1;
    pixels_.resize(width * height);
    ConvolvedRows rows(image.box(std::int32_t(box.x0), std::int32_t(box.y0), std::int32_t(width), std::int32_t(height)));
    for (std::size_t y = 0; y < height; y += ConvolvedRows::together)
      rows.write(pixels_.data() + y * width, width, std::min(ConvolvedRows::together, height - y));
    return {pixels_.data() - (box.y0 * std::ptrdiff_t(width) + box.x0), width, image.height(), image.width()};
  }

private:
  std::vector<float> pixels_;
};

nb::tuple find_peaks(Box image, I32 y, I32 x0, I32 x1, I64 start, bool negative, std::optional<Vector<const float>> taps) {
  const Convolved source = convolved(image, taps);
  const Spans spans{y, x0, x1, start};
  check_spans(spans, source.height(), source.width());
  std::vector<Peak> peaks;
  std::vector<std::int64_t> peak_start{0};
  {
    nb::gil_scoped_release release;
    ConvolvedBox box;
    const auto with_neighbours = [&](std::size_t i) {
      const Region own = spans.box(i);
      return Region{own.x0 - 1, own.y0 - 1, own.x1 + 1, own.y1 + 1}.within(source.width(), source.height());
    };
    for (std::size_t i = 0; i < spans.size(); ++i) {
      const std::int64_t first = start(i), last = start(i + 1);
      View pixels = source.plane;
      if (!source.is_plane()) {
        if (i + 1 < spans.size()) source.fetch(with_neighbours(i + 1));
        pixels = box.of(source, with_neighbours(i));
      }
      find_component_peaks(pixels, y.data(), x0.data(), x1.data(), first, last, negative, peaks);
      peak_start.push_back(std::int64_t(peaks.size()));
    }
  }
  return peaks_to_tuple(peaks, peak_start);
}

bool contains(const Spans &spans, std::size_t footprint, std::int32_t x, std::int32_t y) {
  const std::int32_t *first = spans.y.data() + spans.start(footprint), *last = spans.y.data() + spans.start(footprint + 1);
  for (const std::int32_t *row = std::lower_bound(first, last, y); row != last && *row == y; ++row) {
    const std::size_t span = row - spans.y.data();
    if (x >= spans.x0(span) && x <= spans.x1(span)) return true;
  }
  return false;
}

// The box around one footprint of image - level, and the peaks found anew in it.
class Flattened {
public:
  Flattened(const Convolved &image, const Convolved &variance, View level, Threshold threshold, bool negative)
      : image_(image), variance_(variance), level_(level), threshold_(threshold), negative_(negative) {}

  // Append the peaks that lie inside the footprint, in exposure coordinates.
  void search(const Spans &spans, std::size_t footprint, std::vector<Peak> &peaks) {
    cut(spans, footprint);
    Components found;
    find_components(as_it_is(box_), variance_.box(x0_, y0_, box_.width, box_.height), threshold_, negative_ ? nullptr : &found, negative_ ? &found : nullptr);
    inside_.clear();
    for (std::size_t i = 0; i < found.size(); ++i)
      find_component_peaks(box_, found.y.data(), found.x0.data(), found.x1.data(), found.start[i], found.start[i + 1], negative_, inside_);
    for (const Peak &peak : inside_)
      if (contains(spans, footprint, peak.x + x0_, peak.y + y0_)) peaks.push_back({peak.x + x0_, peak.y + y0_, peak.value});
  }

private:
  void cut(const Spans &spans, std::size_t footprint) {
    const Region box = spans.box(footprint);
    x0_ = std::int32_t(box.x0);
    y0_ = std::int32_t(box.y0);
    const std::int32_t width = std::int32_t(box.x1) + 1 - x0_, height = std::int32_t(box.y1) + 1 - y0_;
    pixels_.resize(std::size_t(height) * width);
    ConvolvedRows rows(image_.box(x0_, y0_, width, height));
    for (std::int32_t y = 0; y < height; ++y) {
      const float *image = rows.next(), *level = level_.row(y + y0_) + x0_;
      float *out = pixels_.data() + std::size_t(y) * width;
      for (std::int32_t x = 0; x < width; ++x) out[x] = image[x] - level[x];
    }
    box_ = {pixels_.data(), std::size_t(width), height, width};
  }

  Convolved image_, variance_;
  View level_, box_{};
  Threshold threshold_;
  bool negative_;
  std::int32_t x0_ = 0, y0_ = 0;
  std::vector<float> pixels_;
  std::vector<Peak> inside_;
};

nb::tuple refresh_peaks(Box image, std::optional<Box> variance, Plane<const float> level,
                        std::int64_t border, float value, float include, std::int64_t min_pixels, bool negative, I32 y, I32 x0, I32 x1, I64 start, I32 peak_x, I32 peak_y,
                        F32 peak_value, I64 peak_start, std::int64_t max_simple, std::optional<Vector<const float>> taps,
                        std::optional<Vector<const float>> image_taps) {
  const Convolved signal = convolved(image, image_taps);
  const std::int32_t height = signal.height(), width = signal.width();
  const Convolved noise = convolved(variance, taps, height, width);
  if (border < 0 || level.shape(0) != height + 2 * std::size_t(border) || level.shape(1) != width + 2 * std::size_t(border))
    throw std::invalid_argument("the planes differ in shape");
  const View inner{level.data() + border * level.shape(1) + border, level.shape(1), height, width};
  const Spans spans{y, x0, x1, start};
  check_spans(spans, height, width);
  check_peaks(peak_x, peak_y, peak_value, peak_start, spans.size());
  std::vector<Peak> peaks;
  std::vector<std::int64_t> new_start{0};
  {
    nb::gil_scoped_release release;
    Flattened flattened(signal, noise, inner, {value, include, min_pixels}, negative);
    for (std::size_t i = 0; i < spans.size(); ++i) {
      const std::size_t before = peaks.size();
      const std::int64_t count = peak_start(i + 1) - peak_start(i);
      if (count > max_simple) flattened.search(spans, i, peaks);
      const std::int64_t kept = count <= max_simple ? count : peaks.size() == before && count > 0 ? 1 : 0;
      for (std::int64_t k = peak_start(i); k < peak_start(i) + kept; ++k) peaks.push_back({peak_x(k), peak_y(k), peak_value(k)});
      new_start.push_back(std::int64_t(peaks.size()));
    }
  }
  return peaks_to_tuple(peaks, new_start);
}

// Merge [begin, middle) and [middle, end) from the shorter side. Lists whose peaks were found part by part are not sorted,
// and then the side decides the result: this is the side the reference's merge starts from.
template <typename Precedes>
void merge_tail(std::vector<std::int64_t> &order, std::size_t begin, std::size_t middle, Precedes precedes) {
  const std::vector<std::int64_t> left(order.begin() + begin, order.begin() + middle), right(order.begin() + middle, order.end());
  if (left.size() <= right.size()) {
    std::size_t l = 0, r = 0;
    for (std::size_t i = begin; i < order.size(); ++i)
      order[i] = r < right.size() && (l == left.size() || precedes(right[r], left[l])) ? right[r++] : left[l++];
    return;
  }
  std::size_t l = left.size(), r = right.size();
  for (std::size_t i = order.size(); i-- > begin;)
    order[i] = l > 0 && (r == 0 || precedes(right[r - 1], left[l - 1])) ? left[--l] : right[--r];
}

nb::tuple merge_peaks(I32 peak_x, I32 peak_y, F32 peak_value, I64 peak_start, Vector<const std::int64_t> owner, std::int64_t owners) {
  const std::size_t n = owner.shape(0);
  check_peaks(peak_x, peak_y, peak_value, peak_start, n);
  for (std::size_t i = 0; i < n; ++i)
    if (owner(i) < 0 || owner(i) >= owners) throw std::invalid_argument("owner out of range");
  std::vector<std::int64_t> order, start{0};
  {
    nb::gil_scoped_release release;
    std::vector<std::int64_t> first(owners + 1, 0), members(n);
    for (std::size_t i = 0; i < n; ++i) ++first[owner(i) + 1];
    for (std::int64_t i = 0; i < owners; ++i) first[i + 1] += first[i];
    std::vector<std::int64_t> next(first.begin(), first.end() - 1);
    for (std::size_t i = 0; i < n; ++i) members[next[owner(i)]++] = std::int64_t(i);
    const auto precedes = [&](std::int64_t a, std::int64_t b) {
      return brighter({peak_x(a), peak_y(a), peak_value(a)}, {peak_x(b), peak_y(b), peak_value(b)});
    };
    order.reserve(peak_x.shape(0));
    for (std::int64_t i = 0; i < owners; ++i) {
      const std::size_t begin = order.size();
      for (std::int64_t m = first[i]; m < first[i + 1]; ++m) {
        const std::size_t middle = order.size();
        for (std::int64_t k = peak_start(members[m]); k < peak_start(members[m] + 1); ++k) order.push_back(k);
        merge_tail(order, begin, middle, precedes);
      }
      start.push_back(std::int64_t(order.size()));
    }
  }
  return nb::make_tuple(copy_to_numpy(order), copy_to_numpy(start));
}

constexpr std::int32_t PIECE = 256; // pixels

// Whether none of the neighbours of each of n adjacent pixels is greater, or smaller where the sign is negative.
STREAMCHAR_MULTIVERSION void flag_peaks(const float *row, std::ptrdiff_t stride, std::int32_t n, float sign, std::int32_t *__restrict flags) {
  const float *up = row - stride, *down = row + stride;
  for (std::int32_t i = 0; i < n; ++i) {
    const float value = sign * row[i];
    flags[i] = !((sign * row[i - 1] > value) | (sign * row[i + 1] > value) | (sign * up[i - 1] > value) | (sign * up[i] > value) |
                 (sign * up[i + 1] > value) | (sign * down[i - 1] > value) | (sign * down[i] > value) | (sign * down[i + 1] > value));
  }
}

// The first of a component's greatest pixels, or smallest where the sign is negative.
Peak extreme(View image, const std::int32_t *y, const std::int32_t *x0, const std::int32_t *x1, std::size_t first, std::size_t last, float sign) {
  Peak found{x0[first], y[first], image.row(y[first])[x0[first]]};
  for (std::size_t i = first; i < last; ++i)
    for (std::int32_t x = x0[i]; x <= x1[i]; ++x) {
      const float value = image.row(y[i])[x];
      if (sign * value > sign * found.value) found = {x, y[i], value};
    }
  return found;
}

} // namespace

void find_component_peaks(View image, const std::int32_t *y, const std::int32_t *x0, const std::int32_t *x1, std::size_t first,
                          std::size_t last, bool negative, std::vector<Peak> &peaks) {
  const std::size_t before = peaks.size();
  const float sign = negative ? -1.0f : 1.0f;
  std::int32_t flags[PIECE];
  for (std::size_t i = first; i < last; ++i) {
    if (y[i] == 0 || y[i] == image.height - 1) continue;
    const std::int32_t end = std::min(x1[i], image.width - 2) + 1;
    for (std::int32_t x = std::max(x0[i], 1); x < end; x += PIECE) {
      const std::int32_t n = std::min(PIECE, end - x);
      const float *row = image.row(y[i]) + x;
      flag_peaks(row, std::ptrdiff_t(image.stride), n, sign, flags);
      for (std::int32_t k = 0; k < n; ++k)
        if (flags[k]) peaks.push_back({x + k, y[i], row[k]});
    }
  }
  if (peaks.size() == before) peaks.push_back(extreme(image, y, x0, x1, first, last, sign));
  std::sort(peaks.begin() + before, peaks.end(), brighter);
}

void register_peaks(nb::module_ &m) {
  m.def("find_peaks", &find_peaks, nb::arg("image"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"), nb::arg("negative"),
        nb::arg("taps").none() = nb::none(),
        "Peaks of each footprint: its pixels off the image's outermost ring without a strictly greater (negative: smaller) neighbour, or "
        "its first extreme pixel when there is none, by decreasing value, then increasing x, then y. Returns x, y (int32), value "
        "(float32) and the first peak of each footprint (int64, one more than footprints). With taps they are those of the image convolved as "
        "by smooth, and the footprints lie on what is left of it.");
  m.def("refresh_peaks", &refresh_peaks, nb::arg("image"), nb::arg("variance").none(), nb::arg("level"), nb::arg("border"),
        nb::arg("value"), nb::arg("include"), nb::arg("min_pixels"), nb::arg("negative"), nb::arg("y"), nb::arg("x0"), nb::arg("x1"), nb::arg("start"),
        nb::arg("peak_x"), nb::arg("peak_y"), nb::arg("peak_value"), nb::arg("peak_start"), nb::arg("max_simple"), nb::arg("taps").none() = nb::none(),
        nb::arg("image_taps").none() = nb::none(),
        "Peaks found anew on image - level (level is wider than image by border pixels on every side) for every footprint with more than "
        "max_simple peaks: the footprint's bounding box is "
        "thresholded as by detect, and the peaks of what is found, as by find_peaks with the box's own ring left out, replace the old "
        "ones where they lie inside the footprint; without any, the first old peak stays. Image and variance may be wider and have taps, as for detect. Returns as find_peaks.");
  m.def("merge_peaks", &merge_peaks, nb::arg("peak_x"), nb::arg("peak_y"), nb::arg("peak_value"), nb::arg("peak_start"),
        nb::arg("owner"), nb::arg("owners"),
        "Order in which the peaks of footprints merged into owner[i] (int64, 0 to owners - 1) are listed: the members' lists in turn, "
        "each merged into those before by the order of find_peaks, from the shorter list's side. Returns the order and the first peak of each owner (int64).");
}

} // namespace streamchar
