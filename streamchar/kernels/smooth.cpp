// Separable convolution of a plane with a symmetric kernel, on the pixels the whole kernel fits on.
#include "arrays.hpp"
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

// A plane or a box of one: rows of adjacent pixels.
using Box = nb::ndarray<nb::numpy, const float, nb::ndim<2>, nb::device::cpu>;

void smooth(Box plane, Vector<const float> taps, Plane<float> out) {
  if (taps.shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  if (plane.shape(1) > 1 && plane.stride(1) != 1) throw std::invalid_argument("the pixels of a row are not adjacent");
  const std::size_t half = taps.shape(0) - 1, height = plane.shape(0), width = plane.shape(1);
  if (height < 2 * half + 1 || width < 2 * half + 1) throw std::invalid_argument("the plane is smaller than the kernel");
  if (out.shape(0) != height - 2 * half || out.shape(1) != width - 2 * half)
    throw std::invalid_argument("the output is not the plane without the kernel's borders");
  nb::gil_scoped_release release;
  std::vector<float> ring((2 * half + 1) * strip_width);
  for (std::size_t x = 0; x < out.shape(1); x += strip_width)
    filter_strip(plane.data() + x, plane.stride(0), out.data() + x, out.shape(1), height, std::min(strip_width, out.shape(1) - x), taps.data(),
                 int(half), ring);
}

} // namespace

void register_smooth(nb::module_ &m) {
  m.def("smooth", &smooth, nb::arg("plane"), nb::arg("taps"), nb::arg("out"),
        "Convolve plane (float32 height x width, may be a slice of rows and columns) along x and y with the symmetric kernel taps[|k|], k = -h..h, h = len(taps) - 1, "
        "into out (float32, height - 2h x width - 2h). NaN spreads to every pixel whose kernel covers it.");
}

} // namespace streamchar
