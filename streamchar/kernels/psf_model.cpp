// Drawing a pixel-basis PSF on stamps, and the products its least-squares fit needs.
#include "arrays.hpp"
#include "lanczos_taps.hpp"
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace streamchar {
namespace {

// The model has C components of S x S super-pixels; a stamp is V x V pixels. The super-pixel coordinate of stamp
// pixel j is S/2 + (j - V/2 - shift) * scale, with integer halves and scale in super-pixels per pixel.
struct Shape {
  std::size_t n, terms, grid, stamp;
  double scale;
  int order;
};

double start_of(const Shape &s, double shift) { return double(s.grid / 2) - (double(s.stamp / 2) + shift) * s.scale; }

// Stars are taken four at a time, so that the components are read once for all four.
constexpr std::size_t GROUP = 4;

// images (GROUP x size) = sum over terms of basis (terms x GROUP) times components (terms x size).
STREAMCHAR_MULTIVERSION void combine(const double *components, const double *basis, std::size_t terms, std::size_t size, double *images) {
  std::size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    Four total[GROUP][2] = {}, first, second;
    for (std::size_t c = 0; c < terms; ++c) {
      load(components + c * size + i, first);
      load(components + c * size + i + 4, second);
      for (std::size_t g = 0; g < GROUP; ++g) {
        total[g][0] += basis[c * GROUP + g] * first;
        total[g][1] += basis[c * GROUP + g] * second;
      }
    }
    for (std::size_t g = 0; g < GROUP; ++g) std::memcpy(images + g * size + i, total[g], sizeof total[g]);
  }
  for (; i < size; ++i)
    for (std::size_t g = 0; g < GROUP; ++g) {
      double total = 0.0;
      for (std::size_t c = 0; c < terms; ++c) total += basis[c * GROUP + g] * components[c * size + i];
      images[g * size + i] = total;
    }
}

// The transpose: add basis times images to the components.
STREAMCHAR_MULTIVERSION void scatter(const double *images, const double *basis, std::size_t terms, std::size_t size, double *components) {
  static_assert(GROUP == 4);
  const double *one = images, *two = one + size, *three = two + size, *four = three + size;
  std::size_t i = 0;
  for (; i + 8 <= size; i += 8)
    for (std::size_t part = i; part < i + 8; part += 4) {
      Four a, b, c, d, total;
      load(one + part, a);
      load(two + part, b);
      load(three + part, c);
      load(four + part, d);
      for (std::size_t k = 0; k < terms; ++k) {
        const double *f = basis + k * GROUP;
        double *p = components + k * size + part;
        load(p, total);
        total += (f[0] * a + f[1] * b) + (f[2] * c + f[3] * d);
        std::memcpy(p, &total, sizeof total);
      }
    }
  for (; i < size; ++i)
    for (std::size_t c = 0; c < terms; ++c)
      for (std::size_t g = 0; g < GROUP; ++g) components[c * size + i] += basis[c * GROUP + g] * images[g * size + i];
}

// The transpose: in (outputs x width) spread onto out (inputs x width).
void spread_rows(const Taps &taps, const double *in, std::size_t inputs, std::size_t width, double *out) {
  std::fill(out, out + inputs * width, 0.0);
  for (std::size_t i = 0; i < taps.outputs; ++i) {
    const double *w = taps.weight.data() + i * taps.taps;
    for (std::size_t k = taps.begin(i); k < taps.end(i, std::int64_t(inputs)); ++k)
      if (w[k] != 0.0) add_scaled(in + i * width, w[k], width, out + std::size_t(taps.first[i] + std::int64_t(k)) * width);
  }
}

struct Workspace {
  std::vector<double> grids, basis, a, b; // grids: GROUP x S x S; basis: terms x GROUP
  Taps x, y;
  explicit Workspace(const Shape &s)
      : grids(GROUP * s.grid * s.grid), basis(s.terms * GROUP), a(std::max(s.grid, s.stamp) * std::max(s.grid, s.stamp)), b(a.size()),
        x(s.stamp, s.order), y(s.stamp, s.order) {}
  // The functions of stars first, first + 1, ...; zero beyond the last star. Returns the number of stars.
  std::size_t select(const Shape &s, const double *functions, std::size_t first) {
    const std::size_t count = std::min(GROUP, s.n - first);
    for (std::size_t c = 0; c < s.terms; ++c)
      for (std::size_t g = 0; g < GROUP; ++g) basis[c * GROUP + g] = g < count ? functions[(first + g) * s.terms + c] : 0.0;
    return count;
  }
  void place(const Shape &s, double dx, double dy) {
    x.fill(start_of(s, dx), s.scale, std::int64_t(s.grid));
    y.fill(start_of(s, dy), s.scale, std::int64_t(s.grid));
  }
};

// grid (S x S) to stamp (V x V); the row pass first, then the column pass on the transposed image.
void draw(const Shape &s, Workspace &work, const double *grid, double *stamp) {
  interpolate_rows(work.y, grid, s.grid, s.grid, work.a.data());
  transpose(work.a.data(), s.stamp, s.grid, work.b.data());
  interpolate_rows(work.x, work.b.data(), s.grid, s.stamp, work.a.data());
  transpose(work.a.data(), s.stamp, s.stamp, stamp);
}

void draw_transposed(const Shape &s, Workspace &work, const double *stamp, double *grid) {
  transpose(stamp, s.stamp, s.stamp, work.a.data());
  spread_rows(work.x, work.a.data(), s.grid, s.stamp, work.b.data());
  transpose(work.b.data(), s.grid, s.stamp, work.a.data());
  spread_rows(work.y, work.a.data(), s.grid, s.grid, grid);
}

using Array3 = Cube<const double>;
using Array2 = Plane<const double>;
using Array1 = Vector<const double>;

Shape shape_of(std::size_t grid, const Array2 &basis, const Array1 &dx, const Array1 &dy, std::size_t stamp, double scale, int order) {
  if (dx.shape(0) != basis.shape(0) || dy.shape(0) != basis.shape(0)) throw std::invalid_argument("basis, dx and dy differ in length");
  if (grid < 1 || stamp < 1 || order < SPLINE || order > 16 || !(scale > 0)) throw std::invalid_argument("grid, stamp and scale must be positive, the order 0 to 16");
  return {basis.shape(0), basis.shape(1), grid, stamp, scale, order};
}

void require(bool condition, const char *what) {
  if (!condition) throw std::invalid_argument(what);
}

nb::ndarray<nb::numpy, double, nb::ndim<3>> to_cube(double *data, std::size_t a, std::size_t b, std::size_t c) {
  nb::capsule owner(data, [](void *p) noexcept { delete[] static_cast<double *>(p); });
  return nb::ndarray<nb::numpy, double, nb::ndim<3>>(data, {a, b, c}, owner);
}

auto psf_draw(Array3 components, Array2 basis, Array1 dx, Array1 dy, std::size_t size, double scale, int order) {
  const Shape s = shape_of(components.shape(1), basis, dx, dy, size, scale, order);
  require(components.shape(2) == s.grid && components.shape(0) == s.terms, "components must be (terms, grid, grid)");
  double *out = new double[s.n * size * size];
  {
    nb::gil_scoped_release release;
    Workspace work(s);
    const std::size_t area = s.grid * s.grid;
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      combine(components.data(), work.basis.data(), s.terms, area, work.grids.data());
      for (std::size_t g = 0; g < count; ++g) {
        work.place(s, dx(i + g), dy(i + g));
        draw(s, work, work.grids.data() + g * area, out + (i + g) * size * size);
      }
    }
  }
  return to_cube(out, s.n, size, size);
}

auto psf_draw_transposed(Array3 stamps, Array2 basis, Array1 dx, Array1 dy, std::size_t grid, double scale, int order) {
  const Shape s = shape_of(grid, basis, dx, dy, stamps.shape(1), scale, order);
  require(stamps.shape(0) == s.n && stamps.shape(2) == s.stamp, "stamps must be (n, size, size)");
  double *out = new double[s.terms * grid * grid]();
  {
    nb::gil_scoped_release release;
    Workspace work(s);
    const std::size_t area = grid * grid;
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      for (std::size_t g = 0; g < count; ++g) {
        work.place(s, dx(i + g), dy(i + g));
        draw_transposed(s, work, stamps.data() + (i + g) * s.stamp * s.stamp, work.grids.data() + g * area);
      }
      std::fill(work.grids.begin() + std::ptrdiff_t(count * area), work.grids.end(), 0.0);
      scatter(work.grids.data(), work.basis.data(), s.terms, area, out);
    }
  }
  return to_cube(out, s.terms, grid, grid);
}

auto psf_normal_product(Array3 components, Array2 basis, Array1 dx, Array1 dy, Array3 weights, double scale, int order) {
  const Shape s = shape_of(components.shape(1), basis, dx, dy, weights.shape(1), scale, order);
  require(components.shape(2) == s.grid && components.shape(0) == s.terms, "components must be (terms, grid, grid)");
  require(weights.shape(0) == s.n && weights.shape(2) == s.stamp, "weights must be (n, size, size)");
  double *out = new double[s.terms * s.grid * s.grid]();
  {
    nb::gil_scoped_release release;
    Workspace work(s);
    std::vector<double> stamp(s.stamp * s.stamp);
    const std::size_t area = s.grid * s.grid;
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      combine(components.data(), work.basis.data(), s.terms, area, work.grids.data());
      for (std::size_t g = 0; g < count; ++g) {
        double *grid = work.grids.data() + g * area;
        work.place(s, dx(i + g), dy(i + g));
        draw(s, work, grid, stamp.data());
        const double *w = weights.data() + (i + g) * stamp.size();
        for (std::size_t k = 0; k < stamp.size(); ++k) stamp[k] *= w[k];
        draw_transposed(s, work, stamp.data(), grid);
      }
      std::fill(work.grids.begin() + std::ptrdiff_t(count * area), work.grids.end(), 0.0);
      scatter(work.grids.data(), work.basis.data(), s.terms, area, out);
    }
  }
  return to_cube(out, s.terms, s.grid, s.grid);
}

} // namespace

void register_psf_model(nb::module_ &m) {
  m.def("psf_draw", &psf_draw, nb::arg("components").noconvert(), nb::arg("basis").noconvert(), nb::arg("dx"), nb::arg("dy"),
        nb::arg("size"), nb::arg("scale"), nb::arg("order"),
        "Draw n stamps (n, size, size) of the model sum_c basis[i, c] components[c] (C, S, S), its centre moved by (dx, dy) "
        "pixels: stamp pixel j lies at super-pixel S//2 + (j - size//2 - shift) scale; Lanczos interpolation of the given "
        "order with weights of unit sum, or for order 0 the quintic B-spline whose coefficients the components are; zero "
        "outside the grid.");
  m.def("psf_draw_transposed", &psf_draw_transposed, nb::arg("stamps").noconvert(), nb::arg("basis").noconvert(), nb::arg("dx"),
        nb::arg("dy"), nb::arg("grid"), nb::arg("scale"), nb::arg("order"),
        "The transpose of psf_draw as a linear map: stamps (n, size, size) to components (C, grid, grid).");
  m.def("psf_normal_product", &psf_normal_product, nb::arg("components").noconvert(), nb::arg("basis").noconvert(), nb::arg("dx"),
        nb::arg("dy"), nb::arg("weights").noconvert(), nb::arg("scale"), nb::arg("order"),
        "psf_draw, multiplication by weights (n, size, size), psf_draw_transposed: the normal matrix applied to components.");
}

} // namespace streamchar
