// Adaptive Gaussian-weighted second moments (SdssShape) of many sources.
#include "arrays.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include "weighted_sums.hpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::int32_t UNWEIGHTED = 1, UNWEIGHTED_BAD = 2, SHIFT = 4, MAX_ITER = 8;
constexpr double EPSILON = 1.1920928955078125e-7; // of single precision: the limit of a singular covariance
constexpr double Q_MAX = 14.0, Q_MAX_FINE = 9.0, R_MAX = 1000.0;
constexpr std::int64_t PADDING = 3; // pixels after the last that must be readable

struct Options {
  int max_iter;
  double max_shift, tol1, tol2, background;
  bool negative;
};

struct Symmetric {
  double xx, xy, yy;
  double det() const { return xx * yy - xy * xy; }
  Symmetric inverse() const {
    const double d = det();
    return {yy / d, -xy / d, xx / d};
  }
  bool singular() const { return !(det() >= EPSILON); }
};

struct Box {
  std::int64_t x0, y0, x1, y1; // inclusive
  bool empty() const { return x1 < x0 || y1 < y0; }
};

struct Sums {
  double s = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0; // about the weight's centre
};

struct Result {
  double xx, yy, xy, x, y, i0;
  std::int32_t flags;
};

const double NaN = std::numeric_limits<double>::quiet_NaN();

Box box_around(double x, double y, double radius, std::int64_t width, std::int64_t height) {
  const auto low = [&](double v) { return std::int64_t(std::max(std::ceil(v - radius - 0.5), 0.0)); };
  const auto high = [&](double v, std::int64_t n) { return std::int64_t(std::min(std::floor(v + radius + 0.5), double(n) - 1)); };
  return {low(x), low(y), high(x, width), high(y, height)};
}

// Pixels within the ellipse q <= Q_MAX of the weight exp(-q/2), in a buffer where the background is to be subtracted or nothing
// may be read beyond the last row.
template <typename T>
STREAMCHAR_MULTIVERSION void weighted_sums(const T *image, std::int64_t width, std::int64_t height, const Box &box, double x0, double y0,
                                           const Symmetric &inverse, double background, std::vector<T> &buffer, Sums &total) {
  const Inverse w{inverse.xx, inverse.xy, inverse.yy};
  const Weight weight(w);
  Totals totals;
  RowBlockOf<T> block;
  for (std::int64_t row = box.y0; row <= box.y1; ++row) {
    const double dy = double(row) - y0;
    double low, high;
    if (!chord(w, Q_MAX, dy, low, high)) continue;
    const double leftmost = std::max(std::ceil(x0 + low), double(box.x0)), rightmost = std::min(std::floor(x0 + high), double(box.x1));
    if (!(leftmost <= rightmost)) continue;
    const std::int64_t first = std::int64_t(leftmost), last = std::int64_t(rightmost);
    const T *pixels = image + row * width + first;
    const bool copied = background != 0.0 || row * width + last + PADDING >= height * width;
    if (copied) {
      buffer.assign(std::size_t(last - first + 1 + PADDING), T(0));
      for (std::int64_t i = 0; i <= last - first; ++i) buffer[std::size_t(i)] = T(double(pixels[i]) - background);
    }
    block.add(copied ? buffer.data() : pixels, last - first + 1, double(first) - x0, dy);
    if (copied || block.count == RowBlock::SIZE) add_block(block, weight, totals);
  }
  add_block(block, weight, totals);
  total = {sum(totals.f), sum(totals.x), sum(totals.y), sum(totals.xx), sum(totals.xy), sum(totals.yy)};
}

// The same on a 4 x 4 grid inside every pixel, for weights narrower than the pixels sample.
template <typename T>
Sums fine_sums(const T *image, std::int64_t width, const Box &box, double x0, double y0, const Symmetric &w, double background) {
  static constexpr double STEP[4] = {-0.375, -0.125, 0.125, 0.375};
  const auto q = [&](double x, double y) { return w.xx * x * x + 2.0 * w.xy * x * y + w.yy * y * y; };
  Sums total;
  for (std::int64_t iy = box.y0; iy <= box.y1; ++iy)
    for (std::int64_t ix = box.x0; ix <= box.x1; ++ix) {
      const double x = double(ix) - x0, y = double(iy) - y0;
      const double corners = std::max(std::max(q(x - 0.375, y - 0.375), q(x + 0.375, y - 0.375)),
                                      std::max(q(x - 0.375, y + 0.375), q(x + 0.375, y + 0.375)));
      if (!(corners <= Q_MAX_FINE)) continue;
      const double value = (double(image[iy * width + ix]) - background) / 16.0;
      for (double dy : STEP)
        for (double dx : STEP) {
          const double f = value * std::exp(-0.5 * q(x + dx, y + dy));
          total.s += f;
          total.x += (x + dx) * f;
          total.y += (y + dy) * f;
          total.xx += (x + dx) * (x + dx) * f;
          total.xy += (x + dx) * (y + dy) * f;
          total.yy += (y + dy) * (y + dy) * f;
        }
    }
  return total;
}

template <typename T>
Sums plain_sums(const T *image, std::int64_t width, const Box &box, double x0, double y0, double background) {
  Sums total;
  for (std::int64_t iy = box.y0; iy <= box.y1; ++iy)
    for (std::int64_t ix = box.x0; ix <= box.x1; ++ix) {
      const double x = double(ix) - x0, y = double(iy) - y0, f = double(image[iy * width + ix]) - background;
      total.s += f;
      total.x += x * f;
      total.y += y * f;
      total.xx += x * x * f;
      total.xy += x * y * f;
      total.yy += y * y * f;
    }
  return total;
}

bool positive(const Sums &sums, bool negative) {
  return negative ? (sums.s < 0 && sums.xx < 0 && sums.yy < 0) : (sums.s > 0 && sums.xx > 0 && sums.yy > 0);
}

void set_centroid(Result &result, const Sums &sums, double x0, double y0, double max_shift) {
  const double dx = sums.x / sums.s, dy = sums.y / sums.s;
  result.x = x0 + dx;
  result.y = y0 + dy;
  if (std::abs(dx) > max_shift || std::abs(dy) > max_shift)
    result.flags |= SHIFT;
  else
    result.flags &= ~SHIFT;
}

template <typename T>
void unweighted(Result &result, const T *image, std::int64_t width, const Box &box, double x0, double y0, const Options &o) {
  result.flags |= UNWEIGHTED;
  result.i0 = NaN;
  const Sums sums = plain_sums(image, width, box, x0, y0, o.background);
  const bool has_flux = o.negative ? sums.s < 0 : sums.s > 0;
  if (!positive(sums, o.negative)) {
    result.flags |= UNWEIGHTED_BAD;
    result.xx = result.yy = has_flux ? 1.0 / 12.0 : NaN;
    result.xy = has_flux ? 0.0 : NaN;
    return;
  }
  set_centroid(result, sums, x0, y0, o.max_shift);
  result.xx = sums.xx / sums.s;
  result.xy = sums.xy / sums.s;
  result.yy = sums.yy / sums.s;
}

template <typename T>
Result measure(const T *image, std::int64_t height, std::int64_t width, double x0, double y0, const Options &o, std::vector<T> &buffer) {
  Result result{NaN, NaN, NaN, x0, y0, NaN, 0};
  Box box{0, 0, -1, -1};
  if (!std::isfinite(x0) || !std::isfinite(y0)) {
    result.flags = UNWEIGHTED | UNWEIGHTED_BAD;
    return result;
  }
  Symmetric W{1.5, 0.0, 1.5}, previous = W;
  double e1_old = 1e6, e2_old = 1e6, o11_old = 1e6;
  bool fine = false;
  for (int iteration = 0; iteration < o.max_iter; ++iteration) {
    if (W.singular()) break;
    if (!fine && (W.xx < 0.25 || W.yy < 0.25 || W.det() < 0.0625)) {
      fine = true;
      if (iteration > 0) W = previous;
    }
    box = box_around(x0, y0, std::min(4.0 * std::sqrt(std::max(W.xx, W.yy)), R_MAX), width, height);
    if (box.empty()) break;
    const Symmetric w = W.inverse();
    Sums sums;
    if (fine)
      sums = fine_sums(image, width, box, x0, y0, w, o.background);
    else
      weighted_sums(image, width, height, box, x0, y0, w, o.background, buffer, sums);
    if (!positive(sums, o.negative)) break;
    set_centroid(result, sums, x0, y0, o.max_shift);
    const Symmetric observed{sums.xx / sums.s, sums.xy / sums.s, sums.yy / sums.s};
    if (!(observed.xx > 0 && observed.yy > 0)) break;
    const double trace = observed.xx + observed.yy;
    const double e1 = (observed.xx - observed.yy) / trace, e2 = 2.0 * observed.xy / trace;
    if (iteration > 0 && std::abs(e1 - e1_old) < o.tol1 && std::abs(e2 - e2_old) < o.tol1 &&
        std::abs(observed.xx / o11_old - 1.0) < o.tol2) {
      result.xx = W.xx;
      result.xy = W.xy;
      result.yy = W.yy;
      result.i0 = sums.s / (M_PI * std::sqrt(W.det()));
      return result;
    }
    e1_old = e1;
    e2_old = e2;
    o11_old = observed.xx;
    if (observed.singular()) break;
    const Symmetric inverse = observed.inverse();
    const Symmetric n{inverse.xx - w.xx, inverse.xy - w.xy, inverse.yy - w.yy};
    if (n.singular()) break;
    previous = W;
    W = n.inverse();
    if (!(W.xx > 0 && W.yy > 0)) break;
    if (iteration + 1 == o.max_iter) result.flags |= MAX_ITER;
  }
  if (o.max_iter < 1) result.flags |= MAX_ITER;
  unweighted(result, image, width, box, x0, y0, o);
  return result;
}

// Column-wise results of n sources.
struct Results {
  explicit Results(std::size_t n) : xx(n), yy(n), xy(n), x(n), y(n), i0(n), flags(n) {}
  void set(std::size_t i, const Result &r) {
    xx[i] = r.xx;
    yy[i] = r.yy;
    xy[i] = r.xy;
    x[i] = r.x;
    y[i] = r.y;
    i0[i] = r.i0;
    flags[i] = r.flags;
  }
  nb::tuple release() {
    return nb::make_tuple(xx.release(), yy.release(), xy.release(), x.release(), y.release(), i0.release(), flags.release());
  }

  Values<double> xx, yy, xy, x, y, i0;
  Values<std::int32_t> flags;
};

template <typename T>
nb::tuple run(const T *first, std::size_t stride, std::size_t height, std::size_t width, const Vector<const double> &x,
              const Vector<const double> &y, const Options &options) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  Results results(n);
  {
    nb::gil_scoped_release release;
    std::vector<T> buffer;
    for (std::size_t i = 0; i < n; ++i)
      results.set(i, measure(first + i * stride, std::int64_t(height), std::int64_t(width), x(i), y(i), options, buffer));
  }
  return results.release();
}

nb::tuple on_scene(Scene &scene, Vector<const double> x, Vector<const double> y, Vector<const bool> negative, int max_iter,
                   double max_shift, double tol1, double tol2, double background) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n || negative.shape(0) != n) throw std::invalid_argument("positions and signs differ in length");
  scene.require_sources(n);
  Results results(n);
  {
    nb::gil_scoped_release release;
    std::vector<float> buffer;
    for (std::size_t i = 0; i < n; ++i) {
      const Shown shown(scene, i);
      results.set(i, measure(scene.row(0), std::int64_t(scene.height()), std::int64_t(scene.width()), x(i), y(i),
                             {max_iter, max_shift, tol1, tol2, background, negative(i)}, buffer));
    }
  }
  return results.release();
}

template <typename T>
nb::tuple on_stamps(Cube<const T> stamps, Vector<const double> x, Vector<const double> y, int max_iter, double max_shift,
                    double tol1, double tol2, double background, bool negative) {
  if (stamps.shape(0) != x.shape(0)) throw std::invalid_argument("stamps and x differ in length");
  return run(stamps.data(), stamps.shape(1) * stamps.shape(2), stamps.shape(1), stamps.shape(2), x, y,
             {max_iter, max_shift, tol1, tol2, background, negative});
}

template <typename T>
nb::tuple on_image(Plane<const T> image, Vector<const double> x, Vector<const double> y, int max_iter, double max_shift,
                   double tol1, double tol2, double background, bool negative) {
  return run(image.data(), 0, image.shape(0), image.shape(1), x, y, {max_iter, max_shift, tol1, tol2, background, negative});
}

template <typename Function> void define(nb::module_ &m, const char *name, Function function, const char *array, const char *doc) {
  m.def(name, function, nb::arg(array).noconvert(), nb::arg("x"), nb::arg("y"), nb::kw_only(), nb::arg("max_iter") = 100,
        nb::arg("max_shift") = 2.0, nb::arg("tol1") = 1e-5, nb::arg("tol2") = 1e-4, nb::arg("background") = 0.0,
        nb::arg("negative") = false, doc);
}

} // namespace

void register_sdss_shape(nb::module_ &m) {
  const char *stamps_doc =
      "Adaptive moments of stamps (float32 or float64 (n, h, w)), one source a stamp with weight centre (x, y) in its "
      "pixels. Returns (xx, yy, xy, x, y, i0, flags): moments of the weight in pixel^2, weighted centroid, central "
      "intensity (flux = 2 pi sqrt(det) i0), bits 1 unweighted, 2 unweighted bad, 4 shift, 8 max_iter.";
  const char *image_doc = "Like sdss_shape for sources at (x, y) of one image (float32 or float64 (h, w)).";
  define(m, "sdss_shape", &on_stamps<float>, "stamps", stamps_doc);
  define(m, "sdss_shape", &on_stamps<double>, "stamps", stamps_doc);
  define(m, "sdss_shape_image", &on_image<float>, "image", image_doc);
  define(m, "sdss_shape_image", &on_image<double>, "image", image_doc);
  m.def("sdss_shape_scene", &on_scene, nb::arg("scene"), nb::arg("x"), nb::arg("y"), nb::arg("negative"), nb::kw_only(), nb::arg("max_iter") = 100,
        nb::arg("max_shift") = 2.0, nb::arg("tol1") = 1e-5, nb::arg("tol2") = 1e-4, nb::arg("background") = 0.0,
        "Like sdss_shape_image for the sources of a scene, each being shown alone; negative: bool (n), those of which the pixels are below the background.");
}

} // namespace streamchar
