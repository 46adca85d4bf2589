// Centroids of PSF-smoothed, if need be binned, images (the SDSS algorithm: measurement.md section 3).
#include "fetch.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::int32_t EDGE = 1, NO_SECOND_DERIVATIVE = 2, NOT_AT_MAXIMUM = 4, NEAR_EDGE = 8;
constexpr double QUARTIC = 1.33, FIRST_GUESS_MAX = 10.0, SMALL_SIGMA = 0.5;
constexpr std::ptrdiff_t SMALL_WIDTH = 5;

struct Psf {
  const double *kernel;
  std::ptrdiff_t width, height;
  double sigma;
};

struct Planes {
  const float *image, *variance;
  std::ptrdiff_t width, height;
};

struct Smoothed {
  double value[3][3] = {{0}}, variance[3][3] = {{0}}; // [y][x]
};

struct Centroid {
  double x, y, x_error, y_error;
  std::int32_t flags;
};

struct Work {
  std::vector<double> data, variance, square;
};

// Average bx columns and by rows; the variance of an average is the sum over the squared count.
void bin_row(const Planes &planes, std::ptrdiff_t x0, std::ptrdiff_t y0, std::ptrdiff_t bx, std::ptrdiff_t by, std::ptrdiff_t n, Work &work) {
  const double share = 1.0 / double(bx * by);
  for (std::ptrdiff_t i = 0; i < n; ++i) work.data[std::size_t(i)] = work.variance[std::size_t(i)] = 0.0;
  for (std::ptrdiff_t r = 0; r < by; ++r) {
    const float *data = planes.image + (y0 + r) * planes.width + x0, *noise = planes.variance + (y0 + r) * planes.width + x0;
    if (bx == 1) {
      for (std::ptrdiff_t i = 0; i < n; ++i) {
        work.data[std::size_t(i)] += double(data[i]);
        work.variance[std::size_t(i)] += double(noise[i]);
      }
      continue;
    }
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t c = 0; c < bx; ++c) {
        work.data[std::size_t(i)] += double(data[i * bx + c]);
        work.variance[std::size_t(i)] += double(noise[i * bx + c]);
      }
  }
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    work.data[std::size_t(i)] *= share;
    work.variance[std::size_t(i)] *= share * share;
  }
}

// Products of one kernel row with three shifted pixel rows.
STREAMCHAR_INLINE void correlate_row(const double *kernel, const double *pixels, std::ptrdiff_t n, double *out) {
  Four a{0, 0, 0, 0}, b = a, c = a;
  std::ptrdiff_t i = 0;
  for (; i + 4 <= n; i += 4) {
    Four k, left, middle, right;
    load(kernel + i, k);
    load(pixels + i, left);
    load(pixels + i + 1, middle);
    load(pixels + i + 2, right);
    a += k * left;
    b += k * middle;
    c += k * right;
  }
  double sums[3] = {sum(a), sum(b), sum(c)};
  for (; i < n; ++i)
    for (int s = 0; s < 3; ++s) sums[s] += kernel[i] * pixels[i + s];
  for (int s = 0; s < 3; ++s) out[s] += sums[s];
}

// The nine smoothed values around the bin whose first pixel is (x, y).
STREAMCHAR_MULTIVERSION void smooth(const Planes &planes, std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t bx, std::ptrdiff_t by,
                                    const Psf &psf, Work &work, Smoothed &out) {
  const std::ptrdiff_t n = psf.width + 2, rows = psf.height + 2;
  const std::ptrdiff_t first_x = x - bx * (1 + psf.width / 2), first_y = y - by * (1 + psf.height / 2);
  work.data.resize(std::size_t(n));
  work.variance.resize(std::size_t(n));
  work.square.resize(std::size_t(psf.width * psf.height));
  for (std::size_t i = 0; i < work.square.size(); ++i) work.square[i] = psf.kernel[i] * psf.kernel[i];
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    bin_row(planes, first_x, first_y + r * by, bx, by, n, work);
    for (std::ptrdiff_t j = 0; j < 3; ++j) {
      const std::ptrdiff_t row = r - j;
      if (row < 0 || row >= psf.height) continue;
      correlate_row(psf.kernel + row * psf.width, work.data.data(), psf.width, out.value[j]);
      correlate_row(work.square.data() + row * psf.width, work.variance.data(), psf.width, out.variance[j]);
    }
  }
}

struct Peak {
  bool good;
  double position;
};

// Maximum of three equidistant values with the fourth-order term of a Gaussian.
Peak quartic(double low, double middle, double high, bool negative) {
  const double up = middle - high, down = middle - low, curvature = up + down, slope = 0.5 * (high - low);
  const bool wrong_sign = negative ? (curvature >= 0 || middle >= 0) : (curvature <= 0 || middle <= 0);
  if (wrong_sign || std::isnan(curvature) || std::isnan(middle)) return {false, 0.0};
  const double position = slope / curvature * (1.0 + QUARTIC * up * down / (curvature * middle));
  return {std::abs(position) < 1.0, position};
}

struct Noise {
  double sky, source; // variances of the smoothed slope and of the smoothed curvature
};

Noise smoothed_noise(double sky, double source, double s2) {
  return {sky / (8 * M_PI * s2) * (1 - std::exp(-1 / s2)) + source / (12 * M_PI * s2) * (std::exp(-1 / (3 * s2)) - std::exp(-1 / s2)),
          sky / (2 * M_PI * s2) * (3 - 4 * std::exp(-1 / (4 * s2)) + std::exp(-1 / s2)) +
              source / (3 * M_PI * s2) * (2 - 3 * std::exp(-1 / (3 * s2)) + std::exp(-1 / s2))};
}

double position_error(const Noise &noise, double slope, double curvature, double amplitude, double k) {
  constexpr double tiny = std::numeric_limits<float>::min();
  if (std::abs(amplitude) < tiny || std::abs(curvature) < tiny) return 1000.0;
  const double d = curvature, s = slope, a = 0.25 * k / amplitude;
  const double from_slope = 1 / d + a * (1 - 12 * s * s / (d * d)), from_curvature = s / (d * d) - 8 * a * s * s / (d * d * d);
  const double variance = noise.sky * from_slope * from_slope + noise.source * from_curvature * from_curvature;
  return variance < 0 ? std::nan("") : std::sqrt(variance);
}

struct Fit {
  double x, y, x_error, y_error, x_size, y_size, peak; // in bins; sizes are squared widths beyond the PSF
};

std::int32_t fit_peak(const Smoothed &smoothed, double sigma, bool negative, bool subtract_sky, Fit &fit) {
  const auto &I = smoothed.value;
  const double d2x = 2 * I[1][1] - I[1][0] - I[1][2], d2y = 2 * I[1][1] - I[0][1] - I[2][1];
  const double sx = 0.5 * (I[1][2] - I[1][0]), sy = 0.5 * (I[2][1] - I[0][1]);
  if (d2x == 0 || d2y == 0) return NO_SECOND_DERIVATIVE;
  if (negative ? (d2x > 0 || d2y > 0) : (d2x < 0 || d2y < 0)) return NOT_AT_MAXIMUM;
  const double dx0 = sx / d2x, dy0 = sy / d2y;
  if (std::abs(dx0) > FIRST_GUESS_MAX || std::abs(dy0) > FIRST_GUESS_MAX) return NO_SECOND_DERIVATIVE;
  const double peak = I[1][1] + 0.5 * (sx * dx0 + sy * dy0), s2 = sigma * sigma;
  Peak along_x[3], along_y[3];
  bool good = true;
  for (int k = 0; k < 3; ++k) {
    along_x[k] = quartic(I[k][0], I[k][1], I[k][2], negative);
    along_y[k] = quartic(I[0][k], I[1][k], I[2][k], negative);
    good = good && along_x[k].good && along_y[k].good;
  }
  fit.x = dx0;
  fit.y = dy0;
  fit.x_size = peak / d2x;
  fit.y_size = peak / d2y;
  if (good) {
    const double mx = along_x[1].position, my = along_y[1].position;
    const double slope_x = 0.5 * (along_x[2].position - along_x[0].position), slope_y = 0.5 * (along_y[2].position - along_y[0].position);
    const double bend_x = mx - 0.5 * (along_x[0].position + along_x[2].position), bend_y = my - 0.5 * (along_y[0].position + along_y[2].position);
    const double dx = mx + dy0 * (slope_x - dy0 * bend_x), dy = my + dx0 * (slope_y - dx0 * bend_y);
    fit.x = mx + dy * (slope_x - dy * bend_x);
    fit.y = my + dx * (slope_y - dx * bend_y);
    fit.x_size -= 0.25 * (1 + 6 * dx0 * dx0);
    fit.y_size -= 0.25 * (1 + 6 * dy0 * dy0);
  }
  fit.x_size = fit.x_size - s2 <= s2 ? s2 : fit.x_size - s2;
  fit.y_size = fit.y_size - s2 <= s2 ? s2 : fit.y_size - s2;
  double sky = 0.0;
  for (int j = 0; j < 3; ++j)
    for (int i = 0; i < 3; ++i)
      if (i != 1 || j != 1) sky += smoothed.variance[j][i] / 8.0;
  const double centre = smoothed.variance[1][1], source = subtract_sky ? std::max(centre - sky, 0.0) : centre;
  const Noise noise = smoothed_noise(sky, source, s2);
  fit.x_error = position_error(noise, sx, d2x, peak, good ? QUARTIC : 0.0);
  fit.y_error = position_error(noise, sy, d2y, peak, good ? QUARTIC : 0.0);
  fit.peak = peak;
  return 0;
}

struct Options {
  int bin_max;
  double peak_min, width_factor;
  bool subtract_sky; // from the variance at the centre: else the sky counts twice
};

bool fits(const Planes &planes, std::ptrdiff_t x, std::ptrdiff_t y, std::ptrdiff_t bx, std::ptrdiff_t by, const Psf &psf) {
  const std::ptrdiff_t x0 = x - bx * (2 + psf.width / 2), y0 = y - by * (2 + psf.height / 2);
  return x0 >= 0 && y0 >= 0 && x0 + bx * (psf.width + 4) <= planes.width && y0 + by * (psf.height + 4) <= planes.height;
}

Centroid measure(const Planes &planes, double x_start, double y_start, bool negative, Psf psf, const Psf &small, const Options &options, Work &work) {
  const double nan = std::nan("");
  Centroid result{x_start, y_start, nan, nan, 0};
  const double column = std::floor(x_start + 0.5), row = std::floor(y_start + 0.5);
  if (!(column >= 0 && column < double(planes.width) && row >= 0 && row < double(planes.height))) {
    result.flags = EDGE;
    return result;
  }
  const std::ptrdiff_t x = std::ptrdiff_t(column), y = std::ptrdiff_t(row);
  std::ptrdiff_t bx = 1, by = 1;
  for (int bin = 1; bin <= options.bin_max; bin *= 2) {
    const bool near_edge = !fits(planes, x, y, bx, by, psf);
    if (near_edge) {
      psf = small;
      if (!fits(planes, x, y, bx, by, psf)) return {x_start, y_start, nan, nan, result.flags | EDGE};
      result.flags |= NEAR_EDGE;
    }
    const double s2 = psf.sigma * psf.sigma;
    Smoothed smoothed;
    smooth(planes, x, y, bx, by, psf, work, smoothed);
    for (auto &line : smoothed.variance)
      for (double &value : line) value *= double(bx * by) * 4 * M_PI * s2;
    Fit fit{};
    if (const std::int32_t failure = fit_peak(smoothed, psf.sigma, negative, options.subtract_sky, fit)) return {x_start, y_start, nan, nan, result.flags | failure};
    const double offset_x = bin > 1 ? (fit.x + 0.5) * double(bx) - 0.5 : fit.x, offset_y = bin > 1 ? (fit.y + 0.5) * double(by) - 0.5 : fit.y;
    result = {double(x) + offset_x, double(y) + offset_y, fit.x_error * double(bx), fit.y_error * double(by), result.flags};
    if (near_edge) return result;
    const double x_limit = options.width_factor * (1 + s2) * double(bx * bx), y_limit = options.width_factor * (1 + s2) * double(by * by);
    const double x_size = fit.x_size * double(bx * bx), y_size = fit.y_size * double(by * by);
    const bool x_wide = x_size >= x_limit || offset_x * offset_x >= x_limit, y_wide = y_size >= y_limit || offset_y * offset_y >= y_limit;
    const bool settled = x_size < x_limit && y_size < y_limit && offset_x * offset_x < x_limit && offset_y * offset_y < y_limit;
    if (settled && (bin > 1 || options.peak_min < 0 || fit.peak > options.peak_min)) return result;
    if (!settled && !x_wide && !y_wide) return result; // not a number: repeating would change nothing
    if (x_wide) bx *= 2;
    if (y_wide) by *= 2;
  }
  return result;
}

std::vector<double> small_gaussian() {
  std::vector<double> kernel;
  double total = 0.0;
  for (std::ptrdiff_t y = -SMALL_WIDTH / 2; y <= SMALL_WIDTH / 2; ++y)
    for (std::ptrdiff_t x = -SMALL_WIDTH / 2; x <= SMALL_WIDTH / 2; ++x) {
      kernel.push_back(std::exp(-0.5 * double(x * x + y * y) / (SMALL_SIGMA * SMALL_SIGMA)));
      total += kernel.back();
    }
  for (double &value : kernel) value /= total;
  return kernel;
}

nb::tuple sdss_centroid(Scene &scene, Plane<const float> variance, Vector<const double> x, Vector<const double> y, Vector<const bool> negative,
                        Cube<const double> kernels, Vector<const double> sigma, int bin_max, double peak_min, double width_factor, bool subtract_sky) {
  const std::size_t n = x.shape(0), stamps = kernels.shape(0);
  if (y.shape(0) != n || negative.shape(0) != n || sigma.shape(0) != n) throw std::invalid_argument("positions, signs and widths differ in length");
  if (stamps != n && stamps != 1) throw std::invalid_argument("one kernel for each source, or a single one, is needed");
  if (kernels.shape(1) % 2 == 0 || kernels.shape(2) % 2 == 0) throw std::invalid_argument("kernel sides must be odd");
  scene.require_sources(n);
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width()) throw std::invalid_argument("variance and image differ in shape");
  if (bin_max < 1) throw std::invalid_argument("bin_max must be positive");
  Rows<double> out(n, 4);
  Values<std::int32_t> flags(n);
  {
    nb::gil_scoped_release release;
    const std::vector<double> small = small_gaussian();
    const Psf fallback{small.data(), SMALL_WIDTH, SMALL_WIDTH, SMALL_SIGMA};
    const Planes planes{scene.image().data(), variance.data(), std::ptrdiff_t(scene.width()), std::ptrdiff_t(scene.height())};
    const std::size_t area = kernels.shape(1) * kernels.shape(2);
    Work work;
    for (std::size_t i = 0; i < n; ++i) {
      if (i + 1 < n && std::abs(x(i + 1)) < 1e9 && std::abs(y(i + 1)) < 1e9) {
        const std::ptrdiff_t cx = std::ptrdiff_t(x(i + 1)), cy = std::ptrdiff_t(y(i + 1)), half = std::ptrdiff_t(kernels.shape(1)) / 2 + 1;
        const Region next = Region{cx - half, cy - half, cx + half, cy + half}.within(planes.width, planes.height);
        fetch(planes.image, planes.width, next);
        fetch(planes.variance, planes.width, next);
      }
      const Shown shown(scene, i);
      const Psf psf{kernels.data() + (stamps == 1 ? 0 : i * area), std::ptrdiff_t(kernels.shape(2)), std::ptrdiff_t(kernels.shape(1)), sigma(i)};
      const Centroid c = measure(planes, x(i), y(i), negative(i), psf, fallback, {bin_max, peak_min, width_factor, subtract_sky}, work);
      const double values[4] = {c.x, c.y, c.x_error, c.y_error};
      std::copy(values, values + 4, out.row(i));
      flags[i] = c.flags;
    }
  }
  return nb::make_tuple(out.release(), flags.release());
}

} // namespace

void register_centroid(nb::module_ &m) {
  m.def("sdss_centroid", &sdss_centroid, nb::arg("scene"), nb::arg("variance"), nb::arg("x"), nb::arg("y"), nb::arg("negative"), nb::arg("kernels"),
        nb::arg("sigma"), nb::arg("bin_max") = 16, nb::arg("peak_min") = -1.0, nb::arg("width_factor") = 1.5,
        nb::arg("subtract_sky") = false,
        "Centroids of sources starting at (x, y), smoothed with their PSF kernels (float64 (n or 1, h, w)) of width sigma. "
        "Returns ((n, 4) x, y and their errors; (n,) bits: 1 edge, 2 no second derivative, 4 not at maximum, "
        "8 small kernel used near the edge). subtract_sky takes the sky's part out of the variance at the centre. Failures keep the start position with NaN errors.");
}

} // namespace streamchar
