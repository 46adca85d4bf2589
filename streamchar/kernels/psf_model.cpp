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
  if (grid < 1 || stamp < 1 || order < SPLINE || order > MAX_ORDER || !(scale > 0)) throw std::invalid_argument("grid, stamp and scale must be positive, the order 0 to 16");
  return {basis.shape(0), basis.shape(1), grid, stamp, scale, order};
}

void require(bool condition, const char *what) {
  if (!condition) throw std::invalid_argument(what);
}

auto psf_draw(Array3 components, Array2 basis, Array1 dx, Array1 dy, std::size_t size, double scale, int order) {
  const Shape s = shape_of(components.shape(1), basis, dx, dy, size, scale, order);
  require(components.shape(2) == s.grid && components.shape(0) == s.terms, "components must be (terms, grid, grid)");
  auto out = unset<double>(s.n * size * size);
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
        double *to = out.get() + (i + g) * size * size;
        for (std::size_t row = 0; row < size; ++row) std::copy_n(work.stamp.data() + row * work.stamp_pitch, size, to + row * size);
      }
    }
  }
  return to_numpy(std::move(out), s.n, size, size);
}

// From stamps to components as a Workspace holds them.
void gather(const Shape &s, Workspace<float> &work, const Array2 &basis, const Array1 &dx, const Array1 &dy, const double *stamps, float *out) {
  std::fill_n(out, work.components.size(), 0.0f);
  for (std::size_t i = 0; i < s.n; i += GROUP) {
    const std::size_t count = work.select(s, basis.data(), i);
    for (std::size_t g = 0; g < count; ++g) {
      work.place(s, dx(i + g), dy(i + g));
      const double *from = stamps + (i + g) * s.stamp * s.stamp;
      for (std::size_t row = 0; row < s.stamp; ++row) std::copy_n(from + row * s.stamp, s.stamp, work.stamp.data() + row * work.stamp_pitch);
      draw_transposed(s, work, work.grid(g));
    }
    std::fill(work.grids.begin() + std::ptrdiff_t(count * work.area), work.grids.end(), 0);
    scatter(work.grids.data(), work.basis.data(), s.terms, work.area, out);
  }
}

auto psf_draw_transposed(Array3 stamps, Array2 basis, Array1 dx, Array1 dy, std::size_t grid, double scale, int order) {
  const Shape s = shape_of(grid, basis, dx, dy, stamps.shape(1), scale, order);
  require(stamps.shape(0) == s.n && stamps.shape(2) == s.stamp, "stamps must be (n, size, size)");
  auto out = unset<double>(s.terms * grid * grid);
  {
    nb::gil_scoped_release release;
    Workspace<float> work(s);
    gather(s, work, basis, dx, dy, stamps.data(), work.components.data());
    work.write(s, out.get());
  }
  return to_numpy(std::move(out), s.terms, grid, grid);
}

// The normal matrix of a least-squares fit, draw, weigh and draw_transposed, applied to components as a Workspace holds them.
void normal_product(const Shape &s, Workspace<float> &work, const Array2 &basis, const Array1 &dx, const Array1 &dy, const double *weights, const float *in, float *out) {
  std::fill_n(out, work.components.size(), 0.0f);
  for (std::size_t i = 0; i < s.n; i += GROUP) {
    const std::size_t count = work.select(s, basis.data(), i);
    combine(in, work.basis.data(), s.terms, work.area, work.grids.data());
    for (std::size_t g = 0; g < count; ++g) {
      float *grid = work.grid(g);
      work.place(s, dx(i + g), dy(i + g));
      draw(s, work, grid);
      multiply(weights + (i + g) * s.stamp * s.stamp, s.stamp, work.stamp.data(), work.stamp_pitch);
      draw_transposed(s, work, grid);
    }
    std::fill(work.grids.begin() + std::ptrdiff_t(count * work.area), work.grids.end(), 0);
    scatter(work.grids.data(), work.basis.data(), s.terms, work.area, out);
  }
}

// ROWS rows of a matrix times PARTS lanes of columns of another one, summed over inner places begin to end; the sums stay in registers.
template <std::size_t ROWS, std::size_t PARTS>
STREAMCHAR_INLINE void multiply_block(const float *matrix, const float *in, std::size_t pitch, std::size_t begin, std::size_t end, float *out) {
  using Wide = Lanes<float>::Wide;
  constexpr std::size_t WIDTH = sizeof(Wide) / sizeof(float);
  Wide total[ROWS][PARTS], value;
  for (auto &row : total)
    for (Wide &sum : row) sum = Wide{};
  for (std::size_t k = begin; k < end; ++k)
    for (std::size_t part = 0; part < PARTS; ++part) {
      std::memcpy(&value, in + k * pitch + WIDTH * part, sizeof value);
      for (std::size_t row = 0; row < ROWS; ++row) total[row][part] += matrix[row * pitch + k] * value;
    }
  for (std::size_t row = 0; row < ROWS; ++row)
    for (std::size_t part = 0; part < PARTS; ++part) {
      value = total[row][part];
      std::memcpy(out + row * pitch + WIDTH * part, &value, sizeof value);
    }
}

// A symmetric matrix that is applied along both axes of components, which lie as in a Workspace.
struct BothWays {
  static constexpr std::size_t ROWS = 4;
  std::size_t size, pitch;
  std::vector<float> matrix, a, b;         // pitch x pitch
  std::vector<std::size_t> begin, end;     // of what is not zero in each ROWS rows

  BothWays(const Plane<const double> &given, std::size_t pitch_)
      : size(given.shape(0)), pitch(pitch_), matrix(pitch * pitch), a(pitch * pitch), b(pitch * pitch) {
    for (std::size_t row = 0; row < size; ++row) std::copy_n(given.data() + row * size, size, matrix.data() + row * pitch);
    for (std::size_t row = 0; row < size; row += ROWS) {
      const auto none = [&](std::size_t column) {
        for (std::size_t k = row; k < row + ROWS; ++k)
          if (matrix[k * pitch + column] != 0.0f) return false;
        return true;
      };
      std::size_t first = 0, last = size;
      while (first < last && none(first)) ++first;
      while (first < last && none(last - 1)) --last;
      begin.push_back(first);
      end.push_back(last);
    }
  }

  void apply(const float *in, std::size_t terms, float *out) {
    for (std::size_t c = 0; c < terms; ++c, in += size * pitch, out += size * pitch) {
      multiply_rows(in, a.data());
      transpose(a.data(), pitch, size, pitch, b.data(), pitch);
      multiply_rows(b.data(), a.data());
      transpose(a.data(), pitch, size, size, out, pitch);
    }
  }

  void multiply_rows(const float *in, float *out) const {
    multiply_some(matrix.data(), in, size, pitch, begin.data(), end.data(), out);
  }

  STREAMCHAR_MULTIVERSION static void multiply_some(const float *matrix, const float *in, std::size_t size, std::size_t pitch, const std::size_t *begin,
                                                    const std::size_t *end, float *out) {
    constexpr std::size_t WIDTH = sizeof(Lanes<float>::Wide) / sizeof(float);
    for (std::size_t row = 0; row < size; row += ROWS, ++begin, ++end) {
      const float *m = matrix + row * pitch;
      float *to = out + row * pitch;
      std::size_t i = 0;
      for (; i + 2 * WIDTH <= pitch; i += 2 * WIDTH) multiply_block<ROWS, 2>(m, in + i, pitch, *begin, *end, to + i);
      for (; i < pitch; i += WIDTH) multiply_block<ROWS, 1>(m, in + i, pitch, *begin, *end, to + i);
    }
  }
};

template <typename T> STREAMCHAR_MULTIVERSION void scaled(const float *factor, const T *values, std::size_t n, float *out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = factor[i] * float(values[i]);
}

STREAMCHAR_MULTIVERSION void add_scaled(const float *factor, const float *values, std::size_t n, float *out) {
  for (std::size_t i = 0; i < n; ++i) out[i] += factor[i] * values[i];
}

STREAMCHAR_MULTIVERSION void step_along(double step, const float *direction, std::size_t n, double *out) {
  for (std::size_t i = 0; i < n; ++i) out[i] += step * double(direction[i]);
}

STREAMCHAR_MULTIVERSION void turn(float part, const float *towards, std::size_t n, float *direction) {
  for (std::size_t i = 0; i < n; ++i) direction[i] = part * direction[i] + towards[i];
}

// n in whole lanes.
template <typename T> STREAMCHAR_MULTIVERSION double scalar_product(const T *a, const float *b, std::size_t n) {
  Four first = {}, second = {}, x, y;
  for (std::size_t i = 0; i < n; i += 8) {
    load(a + i, x);
    load(b + i, y);
    first += x * y;
    load(a + i + 4, x);
    load(b + i + 4, y);
    second += x * y;
  }
  return sum(first + second);
}

auto psf_solve(Array3 misfit, Array3 weights, Array2 basis, Array1 dx, Array1 dy, Array3 root, Array3 pull, Array3 shrink, Array2 overlap, Array2 inverse, double scale,
               int order, int iterations, double converged) {
  const Shape s = shape_of(root.shape(1), basis, dx, dy, weights.shape(1), scale, order);
  for (const Array3 &each : {misfit, weights}) require(each.shape(0) == s.n && each.shape(1) == s.stamp && each.shape(2) == s.stamp, "misfit and weights must be (n, size, size)");
  for (const Array3 &each : {root, pull, shrink})
    require(each.shape(0) == s.terms && each.shape(1) == s.grid && each.shape(2) == s.grid, "root, pull and shrink must be (terms, grid, grid)");
  for (const Array2 &each : {overlap, inverse}) require(each.shape(0) == s.grid && each.shape(1) == s.grid, "overlap and inverse must be (grid, grid)");
  auto out = unset<double>(s.terms * s.grid * s.grid);
  {
    nb::gil_scoped_release release;
    Workspace<float> work(s);
    const std::size_t size = work.components.size();
    const auto taken = [&](const Array3 &given) {
      work.read(s, given.data());
      return work.components;
    };
    const std::vector<float> penalty = taken(root), precondition = taken(shrink);
    std::vector<float> direction = taken(pull), towards(size), product(size), scratch(size);
    std::vector<double> residual(size), solution(size);
    BothWays prior(overlap, work.pitch), decouple(inverse, work.pitch);

    const auto add_penalty = [&](const float *in, float *to) {
      scaled(penalty.data(), in, size, scratch.data());
      prior.apply(scratch.data(), s.terms, towards.data());
      add_scaled(penalty.data(), towards.data(), size, to);
    };
    const auto preconditioned = [&] {
      scaled(precondition.data(), residual.data(), size, scratch.data());
      decouple.apply(scratch.data(), s.terms, towards.data());
      scaled(precondition.data(), towards.data(), size, towards.data());
      return scalar_product(residual.data(), towards.data(), size);
    };

    gather(s, work, basis, dx, dy, misfit.data(), product.data());
    add_penalty(direction.data(), product.data());
    std::copy(product.begin(), product.end(), residual.begin());
    double power = preconditioned();
    direction = towards;
    for (int i = 0; i < iterations && !(power <= converged); ++i) {
      normal_product(s, work, basis, dx, dy, weights.data(), direction.data(), product.data());
      add_penalty(direction.data(), product.data());
      const double step = power / scalar_product(direction.data(), product.data(), size), before = power;
      step_along(step, direction.data(), size, solution.data());
      step_along(-step, product.data(), size, residual.data());
      power = preconditioned();
      turn(float(power / before), towards.data(), size, direction.data());
    }
    for (std::size_t c = 0; c < s.terms; ++c)
      transpose(solution.data() + c * work.area, work.pitch, s.grid, s.grid, out.get() + c * s.grid * s.grid, s.grid);
  }
  return to_numpy(std::move(out), s.terms, s.grid, s.grid);
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
  m.def("psf_solve", &psf_solve, nb::arg("misfit").noconvert(), nb::arg("weights").noconvert(), nb::arg("basis").noconvert(), nb::arg("dx"), nb::arg("dy"),
        nb::arg("root").noconvert(), nb::arg("pull").noconvert(), nb::arg("shrink").noconvert(), nb::arg("overlap").noconvert(), nb::arg("inverse").noconvert(),
        nb::arg("scale"), nb::arg("order"), nb::arg("iterations"), nb::arg("converged"),
        "Solve (F'WF + RPR) x = F' misfit + RPR pull for components x (C, S, S) by conjugate gradients from zero: F is psf_draw, W weights (n, size, size), R the "
        "diagonal root (C, S, S), P overlap (S, S), symmetric, along both axes. The preconditioner is shrink, inverse along both axes, shrink. At most so many "
        "iterations; they end when the product of the residual and the preconditioned residual is no more than converged. Products are summed in single precision.");
}

} // namespace streamchar
