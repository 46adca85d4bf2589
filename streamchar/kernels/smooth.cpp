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

// Columns filtered together: the ring of filtered rows of a strip stays in the nearest caches.
constexpr std::size_t strip_width = 1024;

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

template <int H>
STREAMCHAR_INLINE void column_fixed(const float *const *rows, float *__restrict out, std::size_t n, const float *taps) {
  float t[H + 1];
  const float *r[2 * H + 1];
  for (int k = 0; k <= H; ++k) t[k] = taps[k];
  for (int k = 0; k <= 2 * H; ++k) r[k] = rows[k];
  for (std::size_t x = 0; x < n; ++x) {
    float sum = t[0] * r[H][x];
    for (int k = 1; k <= H; ++k) sum += t[k] * (r[H - k][x] + r[H + k][x]);
    out[x] = sum;
  }
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

STREAMCHAR_MULTIVERSION void filter_column(const float *const *rows, float *out, std::size_t n, const float *taps, int half) {
  switch (half) {
#define STREAMCHAR_CASE(H) \
  case H: return column_fixed<H>(rows, out, n, taps);
    STREAMCHAR_EACH_HALF(STREAMCHAR_CASE)
#undef STREAMCHAR_CASE
  default: return column_any(rows, out, n, taps, half);
  }
}

void filter_strip(const float *in, std::ptrdiff_t stride, float *out, std::size_t out_stride, std::size_t height, std::size_t width,
                  const float *taps, int half, std::vector<float> &ring) {
  const std::size_t depth = 2 * half + 1;
  std::vector<const float *> rows(depth);
  for (std::size_t y = 0; y < height; ++y) {
    filter_row(in + std::ptrdiff_t(y) * stride, ring.data() + (y % depth) * strip_width, width, taps, half);
    if (y + 1 < depth) continue;
    const std::size_t first = y + 1 - depth;
    for (std::size_t k = 0; k < depth; ++k) rows[k] = ring.data() + ((first + k) % depth) * strip_width;
    filter_column(rows.data(), out + first * out_stride, width, taps, half);
  }
}

void smooth(Box plane, Vector<const float> taps, Plane<float> out) {
  if (taps.shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  const View in = view_of_box(plane);
  const std::size_t half = taps.shape(0) - 1, height = plane.shape(0), width = plane.shape(1);
  if (height < 2 * half + 1 || width < 2 * half + 1) throw std::invalid_argument("the plane is smaller than the kernel");
  if (out.shape(0) != height - 2 * half || out.shape(1) != width - 2 * half)
    throw std::invalid_argument("the output is not the plane without the kernel's borders");
  nb::gil_scoped_release release;
  std::vector<float> ring((2 * half + 1) * strip_width);
  for (std::size_t x = 0; x < out.shape(1); x += strip_width)
    filter_strip(in.data + x, in.stride, out.data() + x, out.shape(1), height, std::min(strip_width, out.shape(1) - x), taps.data(), int(half),
                 ring);
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
  float *values = new float[x.shape(0)];
  {
    nb::gil_scoped_release release;
    for (std::size_t i = 0; i < x.shape(0); ++i) values[i] = result.pixel(x(i) - half, y(i) - half);
  }
  return to_numpy(values, x.shape(0));
}

} // namespace

View view_of_box(const Box &box) {
  if (box.size() > 0 && box.shape(1) > 1 && box.stride(1) != 1) throw std::invalid_argument("the pixels of a row are not adjacent");
  return {box.data(), std::size_t(box.stride(0)), std::int32_t(box.shape(0)), std::int32_t(box.shape(1))};
}

Convolved convolved(const std::optional<Box> &box, const std::optional<Vector<const float>> &taps, std::size_t height, std::size_t width) {
  static constexpr float unit = 1.0f;
  if (taps && taps->shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  const int half = taps ? int(taps->shape(0)) - 1 : 0;
  if (!box) return {{nullptr, 0, 0, 0}, &unit, 0};
  if (box->shape(0) != height + 2 * half || box->shape(1) != width + 2 * half)
    throw std::invalid_argument("image and variance differ in shape");
  return {view_of_box(*box), taps ? taps->data() : &unit, half};
}

float Convolved::pixel(std::int32_t x, std::int32_t y) const {
  const auto along_row = [this, x](std::int32_t row) {
    const float *centre = plane.row(row) + x + half;
    float sum = taps[0] * centre[0];
    for (int k = 1; k <= half; ++k) sum += taps[k] * (centre[-k] + centre[k]);
    return sum;
  };
  float sum = taps[0] * along_row(y + half);
  for (int k = 1; k <= half; ++k) sum += taps[k] * (along_row(y + half - k) + along_row(y + half + k));
  return sum;
}

ConvolvedRows::ConvolvedRows(const Convolved &source)
    : source_(source), width_(std::max(source.plane.width - 2 * source.half, 0)), ring_((2 * source.half + 1) * width_), row_(width_),
      rows_(2 * source.half + 1) {
  if (source_.half > 0)
    while (filtered_ < 2 * source_.half) filter_next();
}

void ConvolvedRows::filter_next() {
  filter_row(source_.plane.row(filtered_), ring_.data() + (filtered_ % rows_.size()) * width_, width_, source_.taps, source_.half);
  ++filtered_;
}

const float *ConvolvedRows::next() {
  if (source_.half == 0 && source_.taps[0] == 1.0f) return source_.plane.row(filtered_++);
  filter_next();
  for (std::size_t k = 0; k < rows_.size(); ++k) rows_[k] = ring_.data() + ((filtered_ + k) % rows_.size()) * width_;
  filter_column(rows_.data(), row_.data(), width_, source_.taps, source_.half);
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
