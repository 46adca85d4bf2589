// Sums over nested circles of whole pixels.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

struct Ring {
  double flux[4], variance[4]; // partial sums
};

struct Sums {
  Four flux{0, 0, 0, 0}, variance{0, 0, 0, 0};
  STREAMCHAR_INLINE void add(const Four &f, const Four &v) {
    flux += f;
    variance += v;
  }
};

struct Planes {
  const float *image, *variance;
  std::size_t width, size; // pixels in a row and in all

  STREAMCHAR_INLINE void add(std::size_t at, Sums &sums) const {
    Four f, v;
    load(image + at, f);
    load(variance + at, v);
    sums.add(f, v);
  }
  // The first n of four pixels: all of them are read, unless that would be beyond the plane.
  STREAMCHAR_INLINE void add_first(std::size_t at, std::ptrdiff_t n, Sums &sums) const {
    Four f{0, 0, 0, 0}, v = f;
    if (at + 4 <= size) {
      const FourMasks inside = FourMasks(FourMasks{0, 1, 2, 3} < (long long)(n));
      load(image + at, f);
      load(variance + at, v);
      keep(inside, f);
      keep(inside, v);
    } else {
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        f[i] = double(image[at + std::size_t(i)]);
        v[i] = double(variance[at + std::size_t(i)]);
      }
    }
    sums.add(f, v);
  }
};

// Columns of each row inside each circle, inclusive (none: last = first - 1), known before any pixel is added: what the
// processor expects of a length is then put right without waiting for a root.
struct Chords {
  std::ptrdiff_t top = 0, rows = 0;
  std::vector<std::int32_t> first, last; // circle after circle, row after row of the largest
  std::vector<std::int32_t> pixels;      // of each circle

  STREAMCHAR_MULTIVERSION void of(double x, double y, const double *radii, std::size_t count);
};

void Chords::of(double x, double y, const double *radii, std::size_t count) {
  top = std::ptrdiff_t(std::ceil(y - radii[count - 1]));
  rows = std::ptrdiff_t(std::floor(y + radii[count - 1])) - top + 1;
  first.resize(count * std::size_t(rows));
  last.resize(first.size());
  pixels.resize(count);
  for (std::size_t k = 0; k < count; ++k) {
    std::int32_t *__restrict from = first.data() + k * std::size_t(rows), *__restrict to = last.data() + k * std::size_t(rows);
    const double limit = radii[k] * radii[k];
    const std::int32_t n = std::int32_t(rows), row = std::int32_t(top);
    for (std::int32_t r = 0; r < n; ++r) {
      const double dy = double(row + r) - y, square = limit - dy * dy, half = std::sqrt(square > 0.0 ? square : 0.0);
      const double low = std::ceil(x - half), high = std::floor(x + half);
      from[r] = std::int32_t(low);
      to[r] = std::int32_t(square >= 0.0 ? high : low - 1.0);
    }
    std::int32_t total = 0;
    for (std::int32_t r = 0; r < n; ++r) total += to[r] - from[r] + 1;
    pixels[k] = total;
  }
}

STREAMCHAR_INLINE void store(const Sums &one, const Sums &other, Ring &ring) {
  const Four flux = one.flux + other.flux, variance = one.variance + other.variance;
  std::memcpy(ring.flux, &flux, sizeof flux);
  std::memcpy(ring.variance, &variance, sizeof variance);
}

// Two chains of sums: one alone would wait for its own additions.
STREAMCHAR_INLINE void add_row(const Planes &planes, std::size_t at, std::ptrdiff_t n, Ring &ring) {
  Sums one, other;
  load(ring.flux, one.flux);
  load(ring.variance, one.variance);
  std::ptrdiff_t i = 0;
  for (; i + 8 <= n; i += 8) {
    planes.add(at + std::size_t(i), one);
    planes.add(at + std::size_t(i) + 4, other);
  }
  planes.add_first(at + std::size_t(i), n - i, one);
  if (n - i > 4) planes.add_first(at + std::size_t(i) + 4, n - i - 4, other);
  store(one, other, ring);
}

// Both sides of a ring in a row, which differ by a pixel at most: together they leave the processor one length to foresee.
STREAMCHAR_INLINE void add_sides(const Planes &planes, std::size_t left, std::ptrdiff_t n_left, std::size_t right, std::ptrdiff_t n_right, Ring &ring) {
  Sums one, other;
  load(ring.flux, one.flux);
  load(ring.variance, one.variance);
  const std::ptrdiff_t whole = std::min(n_left, n_right) / 4 * 4;
  for (std::ptrdiff_t i = 0; i < whole; i += 4) {
    planes.add(left + std::size_t(i), one);
    planes.add(right + std::size_t(i), other);
  }
  planes.add_first(left + std::size_t(whole), n_left - whole, one);
  planes.add_first(right + std::size_t(whole), n_right - whole, other);
  store(one, other, ring);
}

// Rows of a circle are too far apart for the processor to foresee them.
constexpr std::size_t ROWS_AHEAD = 6;
constexpr std::ptrdiff_t CACHE_LINE = 16; // pixels

// Each ring between consecutive radii collects its own pixels of every row. rings has one entry per radius.
STREAMCHAR_MULTIVERSION void sum_rings(const Planes &planes, const Chords &chords, std::size_t count, Ring *rings) {
  const std::int32_t *first = chords.first.data(), *last = chords.last.data();
  const std::size_t rows = std::size_t(chords.rows), largest = (count - 1) * rows;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t start = (std::size_t(chords.top) + r) * planes.width;
    if (r + ROWS_AHEAD < rows) {
      const std::size_t there = start + ROWS_AHEAD * planes.width, next = largest + r + ROWS_AHEAD;
      for (std::ptrdiff_t at = first[next]; at < last[next] + CACHE_LINE; at += CACHE_LINE) {
        __builtin_prefetch(planes.image + there + at);
        __builtin_prefetch(planes.variance + there + at);
      }
    }
    std::ptrdiff_t left = 0, right = -1; // columns already counted in smaller circles
    for (std::size_t k = 0; k < count; ++k) {
      const std::ptrdiff_t from = first[k * rows + r], to = last[k * rows + r];
      if (from > to) continue;
      if (left > right)
        add_row(planes, start + std::size_t(from), to - from + 1, rings[k]);
      else
        add_sides(planes, start + std::size_t(from), left - from, start + std::size_t(right + 1), to - right, rings[k]);
      left = from;
      right = to;
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
  Rows<std::int32_t> pixels(n, count);
  {
    nb::gil_scoped_release release;
    const Planes planes{scene.image().data(), variance.data(), scene.width(), scene.width() * scene.height()};
    const Ring empty{};
    std::vector<Ring> rings(count);
    Chords chords;
    for (std::size_t i = 0; i < n; ++i) {
      std::size_t usable = 0;
      while (usable < count && inside(scene, x(i), y(i), radii(usable))) ++usable;
      rings.assign(count, empty);
      if (usable) {
        const Shown shown(scene, i);
        chords.of(x(i), y(i), radii.data(), usable);
        sum_rings(planes, chords, usable, rings.data());
      }
      double total_flux = 0.0, total_variance = 0.0;
      for (std::size_t k = 0; k < count; ++k) {
        for (int lane = 0; lane < 4; ++lane) {
          total_flux += rings[k].flux[lane];
          total_variance += rings[k].variance[lane];
        }
        flux.row(i)[k] = k < usable ? total_flux : std::nan("");
        square.row(i)[k] = k < usable ? total_variance : std::nan("");
        pixels.row(i)[k] = k < usable ? chords.pixels[k] : -1;
      }
    }
  }
  return nb::make_tuple(flux.release(), square.release(), pixels.release());
}

} // namespace

void register_apertures(nb::module_ &m) {
  m.def("circular_apertures", &circular_apertures, nb::arg("scene"), nb::arg("variance"), nb::arg("x"), nb::arg("y"), nb::arg("radii"),
        "Sums of the image and of the variance over pixels whose centres lie within each radius (ascending) of (x, y), and the number of "
        "these pixels: two float64 and one int32 (n, radii). NaN and -1 where the circle's box leaves the image.");
}

} // namespace streamchar
