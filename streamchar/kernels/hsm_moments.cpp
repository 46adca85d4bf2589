// Adaptive moments (Hirata & Seljak 2003; Mandelbaum et al. 2005) of many sources.
#include "fetch.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include "weighted_sums.hpp"
#include <nanobind/stl/optional.h>
#include <optional>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr double RHO2_MAX = 32.236191301916641; // -2 ln 1e-7: the weight beyond is taken as zero
constexpr double TOLERANCE = 1e-6, STEP_MAX = 0.25, MOMENT_MAX = 8000.0, SHIFT_MAX = 15.0, MOMENT_MIN = 1e-8;
constexpr int ITERATION_MAX = 400, PADDING = 3;

struct Stamp {
  const float *pixels;
  std::ptrdiff_t stride, width, height;
  double x0, y0; // position of the first pixel
};

struct Fit {
  double x, y, xx, yy, xy, amplitude;
  int iterations;
  bool converged;
};

struct Sums {
  double f = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0;
};

STREAMCHAR_MULTIVERSION bool weighted_sums(const Stamp &stamp, const Fit &fit, Sums &sums) {
  const Inverse w = Inverse::of(fit.xx, fit.xy, fit.yy);
  const Weight weight(w);
  const double reach = std::sqrt(RHO2_MAX * fit.yy), x_centre = fit.x - stamp.x0, y_centre = fit.y - stamp.y0;
  const double first_row = std::max(std::ceil(y_centre - reach), 0.0);
  const double last_row = std::min(std::floor(y_centre + reach), double(stamp.height - 1));
  if (!(first_row <= last_row)) return false;
  Totals totals;
  RowBlock block;
  for (std::ptrdiff_t row = std::ptrdiff_t(first_row); row <= std::ptrdiff_t(last_row); ++row) {
    const double dy = double(row) - y_centre;
    double low, high;
    if (!chord(w, RHO2_MAX, dy, low, high)) continue;
    const double first = std::max(std::ceil(x_centre + low), 0.0);
    const double last = std::min(std::floor(x_centre + high), double(stamp.width - 1));
    if (!(first <= last)) continue;
    const std::ptrdiff_t column = std::ptrdiff_t(first), n = std::ptrdiff_t(last) - column + 1;
    block.add(stamp.pixels + row * stamp.stride + column, n, first - x_centre, dy);
    if (block.count == RowBlock::SIZE) add_block(block, weight, totals);
  }
  add_block(block, weight, totals);
  const auto &[f, fx, fy, fxx, fxy, fyy] = totals;
  sums = {sum(f), sum(fx), sum(fy), sum(fxx), sum(fxy), sum(fyy)};
  return true;
}

double clipped(double v) { return std::min(std::max(v, -STEP_MAX), STEP_MAX); }

// One Newton-like step; returns the convergence measure, NaN on failure.
double step(const Stamp &stamp, Fit &fit, double &first_scale, bool round) {
  const double failed = std::nan("");
  const double det = fit.xx * fit.yy - fit.xy * fit.xy;
  if (!(det > 0 && fit.xx > 0 && fit.yy > 0)) return failed;
  Sums s;
  if (!weighted_sums(stamp, fit, s)) return failed;
  const double half_trace = 0.5 * (fit.xx + fit.yy);
  const double spread = std::sqrt(std::max(0.25 * (fit.xx - fit.yy) * (fit.xx - fit.yy) + fit.xy * fit.xy, 0.0));
  const double minor = half_trace - spread;
  if (!(minor > 0)) return failed;
  const double scale = std::sqrt(minor);
  if (fit.iterations == 0) first_scale = scale;
  const double dx = 2.0 * s.x / (s.f * scale), dy = 2.0 * s.y / (s.f * scale);
  double dxx = 4.0 * (s.xx / s.f - 0.5 * fit.xx) / minor;
  double dxy = 4.0 * (s.xy / s.f - 0.5 * fit.xy) / minor;
  double dyy = 4.0 * (s.yy / s.f - 0.5 * fit.yy) / minor;
  if (round) {
    dxx = dyy = 0.5 * (dxx + dyy);
    dxy = 0.0;
  }
  if (std::isnan(dx + dy + dxx + dxy + dyy)) return failed;
  const double steps[5] = {clipped(dx), clipped(dy), clipped(dxx), clipped(dxy), clipped(dyy)};
  double factor = 0.0;
  for (double value : steps) factor = std::max(factor, std::abs(value));
  if (scale < first_scale) factor *= first_scale / scale;
  fit.x += scale * steps[0];
  fit.y += scale * steps[1];
  fit.xx += minor * steps[2];
  fit.xy += minor * steps[3];
  fit.yy += minor * steps[4];
  fit.amplitude = 2.0 * s.f;
  return factor;
}

bool plausible(const Fit &fit, double x, double y) {
  return std::abs(fit.xx) <= MOMENT_MAX && std::abs(fit.xy) <= MOMENT_MAX && std::abs(fit.yy) <= MOMENT_MAX &&
         std::abs(fit.x - x) <= SHIFT_MAX && std::abs(fit.y - y) <= SHIFT_MAX && std::abs(fit.xx) >= MOMENT_MIN &&
         std::abs(fit.yy) >= MOMENT_MIN && fit.xx * fit.yy - fit.xy * fit.xy >= MOMENT_MIN;
}

// From a start, of a source near (x, y).
Fit adapt(const Stamp &stamp, Fit fit, double x, double y, bool round) {
  double factor = 1.0, first_scale = 0.0;
  while (factor > TOLERANCE) {
    factor = step(stamp, fit, first_scale, round);
    ++fit.iterations;
    if (std::isnan(factor) || fit.iterations > ITERATION_MAX || !plausible(fit, x, y)) return fit;
  }
  fit.converged = true;
  return fit;
}

Fit circle(double x, double y, double sigma) { return {x, y, sigma * sigma, sigma * sigma, 0.0, 0.0, 0, false}; }

// To start from x, y, xx, yy, xy: an ellipse if the weight may be one, which a round one would remain.
Fit found_before(const double *m, bool round) {
  if (round) return circle(m[0], m[1], std::sqrt(0.5 * (m[2] + m[3])));
  return {m[0], m[1], m[2], m[3], m[4], 0.0, 0, false};
}

void store(const Fit &fit, double *out, bool &converged) {
  const double values[6] = {fit.x, fit.y, fit.xx, fit.yy, fit.xy, fit.amplitude};
  for (int k = 0; k < 6; ++k) out[k] = fit.converged ? values[k] : std::nan("");
  converged = fit.converged;
}

bool contains(const Region &box, double x, double y) {
  const double column = std::floor(x + 0.5), row = std::floor(y + 0.5);
  return column >= double(box.x0) && column <= double(box.x1) && row >= double(box.y0) && row <= double(box.y1);
}

// A private copy with unusable pixels at zero; rows are padded so that vector loads stay inside.
Stamp cut(const Scene &scene, const Plane<const std::int32_t> &mask, std::int32_t bad, const Region &box, std::vector<float> &buffer) {
  const std::ptrdiff_t width = box.x1 - box.x0 + 1, height = box.y1 - box.y0 + 1, stride = width + PADDING;
  buffer.assign(std::size_t(stride * height), 0.0f);
  for (std::ptrdiff_t row = 0; row < height; ++row) {
    const float *from = scene.row(std::size_t(box.y0 + row)) + box.x0;
    const std::int32_t *bits = mask.data() + std::size_t(box.y0 + row) * mask.shape(1) + box.x0;
    float *to = buffer.data() + row * stride;
    for (std::ptrdiff_t column = 0; column < width; ++column) to[column] = (bits[column] & bad) ? 0.0f : from[column];
  }
  return {buffer.data(), stride, width, height, double(box.x0), double(box.y0)};
}

nb::tuple hsm_moments(Scene &scene, Plane<const std::int32_t> mask, std::int32_t bad, Plane<const std::int32_t> boxes,
                      Vector<const double> x, Vector<const double> y, Vector<const double> sigma, bool round,
                      std::optional<Plane<const double>> before) {
  const std::size_t n = x.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n || sigma.shape(0) != n || boxes.shape(0) != n) throw std::invalid_argument("positions, widths and boxes differ in length");
  if (before && (before->shape(0) != n || before->shape(1) != 5)) throw std::invalid_argument("moments of before need a row of five for each source");
  if (boxes.shape(1) != 4) throw std::invalid_argument("boxes need four columns: x0, y0, x1, y1");
  if (mask.shape(0) != scene.height() || mask.shape(1) != scene.width()) throw std::invalid_argument("mask and image differ in shape");
  for (std::size_t i = 0; i < n; ++i)
    if (boxes(i, 0) < 0 || boxes(i, 1) < 0 || std::size_t(boxes(i, 2) + 1) > scene.width() || std::size_t(boxes(i, 3) + 1) > scene.height())
      throw std::invalid_argument("box outside the image");
  Rows<double> out(n, 6);
  Values<bool> converged(n);
  {
    nb::gil_scoped_release release;
    std::vector<float> buffer;
    for (std::size_t i = 0; i < n; ++i) {
      const Region box{boxes(i, 0), boxes(i, 1), boxes(i, 2), boxes(i, 3)};
      if (i + 1 < n) {
        const Region next{boxes(i + 1, 0), boxes(i + 1, 1), boxes(i + 1, 2), boxes(i + 1, 3)};
        fetch(scene.image().data(), std::ptrdiff_t(scene.width()), next);
        fetch(mask.data(), std::ptrdiff_t(scene.width()), next);
      }
      Fit fit{};
      if (contains(box, x(i), y(i))) {
        const Shown shown(scene, i);
        const Stamp stamp = cut(scene, mask, bad, box, buffer);
        if (before) fit = adapt(stamp, found_before(before->data() + 5 * i, round), x(i), y(i), round);
        if (!fit.converged) fit = adapt(stamp, circle(x(i), y(i), sigma(i)), x(i), y(i), round);
      }
      store(fit, out.row(i), converged[i]);
    }
  }
  return nb::make_tuple(out.release(), converged.release());
}

nb::tuple hsm_moments_of_stamps(Cube<const double> stamps, Vector<const double> sigma, bool round) {
  const std::size_t n = stamps.shape(0);
  if (sigma.shape(0) != n) throw std::invalid_argument("stamps and widths differ in length");
  Rows<double> out(n, 6);
  Values<bool> converged(n);
  {
    nb::gil_scoped_release release;
    const std::ptrdiff_t height = std::ptrdiff_t(stamps.shape(1)), width = std::ptrdiff_t(stamps.shape(2)), stride = width + PADDING;
    std::vector<float> buffer(std::size_t(stride * height), 0.0f);
    const double x = 0.5 * double(width - 1), y = 0.5 * double(height - 1);
    for (std::size_t i = 0; i < n; ++i) {
      const double *from = stamps.data() + i * std::size_t(width * height);
      for (std::ptrdiff_t row = 0; row < height; ++row)
        std::copy(from + row * width, from + (row + 1) * width, buffer.data() + row * stride);
      store(adapt({buffer.data(), stride, width, height, 0.0, 0.0}, circle(x, y, sigma(i)), x, y, round), out.row(i), converged[i]);
    }
  }
  return nb::make_tuple(out.release(), converged.release());
}

} // namespace

void register_hsm_moments(nb::module_ &m) {
  m.def("hsm_moments", &hsm_moments, nb::arg("scene"), nb::arg("mask"), nb::arg("bad"), nb::arg("boxes"), nb::arg("x"), nb::arg("y"),
        nb::arg("sigma"), nb::arg("circular") = false, nb::arg("before") = nb::none(),
        "Adaptive moments of each source within its box (int32 (n, 4): x0, y0, x1, y1 inclusive), pixels with a bad bit taken as zero, "
        "starting at (x, y) with a circular weight of sigma, or where that succeeds at the rows of before (n, 5): x, y, xx, yy, xy. "
        "The weight is an ellipse that follows the moments, or a circle when circular. Returns ((n, 6) x, y, xx, yy, xy, amplitude; "
        "(n,) converged); NaN rows where the fit fails or the start is outside the box.");
  m.def("hsm_moments_of_stamps", &hsm_moments_of_stamps, nb::arg("stamps"), nb::arg("sigma"), nb::arg("circular") = false,
        "The same for stamps (n, h, w), starting at their centres; positions in stamp pixels.");
}

} // namespace streamchar
