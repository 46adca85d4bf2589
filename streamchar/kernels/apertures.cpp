// Sums over nested circles of whole pixels.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

struct Pair {
  double flux, variance;
};

STREAMCHAR_INLINE void add_segment(const float *image, const float *variance, std::ptrdiff_t first, std::ptrdiff_t last, Pair &total) {
  Four f{0, 0, 0, 0}, v{0, 0, 0, 0};
  std::ptrdiff_t i = first;
  for (; i + 3 <= last; i += 4) {
    Four a, b;
    load(image + i, a);
    load(variance + i, b);
    f += a;
    v += b;
  }
  double flux = sum(f), noise = sum(v);
  for (; i <= last; ++i) {
    flux += double(image[i]);
    noise += double(variance[i]);
  }
  total.flux += flux;
  total.variance += noise;
}

// Each ring between consecutive radii collects its own pixels of every row. rings has one entry per radius.
STREAMCHAR_MULTIVERSION void sum_rings(const float *image, const float *variance, std::size_t stride, double x, double y,
                                       const double *radii, std::size_t count, Pair *rings) {
  const double largest = radii[count - 1];
  const std::ptrdiff_t last_row = std::ptrdiff_t(std::floor(y + largest));
  for (std::ptrdiff_t row = std::ptrdiff_t(std::ceil(y - largest)); row <= last_row; ++row) {
    const double dy = double(row) - y;
    const float *pixels = image + std::size_t(row) * stride, *noise = variance + std::size_t(row) * stride;
    std::ptrdiff_t left = 0, right = -1; // columns already counted in smaller circles
    for (std::size_t k = 0; k < count; ++k) {
      const double square = radii[k] * radii[k] - dy * dy;
      if (!(square >= 0)) continue;
      const double half = std::sqrt(square);
      const std::ptrdiff_t first = std::ptrdiff_t(std::ceil(x - half)), last = std::ptrdiff_t(std::floor(x + half));
      if (first > last) continue;
      if (right < left) {
        add_segment(pixels, noise, first, last, rings[k]);
      } else {
        add_segment(pixels, noise, first, left - 1, rings[k]);
        add_segment(pixels, noise, right + 1, last, rings[k]);
      }
      left = first;
      right = last;
    }
  }
}

bool inside(const Scene &scene, double x, double y, double radius) {
  return std::ceil(x - radius - 0.5) >= 0 && std::ceil(y - radius - 0.5) >= 0 && std::floor(x + radius + 0.5) <= double(scene.width()) - 1 &&
         std::floor(y + radius + 0.5) <= double(scene.height()) - 1;
}

nb::tuple circular_apertures(Scene &scene, Plane<const float> variance, Vector<const double> x, Vector<const double> y,
                             Vector<const double> radii) {
  const std::size_t n = x.shape(0), count = radii.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width()) throw std::invalid_argument("variance and image differ in shape");
  for (std::size_t k = 0; k < count; ++k)
    if (!(radii(k) > 0) || !std::isfinite(radii(k)) || (k && radii(k) < radii(k - 1))) throw std::invalid_argument("radii must be positive, finite and ascending");
  Rows<double> flux(n, count), square(n, count);
  {
    nb::gil_scoped_release release;
    std::vector<Pair> rings(count);
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t usable = 0;
      while (usable < count && inside(scene, x(i), y(i), radii(usable))) ++usable;
      rings.assign(count, {0.0, 0.0});
      if (usable) {
        const Shown shown(scene, i);
        sum_rings(scene.image().data(), variance.data(), scene.width(), x(i), y(i), radii.data(), usable, rings.data());
      }
      Pair total{0.0, 0.0};
      for (std::size_t k = 0; k < count; ++k) {
        total.flux += rings[k].flux;
        total.variance += rings[k].variance;
        flux.row(i)[k] = k < usable ? total.flux : std::nan("");
        square.row(i)[k] = k < usable ? total.variance : std::nan("");
      }
    }
  }
  return nb::make_tuple(flux.release(), square.release());
}

} // namespace

void register_apertures(nb::module_ &m) {
  m.def("circular_apertures", &circular_apertures, nb::arg("scene"), nb::arg("variance"), nb::arg("x"), nb::arg("y"), nb::arg("radii"),
        "Sums of the image and of the variance over pixels whose centres lie within each radius (ascending) of (x, y): two float64 (n, radii). "
        "NaN where the circle's box leaves the image.");
}

} // namespace streamchar
