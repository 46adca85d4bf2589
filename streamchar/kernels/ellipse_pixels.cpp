// The usable pixels of elliptical rings around many sources, one after the other.
#include "results.hpp"
#include "window.hpp"
#include <cmath>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

// Append the pixels with inner < q <= outer, q being the squared distance in units of the ellipse.
void append_ring(const Scene &scene, const Plane<const std::int32_t> &mask, std::int32_t bad, double x, double y, const Ellipse &ellipse,
                 double inner, double outer, std::vector<float> &values) {
  if (!std::isfinite(x) || !std::isfinite(y) || !ellipse.usable()) return;
  const Box box = box_within(scene, x, y, ellipse, outer);
  const double det = ellipse.determinant(), low = inner * det, high = outer * det;
  for (std::ptrdiff_t row = box.y0; row <= box.y1; ++row) {
    const float *pixels = scene.row(std::size_t(row));
    const std::int32_t *planes = mask.data() + std::size_t(row) * scene.width();
    const double dy = double(row) - y, square = ellipse.xx * dy * dy;
    for (std::ptrdiff_t column = box.x0; column <= box.x1; ++column) {
      const double dx = double(column) - x, q = ellipse.yy * dx * dx - 2.0 * ellipse.xy * dx * dy + square;
      if (q <= high && q > low && !(planes[column] & bad)) values.push_back(pixels[column]);
    }
  }
}

nb::tuple ellipse_pixels(Scene &scene, Plane<const std::int32_t> mask, std::int32_t bad, Vector<const double> x, Vector<const double> y,
                         Vector<const double> xx, Vector<const double> yy, Vector<const double> xy, double inner, double outer) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n || xx.shape(0) != n || yy.shape(0) != n || xy.shape(0) != n)
    throw std::invalid_argument("positions and moments differ in length");
  if (mask.shape(0) != scene.height() || mask.shape(1) != scene.width()) throw std::invalid_argument("image and mask differ in shape");
  if (!(outer > 0) || !std::isfinite(outer)) throw std::invalid_argument("the outer radius must be positive and finite");
  scene.require_sources(n);
  // Without an inner radius the centre itself belongs to the ring.
  const double low = inner > 0 ? inner * inner : -1.0;
  std::vector<float> values;
  std::vector<std::int64_t> start{0};
  {
    nb::gil_scoped_release release;
    start.reserve(n + 1);
    for (std::size_t i = 0; i < n; ++i) {
      const Shown shown(scene, i);
      append_ring(scene, mask, bad, x(i), y(i), {xx(i), xy(i), yy(i)}, low, outer * outer, values);
      start.push_back(std::int64_t(values.size()));
    }
  }
  return nb::make_tuple(copy_to_numpy(values), copy_to_numpy(start));
}

} // namespace

void register_ellipse_pixels(nb::module_ &m) {
  m.def("ellipse_pixels", &ellipse_pixels, nb::arg("scene"), nb::arg("mask"), nb::arg("bad"), nb::arg("x"), nb::arg("y"), nb::arg("xx"), nb::arg("yy"),
        nb::arg("xy"), nb::arg("inner"), nb::arg("outer"),
        "Pixels of the image without any of the mask bits `bad`, source i shown, whose centres lie between `inner` (exclusive; 0: from the centre on) "
        "and `outer` (inclusive) times the ellipse of second moments (xx, yy, xy) about (x, y); at most 1000 pixels from it along either axis. Returns "
        "them row by row and source after source, float32, with the first of each, int64 (n + 1). None where a position or an ellipse is not usable.");
}

} // namespace streamchar
