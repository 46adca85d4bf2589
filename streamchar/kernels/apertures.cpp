// Sums over nested circles of whole pixels.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

struct Ring {
  double flux[4], variance[4]; // partial sums
};

struct Sums {
  Four flux, variance;
};

struct Planes {
  const float *image, *variance;
  std::size_t width, size; // pixels in a row and in all
};

STREAMCHAR_INLINE void add_last(const Planes &planes, std::size_t first, std::ptrdiff_t n, Sums &ring) {
  Four f{0, 0, 0, 0}, v = f;
  if (first + 4 <= planes.size) {
    const FourMasks inside = FourMasks(FourMasks{0, 1, 2, 3} < (long long)(n));
    load(planes.image + first, f);
    load(planes.variance + first, v);
    keep(inside, f);
    keep(inside, v);
  } else { // the last pixels of the plane: nothing may be read beyond
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      f[i] = double(planes.image[first + std::size_t(i)]);
      v[i] = double(planes.variance[first + std::size_t(i)]);
    }
  }
  ring.flux += f;
  ring.variance += v;
}

STREAMCHAR_INLINE void add_segment(const Planes &planes, std::size_t row, std::ptrdiff_t first, std::ptrdiff_t last, Sums &ring) {
  std::size_t at = row * planes.width + std::size_t(first);
  std::ptrdiff_t left = last - first + 1;
  if (left >= 8) {
    // Two chains of sums: one alone would wait for its own additions.
    Four f, v, flux, variance;
    broadcast(0.0, flux);
    broadcast(0.0, variance);
    for (; left >= 8; left -= 8, at += 8) {
      load(planes.image + at, f);
      load(planes.variance + at, v);
      ring.flux += f;
      ring.variance += v;
      load(planes.image + at + 4, f);
      load(planes.variance + at + 4, v);
      flux += f;
      variance += v;
    }
    ring.flux += flux;
    ring.variance += variance;
  }
  if (left >= 4) {
    Four f, v;
    load(planes.image + at, f);
    load(planes.variance + at, v);
    ring.flux += f;
    ring.variance += v;
    left -= 4;
    at += 4;
  }
  if (left > 0) add_last(planes, at, left, ring);
}

// Rows of a circle are too far apart for the processor to foresee them.
constexpr std::ptrdiff_t ROWS_AHEAD = 6;
constexpr std::size_t CACHE_LINE = 16; // pixels

STREAMCHAR_INLINE void fetch_row(const Planes &planes, double x, double dy, double radius, std::size_t row) {
  const double half = std::sqrt(std::max(radius * radius - dy * dy, 0.0));
  const std::size_t first = row * planes.width + std::size_t(x - half), last = row * planes.width + std::size_t(x + half);
  for (std::size_t at = first; at < last + CACHE_LINE; at += CACHE_LINE) {
    __builtin_prefetch(planes.image + at);
    __builtin_prefetch(planes.variance + at);
  }
}

// Each ring between consecutive radii collects its own pixels of every row. rings has one entry per radius.
STREAMCHAR_MULTIVERSION void sum_rings(const Planes &planes, double x, double y, const double *radii, std::size_t count, Ring *rings) {
  const double largest = radii[count - 1];
  const std::ptrdiff_t last_row = std::ptrdiff_t(std::floor(y + largest));
  for (std::ptrdiff_t row = std::ptrdiff_t(std::ceil(y - largest)); row <= last_row; ++row) {
    const double dy = double(row) - y;
    if (row + ROWS_AHEAD <= last_row) fetch_row(planes, x, dy + ROWS_AHEAD, largest, std::size_t(row + ROWS_AHEAD));
    std::ptrdiff_t left = 0, right = -1; // columns already counted in smaller circles
    for (std::size_t k = 0; k < count; ++k) {
      const double square = radii[k] * radii[k] - dy * dy;
      if (!(square >= 0)) continue;
      const double half = std::sqrt(square);
      const std::ptrdiff_t first = std::ptrdiff_t(std::ceil(x - half)), last = std::ptrdiff_t(std::floor(x + half));
      if (first > last) continue;
      Sums ring;
      load(rings[k].flux, ring.flux);
      load(rings[k].variance, ring.variance);
      if (right < left) {
        add_segment(planes, std::size_t(row), first, last, ring);
      } else {
        add_segment(planes, std::size_t(row), first, left - 1, ring);
        add_segment(planes, std::size_t(row), right + 1, last, ring);
      }
      std::memcpy(rings[k].flux, &ring.flux, sizeof ring.flux);
      std::memcpy(rings[k].variance, &ring.variance, sizeof ring.variance);
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
    const Planes planes{scene.image().data(), variance.data(), scene.width(), scene.width() * scene.height()};
    const Ring empty{};
    std::vector<Ring> rings(count);
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t usable = 0;
      while (usable < count && inside(scene, x(i), y(i), radii(usable))) ++usable;
      rings.assign(count, empty);
      if (usable) {
        const Shown shown(scene, i);
        sum_rings(planes, x(i), y(i), radii.data(), usable, rings.data());
      }
      double total_flux = 0.0, total_variance = 0.0;
      for (std::size_t k = 0; k < count; ++k) {
        for (int lane = 0; lane < 4; ++lane) {
          total_flux += rings[k].flux[lane];
          total_variance += rings[k].variance[lane];
        }
        flux.row(i)[k] = k < usable ? total_flux : std::nan("");
        square.row(i)[k] = k < usable ? total_variance : std::nan("");
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
