// Separable convolution of a plane with a symmetric kernel, on the pixels the whole kernel fits on.
#include "smooth.hpp"
#include <algorithm>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

#if defined(__GNUC__)
#define STREAMCHAR_INLINE inline __attribute__((always_inline))
#else
#define STREAMCHAR_INLINE inline
#endif

// Columns filtered together: the filtered rows of a strip stay in the second cache, and whole rows are read where they are not longer.
constexpr std::size_t strip_width = 4096;

// Pixels filtered before more of the rows to come are asked for.
constexpr std::size_t foreseen = 512;

// Places before one at which the pixels around it are asked for.
constexpr std::size_t ahead = 4;

// Whole vectors cost less than the pixels that do not fill one.
std::size_t whole_vectors(std::size_t n) { return (n + 7) / 8 * 8; }

template <int H> STREAMCHAR_INLINE void row_fixed(const float *in, float *__restrict out, std::size_t n, const float *taps) {
  float t[H + 1];
  for (int k = 0; k <= H; ++k) t[k] = taps[k];
  in += H;
  for (std::size_t x = 0; x < n; ++x) {
    float sum = t[0] * in[x];
    for (int k = 1; k <= H; ++k) sum += t[k] * (in[x - k] + in[x + k]);
    out[x] = sum;
  }
}

// R rows of the result at once.
template <int H, int R>
STREAMCHAR_INLINE void columns_fixed(const float *const *rows, float *__restrict out, std::size_t stride, std::size_t n, const float *taps) {
  float t[H + 1];
  const float *r[2 * H + R];
  for (int k = 0; k <= H; ++k) t[k] = taps[k];
  for (int k = 0; k < 2 * H + R; ++k) r[k] = rows[k];
  for (std::size_t x = 0; x < n; ++x)
    for (int j = 0; j < R; ++j) {
      float sum = t[0] * r[H + j][x];
      for (int k = 1; k <= H; ++k) sum += t[k] * (r[H + j - k][x] + r[H + j + k][x]);
      out[j * stride + x] = sum;
    }
}

template <int H>
STREAMCHAR_INLINE void columns_fixed(const float *const *rows, float *out, std::size_t stride, std::size_t count, std::size_t n, const float *taps) {
  constexpr std::size_t together = ConvolvedRows::together;
  if (count == together) return columns_fixed<H, together>(rows, out, stride, n, taps);
  for (std::size_t j = 0; j < count; ++j) columns_fixed<H, 1>(rows + j, out + j * stride, stride, n, taps);
}

// Wider kernels: one pass over a cached strip per tap.
STREAMCHAR_INLINE void row_any(const float *in, float *__restrict out, std::size_t n, const float *taps, int half) {
  for (std::size_t x = 0; x < n; ++x) out[x] = taps[0] * in[x + half];
  for (int k = 1; k <= half; ++k)
    for (std::size_t x = 0; x < n; ++x) out[x] += taps[k] * (in[x + half - k] + in[x + half + k]);
}

STREAMCHAR_INLINE void column_any(const float *const *rows, float *__restrict out, std::size_t n, const float *taps, int half) {
  for (std::size_t x = 0; x < n; ++x) out[x] = taps[0] * rows[half][x];
  for (int k = 1; k <= half; ++k) {
    const float *above = rows[half - k], *below = rows[half + k];
    for (std::size_t x = 0; x < n; ++x) out[x] += taps[k] * (above[x] + below[x]);
  }
}

#define STREAMCHAR_EACH_HALF(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12)

STREAMCHAR_MULTIVERSION void filter_row(const float *in, float *out, std::size_t n, const float *taps, int half) {
  switch (half) {
#define STREAMCHAR_CASE(H) \
  case H: return row_fixed<H>(in, out, n, taps);
    STREAMCHAR_EACH_HALF(STREAMCHAR_CASE)
#undef STREAMCHAR_CASE
  default: return row_any(in, out, n, taps, half);
  }
}

STREAMCHAR_MULTIVERSION void filter_columns(const float *const *rows, float *out, std::size_t stride, std::size_t count, std::size_t n, const float *taps,
                                            int half) {
  switch (half) {
#define STREAMCHAR_CASE(H) \
  case H: return columns_fixed<H>(rows, out, stride, count, n, taps);
    STREAMCHAR_EACH_HALF(STREAMCHAR_CASE)
#undef STREAMCHAR_CASE
  default:
    for (std::size_t j = 0; j < count; ++j) column_any(rows + j, out + j * stride, n, taps, half);
  }
}

// n pixels of one row, along y into `column`, which is `wide`, and then along x.
STREAMCHAR_MULTIVERSION void filter_span(const float *const *rows, float *column, std::size_t wide, float *out, std::size_t n, const float *taps,
                                         int half) {
  switch (half) {
#define STREAMCHAR_CASE(H) \
  case H: \
    columns_fixed<H, 1>(rows, column, 0, wide, taps); \
    return row_fixed<H>(column, out, n, taps);
    STREAMCHAR_EACH_HALF(STREAMCHAR_CASE)
#undef STREAMCHAR_CASE
  default: column_any(rows, column, wide, taps, half); return row_any(column, out, n, taps, half);
  }
}

void smooth(Box plane, Vector<const float> taps, Plane<float> out) {
  if (taps.shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  const Convolved result{view_of_box(plane), taps.data(), int(taps.shape(0)) - 1};
  const std::size_t half = taps.shape(0) - 1, height = plane.shape(0), width = plane.shape(1);
  if (height < 2 * half + 1 || width < 2 * half + 1) throw std::invalid_argument("the plane is smaller than the kernel");
  if (out.shape(0) != height - 2 * half || out.shape(1) != width - 2 * half)
    throw std::invalid_argument("the output is not the plane without the kernel's borders");
  nb::gil_scoped_release release;
  const std::size_t rows = out.shape(0), columns = out.shape(1);
  for (std::size_t x = 0; x < columns; x += strip_width) {
    ConvolvedRows strip(result.box(std::int32_t(x), 0, std::int32_t(std::min(strip_width, columns - x)), std::int32_t(rows)));
    for (std::size_t y = 0; y < rows; y += ConvolvedRows::together)
      strip.write(out.data() + y * columns + x, columns, std::min(ConvolvedRows::together, rows - y));
  }
}

nb::ndarray<nb::numpy, float, nb::ndim<1>> smooth_at(Box plane, Vector<const float> taps, Vector<const std::int32_t> x,
                                                     Vector<const std::int32_t> y) {
  if (taps.shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  if (x.shape(0) != y.shape(0)) throw std::invalid_argument("x and y differ in length");
  const int half = int(taps.shape(0)) - 1;
  const Convolved result{view_of_box(plane), taps.data(), half};
  for (std::size_t i = 0; i < x.shape(0); ++i)
    if (x(i) < half || y(i) < half || x(i) + half >= result.plane.width || y(i) + half >= result.plane.height)
      throw std::invalid_argument("the kernel leaves the plane");
  auto values = unset<float>(x.shape(0));
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < x.shape(0); ++i) {
      if (i + ahead < x.shape(0)) {
        const std::ptrdiff_t column = x(i + ahead) - half, row = y(i + ahead) - half;
        result.fetch(Region{column, row, column, row});
      }
      values[i] = result.pixel(x(i) - half, y(i) - half);
    }
  }
  return to_numpy(std::move(values), x.shape(0));
}

} // namespace

View view_of_box(const Box &box) {
  if (box.size() > 0 && box.shape(1) > 1 && box.stride(1) != 1) throw std::invalid_argument("the pixels of a row are not adjacent");
  return {box.data(), std::size_t(box.stride(0)), std::int32_t(box.shape(0)), std::int32_t(box.shape(1))};
}

Convolved as_it_is(View plane) {
  static constexpr float unit = 1.0f;
  return {plane, &unit, 0};
}

Convolved convolved(const Box &box, const std::optional<Vector<const float>> &taps) {
  if (!taps) return as_it_is(view_of_box(box));
  if (taps->shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  const Convolved result{view_of_box(box), taps->data(), int(taps->shape(0)) - 1};
  if (result.width() < 0 || result.height() < 0) throw std::invalid_argument("the plane is smaller than the kernel");
  return result;
}

Convolved convolved(const std::optional<Box> &box, const std::optional<Vector<const float>> &taps, std::size_t height, std::size_t width) {
  if (!box) return as_it_is({nullptr, 0, 0, 0});
  const Convolved result = convolved(*box, taps);
  if (std::size_t(result.height()) != height || std::size_t(result.width()) != width)
    throw std::invalid_argument("image and variance differ in shape");
  return result;
}

float Convolved::along_row(std::int32_t x, std::int32_t row) const {
  const float *centre = plane.row(row) + x + half;
  float sum = taps[0] * centre[0];
  for (int k = 1; k <= half; ++k) sum += taps[k] * (centre[-k] + centre[k]);
  return sum;
}

float Convolved::middle(std::int32_t x, std::int32_t y) const { return taps[0] * along_row(x, y + half); }

float Convolved::pixel(std::int32_t x, std::int32_t y) const {
  float sum = middle(x, y);
  for (int k = 1; k <= half; ++k) sum += taps[k] * (along_row(x, y + half - k) + along_row(x, y + half + k));
  return sum;
}

ConvolvedRows::ConvolvedRows(const Convolved &source)
    : source_(source), width_(std::max(source.width(), 0)), height_(std::max(source.height(), 0)),
      ring_((2 * source.half + together) * width_), made_(together * width_), rows_(2 * source.half + together) {}

void ConvolvedRows::write(float *out, std::size_t stride, std::size_t count) {
  const std::size_t depth = rows_.size();
  for (; filtered_ < written_ + 2 * source_.half + count; ++filtered_) {
    const float *row = source_.plane.row(std::int32_t(filtered_));
    float *filtered = ring_.data() + (filtered_ % depth) * width_;
    // The processor does not foresee enough of the rows that come next.
    const std::size_t ahead = filtered_ + together < std::size_t(source_.plane.height) ? together * source_.plane.stride : 0;
    for (std::size_t x = 0; x < width_; x += foreseen) {
      const std::size_t n = std::min(foreseen, width_ - x);
      streamchar::fetch(row + ahead + x, std::ptrdiff_t(n));
      filter_row(row + x, filtered + x, n, source_.taps, source_.half);
    }
  }
  for (std::size_t k = 0; k < depth; ++k) rows_[k] = ring_.data() + ((written_ + k) % depth) * width_;
  filter_columns(rows_.data(), out, stride, count, width_, source_.taps, source_.half);
  written_ += count;
}

const float *ConvolvedRows::next() {
  if (source_.is_plane()) return source_.plane.row(std::int32_t(written_++));
  if (given_ == ready_) {
    given_ = 0;
    ready_ = std::min(together, height_ - written_);
    write(made_.data(), width_, ready_);
  }
  return made_.data() + given_++ * width_;
}

ConvolvedSpans::ConvolvedSpans(const Convolved &source)
    : source_(source), column_(whole_vectors(source.plane.width) + 8), row_(whole_vectors(source.plane.width)), rows_(2 * source.half + 1) {}

void ConvolvedSpans::fetch(std::int32_t y, std::int32_t x0, std::int32_t x1, bool all) const {
  const View &plane = source_.plane;
  const std::int32_t around = 2 * source_.half;
  const Region region{x0, all ? y : y + around, x1 + around, y + around};
  streamchar::fetch(plane.data, std::ptrdiff_t(plane.stride), region.within(plane.width, plane.height));
}

const float *ConvolvedSpans::values(std::int32_t y, std::int32_t x0, std::int32_t x1) {
  if (source_.is_plane()) return source_.plane.row(y) + x0;
  const std::size_t n = x1 - x0 + 1, wide = whole_vectors(n + 2 * source_.half), room = source_.plane.width - x0;
  for (std::size_t k = 0; k < rows_.size(); ++k) rows_[k] = source_.plane.row(y + std::int32_t(k)) + x0;
  filter_span(rows_.data(), column_.data(), std::min(wide, room), row_.data(), whole_vectors(n), source_.taps, source_.half);
  return row_.data();
}

void register_smooth(nb::module_ &m) {
  m.def("smooth", &smooth, nb::arg("plane"), nb::arg("taps"), nb::arg("out"),
        "Convolve plane (float32 height x width, may be a slice of rows and columns) along x and y with the symmetric kernel taps[|k|], k = -h..h, h = len(taps) - 1, "
        "into out (float32, height - 2h x width - 2h). NaN spreads to every pixel whose kernel covers it.");
  m.def("smooth_at", &smooth_at, nb::arg("plane"), nb::arg("taps"), nb::arg("x"), nb::arg("y"),
        "What smooth gives at single pixels x, y (int32) of plane, where the whole kernel fits: float32.");
}

} // namespace streamchar
