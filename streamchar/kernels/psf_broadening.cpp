// How much wider than the PSF a source is, a companion that lies beside it being allowed for.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t RESULTS = 5;
constexpr std::size_t PLACE = 3, TERMS = 4; // of these terms the first three are flux and position, the fourth is the width
constexpr double DEPENDENT = 1e-9;          // of a term's squared length: what is left of it is rounding
// Central differences of tenth order: first derivative, and second with its middle.
constexpr std::array<double, 5> FIRST = {5.0 / 6.0, -5.0 / 21.0, 5.0 / 84.0, -5.0 / 504.0, 1.0 / 1260.0};
constexpr std::array<double, 5> SECOND = {5.0 / 3.0, -5.0 / 21.0, 5.0 / 126.0, -5.0 / 1008.0, 1.0 / 3150.0};
constexpr double SECOND_MIDDLE = -5269.0 / 1800.0;
constexpr std::ptrdiff_t REACH = 5;

// Lengths in pixels, rounded to whole ones where they count pixels.
struct Sizes {
  std::ptrdiff_t half, step;
  double nearest, farthest;
  std::ptrdiff_t margin() const { return std::max<std::ptrdiff_t>(REACH, std::ptrdiff_t(std::ceil(farthest))); }
};

// A square of pixels around the source, row by row, each row padded with zeros to a multiple of four.
struct Window {
  std::ptrdiff_t half = 0, pitch = 0;
  std::size_t size = 0;
  std::array<std::vector<double>, TERMS> terms;
  std::vector<double> data, use;

  void resize(std::ptrdiff_t new_half) {
    half = new_half;
    pitch = (2 * half + 1 + 3) / 4 * 4;
    size = std::size_t((2 * half + 1) * pitch);
    for (auto &term : terms) term.assign(size, 0.0);
    data.assign(size, 0.0);
    use.assign(size, 0.0);
  }
  std::size_t at(std::ptrdiff_t y, std::ptrdiff_t x) const { return std::size_t((y + half) * pitch + x + half); }
};

// The stamp with zeros around it, wide enough for all that is read.
struct Frame {
  std::ptrdiff_t half = 0, pitch = 0;
  std::vector<double> values;

  void fill(const double *stamp, std::ptrdiff_t height, std::ptrdiff_t width, std::ptrdiff_t new_half) {
    half = new_half;
    pitch = 2 * half + 1;
    values.assign(std::size_t(pitch * pitch + 4), 0.0);
    const std::ptrdiff_t cy = height / 2, cx = width / 2;
    const std::ptrdiff_t left = std::max(-half, -cx), right = std::min(half, width - 1 - cx);
    for (std::ptrdiff_t y = std::max(-half, -cy); y <= std::min(half, height - 1 - cy); ++y)
      std::copy(stamp + (y + cy) * width + cx + left, stamp + (y + cy) * width + cx + right + 1, values.data() + (y + half) * pitch + left + half);
  }
  const double *at(std::ptrdiff_t y, std::ptrdiff_t x) const { return values.data() + (y + half) * pitch + x + half; }
};

STREAMCHAR_MULTIVERSION double dot(const std::vector<double> &a, const std::vector<double> &b, std::size_t size) {
  Four total;
  broadcast(0.0, total);
  for (std::size_t i = 0; i < size; i += 4) {
    Four u, v;
    load(a.data() + i, u);
    load(b.data() + i, v);
    total += u * v;
  }
  return sum(total);
}

STREAMCHAR_MULTIVERSION void subtract(std::vector<double> &from, double factor, const std::vector<double> &what, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) from[i] -= factor * what[i];
}

STREAMCHAR_MULTIVERSION void differentiate(const Frame &frame, Window &w) {
  for (std::ptrdiff_t y = -w.half; y <= w.half; ++y) {
    const double *p = frame.at(y, -w.half);
    const std::size_t first = w.at(y, -w.half);
    for (std::ptrdiff_t i = 0; i < 2 * w.half + 1; ++i) {
      double slope_x = 0.0, slope_y = 0.0, curvature = 2.0 * SECOND_MIDDLE * p[i];
      for (std::ptrdiff_t k = 1; k <= REACH; ++k) {
        const double right = p[i + k], left = p[i - k], up = p[i + k * frame.pitch], down = p[i - k * frame.pitch];
        slope_x += FIRST[std::size_t(k - 1)] * (right - left);
        slope_y += FIRST[std::size_t(k - 1)] * (up - down);
        curvature += SECOND[std::size_t(k - 1)] * ((right + left) + (up + down));
      }
      const std::size_t to = first + std::size_t(i);
      w.terms[0][to] = p[i];
      w.terms[1][to] = slope_x;
      w.terms[2][to] = slope_y;
      w.terms[3][to] = curvature;
    }
  }
}

// Products of a shifted stamp with the residual, the terms of place, and itself over used pixels.
struct Products {
  double residual, self;
  std::array<double, PLACE> terms;
};

STREAMCHAR_MULTIVERSION void multiply(const Frame &frame, const Window &w, const std::vector<double> &residual, std::ptrdiff_t dy, std::ptrdiff_t dx,
                                      Products &out) {
  Four r, s, a, b, c;
  for (Four *total : {&r, &s, &a, &b, &c}) broadcast(0.0, *total);
  for (std::ptrdiff_t y = -w.half; y <= w.half; ++y) {
    const double *shifted = frame.at(y - dy, -w.half - dx);
    const std::size_t first = w.at(y, -w.half);
    for (std::ptrdiff_t i = 0; i < w.pitch; i += 4) {
      const std::size_t k = first + std::size_t(i);
      Four v, u, e;
      load(shifted + i, v);
      load(w.use.data() + k, u);
      v *= u;
      s += v * v;
      load(residual.data() + k, e);
      r += v * e;
      load(w.terms[0].data() + k, e);
      a += v * e;
      load(w.terms[1].data() + k, e);
      b += v * e;
      load(w.terms[2].data() + k, e);
      c += v * e;
    }
  }
  out = {sum(r), sum(s), {sum(a), sum(b), sum(c)}};
}

// Where another star, with the source's flux and place free, takes away most of the squared residuals; (0, 0) for nowhere.
struct Companion {
  std::ptrdiff_t dy = 0, dx = 0;
};

Companion find_companion(const Frame &frame, const Window &w, const std::vector<double> &residual, const Sizes &sizes) {
  Companion found;
  double most = 0.0;
  const std::ptrdiff_t steps = std::ptrdiff_t(sizes.farthest) / sizes.step;
  for (std::ptrdiff_t j = -steps; j <= steps; ++j)
    for (std::ptrdiff_t i = -steps; i <= steps; ++i) {
      const std::ptrdiff_t dy = j * sizes.step, dx = i * sizes.step;
      const double distance = std::sqrt(double(dy * dy + dx * dx));
      if (distance < sizes.nearest || distance > sizes.farthest || distance == 0.0) continue;
      Products p;
      multiply(frame, w, residual, dy, dx, p);
      double rest = p.self;
      for (const double term : p.terms) rest -= term * term;
      if (!(p.residual > 0.0) || !(rest > DEPENDENT * p.self)) continue;
      const double gain = p.residual * p.residual / rest;
      if (gain > most) {
        most = gain;
        found = {dy, dx};
      }
    }
  return found;
}

// Terms made orthonormal one after the other; the factors give back the coefficients of the terms as they were.
struct Triangle {
  std::array<std::array<double, TERMS + 1>, TERMS + 1> factor{};
  std::array<double, TERMS + 1> along{}; // the data along each orthonormal term

  // False when the term depends on those before it.
  bool add(std::size_t j, std::vector<double> &term, const Window &w) {
    const double square = dot(term, term, w.size);
    for (std::size_t i = 0; i < std::min(j, TERMS); ++i) {
      factor[i][j] = dot(w.terms[i], term, w.size);
      subtract(term, factor[i][j], w.terms[i], w.size);
    }
    const double rest = dot(term, term, w.size);
    if (!(rest > DEPENDENT * square)) return false;
    factor[j][j] = std::sqrt(rest);
    for (double &value : term) value /= factor[j][j];
    along[j] = dot(term, w.data, w.size);
    return true;
  }
  std::array<double, TERMS + 1> coefficients(std::size_t terms) const {
    std::array<double, TERMS + 1> found{};
    for (std::size_t j = terms; j-- > 0;) {
      double value = along[j];
      for (std::size_t k = j + 1; k < terms; ++k) value -= factor[j][k] * found[k];
      found[j] = value / factor[j][j];
    }
    return found;
  }
};

struct Work {
  Window window;
  Frame frame;
  std::vector<double> residual, shifted;
};

// The window's pixels; a term is zero where a pixel is not used. Returns the part of the stamp on used pixels.
double gather(const Scene &scene, const Plane<const std::int32_t> &mask, std::int32_t bad, std::ptrdiff_t cx, std::ptrdiff_t cy, Window &w) {
  const std::ptrdiff_t width = std::ptrdiff_t(scene.width()), height = std::ptrdiff_t(scene.height());
  double light = 0.0;
  for (std::ptrdiff_t y = -w.half; y <= w.half; ++y)
    for (std::ptrdiff_t x = -w.half; x <= w.half; ++x) {
      const std::size_t to = w.at(y, x);
      const std::ptrdiff_t row = cy + y, column = cx + x;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      const float value = inside ? scene.row(std::size_t(row))[column] : 0.0f;
      if (inside && (mask(std::size_t(row), std::size_t(column)) & bad) == 0 && std::isfinite(value)) {
        w.data[to] = double(value);
        w.use[to] = 1.0;
        light += w.terms[0][to];
      } else {
        for (auto &term : w.terms) term[to] = 0.0;
      }
    }
  return light;
}

void measure(Work &work, const Sizes &sizes, double *out) {
  Window &w = work.window;
  Triangle triangle;
  work.residual = w.data;
  for (std::size_t j = 0; j < TERMS; ++j) {
    if (!triangle.add(j, w.terms[j], w)) return;
    if (j < PLACE) subtract(work.residual, triangle.along[j], w.terms[j], w.size);
  }
  const Companion companion = find_companion(work.frame, w, work.residual, sizes);
  std::size_t terms = TERMS;
  if (companion.dy != 0 || companion.dx != 0) {
    work.shifted.assign(w.size, 0.0);
    for (std::ptrdiff_t y = -w.half; y <= w.half; ++y)
      for (std::ptrdiff_t x = -w.half; x <= w.half; ++x)
        work.shifted[w.at(y, x)] = w.use[w.at(y, x)] * *work.frame.at(y - companion.dy, x - companion.dx);
    if (triangle.add(TERMS, work.shifted, w)) ++terms;
  }
  const auto found = triangle.coefficients(terms);
  if (!(found[0] > 0.0)) return;
  out[0] = found[3] / found[0];
  out[1] = terms > TERMS ? found[TERMS] / found[0] : 0.0;
  out[2] = terms > TERMS ? double(companion.dx) : 0.0;
  out[3] = terms > TERMS ? double(companion.dy) : 0.0;
}

bool all_finite(const double *values, std::size_t size) {
  return std::all_of(values, values + size, [](double value) { return std::isfinite(value); });
}

nb::object psf_broadening(Scene &scene, Plane<const std::int32_t> mask, std::int32_t bad, Vector<const std::int64_t> sources, Cube<const double> stamps,
                          Vector<const std::int64_t> x0, Vector<const std::int64_t> y0, Vector<const double> width, double reach, double nearest,
                          double farthest, double step) {
  const std::size_t n = stamps.shape(0);
  if (x0.shape(0) != n || y0.shape(0) != n || sources.shape(0) != n || width.shape(0) != n)
    throw std::invalid_argument("sources, stamps, their origins and widths differ in length");
  for (std::size_t i = 0; i < n; ++i) {
    if (sources(i) < 0) throw std::invalid_argument("a source's number must not be negative");
    scene.require_sources(std::size_t(sources(i)) + 1);
  }
  if (mask.shape(0) != scene.height() || mask.shape(1) != scene.width()) throw std::invalid_argument("the planes differ in shape");
  Rows<double> out(n, RESULTS);
  {
    nb::gil_scoped_release release;
    const std::ptrdiff_t rows = std::ptrdiff_t(stamps.shape(1)), columns = std::ptrdiff_t(stamps.shape(2));
    const std::size_t area = std::size_t(rows * columns);
    const std::ptrdiff_t largest = (std::min(rows, columns) - 1) / 2;
    Work work;
    for (std::size_t i = 0; i < n; ++i) {
      double *values = out.row(i);
      std::fill(values, values + RESULTS, std::nan(""));
      values[4] = 0.0;
      const double *stamp = stamps.data() + i * area;
      if (!(width(i) > 0.0) || !std::isfinite(width(i)) || largest < 1 || !all_finite(stamp, area)) continue;
      const double far = std::min(farthest * width(i), double(2 * largest));
      const Sizes sizes{std::clamp<std::ptrdiff_t>(std::ptrdiff_t(std::min(std::ceil(reach * width(i)), double(largest))), 1, largest),
                        std::max<std::ptrdiff_t>(std::ptrdiff_t(std::min(std::floor(step * width(i) + 0.5), double(largest))), 1), nearest * width(i), far};
      work.window.resize(sizes.half);
      work.frame.fill(stamp, rows, columns, sizes.half + sizes.margin());
      differentiate(work.frame, work.window);
      const Shown shown(scene, std::size_t(sources(i)));
      values[4] = gather(scene, mask, bad, std::ptrdiff_t(x0(i)) + columns / 2, std::ptrdiff_t(y0(i)) + rows / 2, work.window);
      measure(work, sizes, values);
    }
  }
  return out.release();
}

} // namespace

void register_psf_broadening(nb::module_ &m) {
  m.def("psf_broadening", &psf_broadening, nb::arg("scene"), nb::arg("mask"), nb::arg("bad"), nb::arg("sources"), nb::arg("stamps"), nb::arg("x0"),
        nb::arg("y0"), nb::arg("width"), nb::arg("reach"), nb::arg("nearest"), nb::arg("farthest"), nb::arg("step"),
        "Least squares, with equal weights, of the numbered sources of the scene by the stamp (float64 (n, h, w), its first pixel at (x0, y0)), "
        "its two slopes, its Laplacian, and a copy of it shifted by whole pixels, in the window of reach widths around the stamp's middle. The "
        "copy stands where it takes most from the squared residuals of stamp and slopes, of all places between nearest and farthest widths on "
        "a grid of step widths. Pixels with a bad bit or not finite are left out. Returns (n, 5): Laplacian over stamp, copy over stamp, its "
        "shifts in x and y (0 without a copy), part of the stamp on used pixels; NaN but for the last where the fit is singular or the stamp "
        "has no positive amplitude.");
}

} // namespace streamchar
