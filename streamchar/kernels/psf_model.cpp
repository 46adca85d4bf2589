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
// On the way grids lie transposed, so that one more transposition is enough to reach a stamp, and the rows of both are
// padded with zeros to whole lanes: a pitch is the distance of one row from the next.
struct Shape {
  std::size_t n, terms, grid, stamp;
  double scale;
  int order;
};

double start_of(const Shape &s, double shift) { return double(s.grid / 2) - (double(s.stamp / 2) + shift) * s.scale; }

// Stars are taken four at a time, so that the components are read once for all four.
constexpr std::size_t GROUP = 4;

// images (GROUP x size) = sum over terms of basis (terms x GROUP) times components (terms x size), size in whole lanes.
template <typename T> STREAMCHAR_MULTIVERSION void combine(const T *components, const T *basis, std::size_t terms, std::size_t size, T *images) {
  using Wide = typename Lanes<T>::Wide;
  constexpr std::size_t WIDTH = sizeof(Wide) / sizeof(T), PARTS = 2;
  std::size_t i = 0;
  for (; i + PARTS * WIDTH <= size; i += PARTS * WIDTH) {
    Wide total[GROUP][PARTS], first, second;
    for (auto &group : total)
      for (Wide &sum : group) sum = Wide{};
    for (std::size_t c = 0; c < terms; ++c) {
      std::memcpy(&first, components + c * size + i, sizeof first);
      std::memcpy(&second, components + c * size + i + WIDTH, sizeof second);
      for (std::size_t g = 0; g < GROUP; ++g) {
        total[g][0] += basis[c * GROUP + g] * first;
        total[g][1] += basis[c * GROUP + g] * second;
      }
    }
    for (std::size_t g = 0; g < GROUP; ++g)
      for (std::size_t part = 0; part < PARTS; ++part) {
        first = total[g][part];
        std::memcpy(images + g * size + i + WIDTH * part, &first, sizeof first);
      }
  }
  for (; i < size; i += WIDTH)
    for (std::size_t g = 0; g < GROUP; ++g) {
      Wide total = {}, value;
      for (std::size_t c = 0; c < terms; ++c) {
        std::memcpy(&value, components + c * size + i, sizeof value);
        total += basis[c * GROUP + g] * value;
      }
      std::memcpy(images + g * size + i, &total, sizeof total);
    }
}

// The transpose: add basis times images to the components.
template <typename T> STREAMCHAR_MULTIVERSION void scatter(const T *images, const T *basis, std::size_t terms, std::size_t size, T *components) {
  static_assert(GROUP == 4);
  using Wide = typename Lanes<T>::Wide;
  for (std::size_t i = 0; i < size; i += sizeof(Wide) / sizeof(T)) {
    Wide one, two, three, four, total;
    std::memcpy(&one, images + i, sizeof one);
    std::memcpy(&two, images + size + i, sizeof two);
    std::memcpy(&three, images + 2 * size + i, sizeof three);
    std::memcpy(&four, images + 3 * size + i, sizeof four);
    for (std::size_t c = 0; c < terms; ++c) {
      const T *f = basis + c * GROUP;
      T *to = components + c * size + i;
      std::memcpy(&total, to, sizeof total);
      total += (f[0] * one + f[1] * two) + (f[2] * three + f[3] * four);
      std::memcpy(to, &total, sizeof total);
    }
  }
}

template <typename T> struct Workspace {
  std::vector<T> components, grids, basis, a, b, stamp; // components: terms x area; grids: GROUP x area; basis: terms x GROUP
  Taps<T> x, y;
  std::size_t pitch, stamp_pitch, area;
  explicit Workspace(const Shape &s) : x(s.stamp, s.order), y(s.stamp, s.order), pitch(padded(s.grid)), stamp_pitch(padded(s.stamp)), area(s.grid * pitch) {
    components.resize(s.terms * area);
    grids.resize(GROUP * area);
    basis.resize(s.terms * GROUP);
    a.resize(stamp_pitch * pitch);
    b.resize(a.size());
    stamp.resize(s.stamp * stamp_pitch);
  }
  static std::size_t padded(std::size_t n) {
    constexpr std::size_t WIDTH = sizeof(typename Lanes<T>::Wide) / sizeof(T);
    return (n + WIDTH - 1) / WIDTH * WIDTH;
  }
  // The functions of stars first, first + 1, ...; zero beyond the last star. Returns the number of stars.
  std::size_t select(const Shape &s, const double *functions, std::size_t first) {
    const std::size_t count = std::min(GROUP, s.n - first);
    for (std::size_t c = 0; c < s.terms; ++c)
      for (std::size_t g = 0; g < GROUP; ++g) basis[c * GROUP + g] = g < count ? T(functions[(first + g) * s.terms + c]) : T(0);
    return count;
  }
  void place(const Shape &s, double dx, double dy) {
    x.fill(start_of(s, dx), s.scale, std::int64_t(s.grid));
    y.fill(start_of(s, dy), s.scale, std::int64_t(s.grid));
  }
  T *grid(std::size_t g) { return grids.data() + g * area; }
  // Take over components (terms x S x S), and hand them back.
  void read(const Shape &s, const double *given) {
    for (std::size_t c = 0; c < s.terms; ++c)
      transpose(given + c * s.grid * s.grid, s.grid, s.grid, s.grid, components.data() + c * area, pitch);
  }
  void write(const Shape &s, double *out) const {
    for (std::size_t c = 0; c < s.terms; ++c)
      transpose(components.data() + c * area, pitch, s.grid, s.grid, out + c * s.grid * s.grid, s.grid);
  }
};

// Add to as many places, PARTS times the lanes, of each of the rows that a position is interpolated from.
template <std::size_t PARTS, typename T> STREAMCHAR_INLINE void spread(const T *in, const T *factor, std::size_t count, std::size_t pitch, T *out) {
  using Wide = typename Lanes<T>::Wide;
  constexpr std::size_t WIDTH = sizeof(Wide) / sizeof(T);
  Wide value[PARTS], total;
  for (std::size_t part = 0; part < PARTS; ++part) {
    std::memcpy(&total, in + WIDTH * part, sizeof total);
    value[part] = total;
  }
  for (std::size_t k = 0; k < count; ++k)
    for (std::size_t part = 0; part < PARTS; ++part) {
      T *to = out + k * pitch + WIDTH * part;
      std::memcpy(&total, to, sizeof total);
      total += factor[k] * value[part];
      std::memcpy(to, &total, sizeof total);
    }
}

// The transpose of interpolate_rows: in (outputs x width) spread onto out (inputs x width), whole lanes wide.
template <typename T> STREAMCHAR_MULTIVERSION void spread_rows(const Taps<T> &taps, const T *in, std::size_t inputs, std::size_t width, T *out) {
  constexpr std::size_t WIDTH = sizeof(typename Lanes<T>::Wide) / sizeof(T);
  for (std::size_t i = 0; i < inputs * width; ++i) out[i] = T(0);
  for (std::size_t row = 0; row < taps.outputs; ++row, in += width) {
    const T *w = taps.weight.data() + row * taps.taps;
    std::size_t begin = taps.begin(row), end = taps.end(row, std::int64_t(inputs));
    while (begin < end && w[begin] == T(0)) ++begin;
    while (begin < end && w[end - 1] == T(0)) --end;
    if (begin >= end) continue;
    T *first = out + std::size_t(taps.first[row] + std::int64_t(begin)) * width;
    std::size_t i = 0;
    for (; i + 4 * WIDTH <= width; i += 4 * WIDTH) spread<4>(in + i, w + begin, end - begin, width, first + i);
    for (; i + 2 * WIDTH <= width; i += 2 * WIDTH) spread<2>(in + i, w + begin, end - begin, width, first + i);
    for (; i < width; i += WIDTH) spread<1>(in + i, w + begin, end - begin, width, first + i);
  }
}

// From a grid to work.stamp.
template <typename T> void draw(const Shape &s, Workspace<T> &work, const T *grid) {
  interpolate_rows(work.x, grid, s.grid, work.pitch, work.a.data());
  transpose(work.a.data(), work.pitch, work.stamp_pitch, work.pitch, work.b.data(), work.stamp_pitch);
  interpolate_rows(work.y, work.b.data(), s.grid, work.stamp_pitch, work.stamp.data());
}

// From work.stamp to a grid.
template <typename T> void draw_transposed(const Shape &s, Workspace<T> &work, T *grid) {
  spread_rows(work.y, work.stamp.data(), s.grid, work.stamp_pitch, work.b.data());
  transpose(work.b.data(), work.stamp_pitch, work.pitch, work.stamp_pitch, work.a.data(), work.pitch);
  spread_rows(work.x, work.a.data(), s.grid, work.pitch, grid);
}

template <typename T> STREAMCHAR_MULTIVERSION void multiply(const double *factor, std::size_t size, T *values, std::size_t pitch) {
  for (std::size_t row = 0; row < size; ++row)
    for (std::size_t i = 0; i < size; ++i) values[row * pitch + i] *= T(factor[row * size + i]);
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
    Workspace<double> work(s);
    work.read(s, components.data());
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      combine(work.components.data(), work.basis.data(), s.terms, work.area, work.grids.data());
      for (std::size_t g = 0; g < count; ++g) {
        work.place(s, dx(i + g), dy(i + g));
        draw(s, work, work.grid(g));
        double *to = out + (i + g) * size * size;
        for (std::size_t row = 0; row < size; ++row) std::copy_n(work.stamp.data() + row * work.stamp_pitch, size, to + row * size);
      }
    }
  }
  return to_cube(out, s.n, size, size);
}

auto psf_draw_transposed(Array3 stamps, Array2 basis, Array1 dx, Array1 dy, std::size_t grid, double scale, int order) {
  const Shape s = shape_of(grid, basis, dx, dy, stamps.shape(1), scale, order);
  require(stamps.shape(0) == s.n && stamps.shape(2) == s.stamp, "stamps must be (n, size, size)");
  double *out = new double[s.terms * grid * grid];
  {
    nb::gil_scoped_release release;
    Workspace<float> work(s);
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      for (std::size_t g = 0; g < count; ++g) {
        work.place(s, dx(i + g), dy(i + g));
        const double *from = stamps.data() + (i + g) * s.stamp * s.stamp;
        for (std::size_t row = 0; row < s.stamp; ++row) std::copy_n(from + row * s.stamp, s.stamp, work.stamp.data() + row * work.stamp_pitch);
        draw_transposed(s, work, work.grid(g));
      }
      std::fill(work.grids.begin() + std::ptrdiff_t(count * work.area), work.grids.end(), 0);
      scatter(work.grids.data(), work.basis.data(), s.terms, work.area, work.components.data());
    }
    work.write(s, out);
  }
  return to_cube(out, s.terms, grid, grid);
}

auto psf_normal_product(Array3 components, Array2 basis, Array1 dx, Array1 dy, Array3 weights, double scale, int order) {
  const Shape s = shape_of(components.shape(1), basis, dx, dy, weights.shape(1), scale, order);
  require(components.shape(2) == s.grid && components.shape(0) == s.terms, "components must be (terms, grid, grid)");
  require(weights.shape(0) == s.n && weights.shape(2) == s.stamp, "weights must be (n, size, size)");
  double *out = new double[s.terms * s.grid * s.grid];
  {
    nb::gil_scoped_release release;
    Workspace<float> work(s);
    work.read(s, components.data());
    std::vector<float> product(work.components.size());
    for (std::size_t i = 0; i < s.n; i += GROUP) {
      const std::size_t count = work.select(s, basis.data(), i);
      combine(work.components.data(), work.basis.data(), s.terms, work.area, work.grids.data());
      for (std::size_t g = 0; g < count; ++g) {
        float *grid = work.grid(g);
        work.place(s, dx(i + g), dy(i + g));
        draw(s, work, grid);
        multiply(weights.data() + (i + g) * s.stamp * s.stamp, s.stamp, work.stamp.data(), work.stamp_pitch);
        draw_transposed(s, work, grid);
      }
      std::fill(work.grids.begin() + std::ptrdiff_t(count * work.area), work.grids.end(), 0);
      scatter(work.grids.data(), work.basis.data(), s.terms, work.area, product.data());
    }
    work.components.swap(product);
    work.write(s, out);
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
        "The transpose of psf_draw as a linear map, summed in single precision: stamps (n, size, size) to components (C, grid, grid).");
  m.def("psf_normal_product", &psf_normal_product, nb::arg("components").noconvert(), nb::arg("basis").noconvert(), nb::arg("dx"),
        nb::arg("dy"), nb::arg("weights").noconvert(), nb::arg("scale"), nb::arg("order"),
        "psf_draw, multiplication by weights (n, size, size), psf_draw_transposed: the normal matrix applied to components, in single precision.");
}

} // namespace streamchar
