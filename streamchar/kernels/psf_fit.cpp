// One Gauss-Newton step of a PSF fit: flux, and if wanted the position, of each source from its usable pixels.
#include "fetch.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr std::size_t RESULTS = 12;
constexpr int REJECTION_ROUNDS = 6;
constexpr double CORE = 0.2; // of the peak: pixels that vote on the first guess of the flux
constexpr double VARIANCE_FLOOR = 1e-2;
constexpr double FIRST_TOLERANCE = 0.1; // before the position has been fitted
constexpr double BESIDE = 0.25;         // of the limit of squared residuals, beside pixels that are left out
constexpr std::uint8_t LEFT_OUT = 1, SPREADING = 2;
// Central differences of tenth order.
constexpr std::array<double, 5> DIFFERENCES = {5.0 / 6.0, -5.0 / 21.0, 5.0 / 84.0, -5.0 / 504.0, 1.0 / 1260.0};

struct Options {
  bool position, weighted;
  double reject, tolerance; // residuals beyond reject standard deviations, the model being good to tolerance
  std::int64_t reject_max;  // more outliers than this are not outliers but another kind of source
};

// The usable pixels of one source; unused room at the end has no weight.
struct Pixels {
  std::vector<double> model, slope_x, slope_y, data, variance, noise, weight, square;
  std::vector<std::uint32_t> place; // on the stamp with a margin of one pixel
  std::vector<std::uint8_t> bad;    // of that stamp
  std::size_t size = 0, padded = 0, pitch = 0;
  bool spreading = false; // whether any is bad in a way that its neighbours may share

  void reserve(std::size_t height, std::size_t width) {
    const std::size_t n = height * width;
    for (auto *values : {&model, &slope_x, &slope_y, &data, &variance, &noise, &weight, &square}) values->assign(n + 4, 0.0);
    place.assign(n + 4, 0);
    pitch = width + 2;
    bad.assign((height + 2) * pitch, 0);
  }
  void clear() {
    size = 0;
    spreading = false;
    std::fill(bad.begin(), bad.end(), std::uint8_t(0));
  }
  std::size_t at(std::int64_t row, std::int64_t column) const { return std::size_t(row + 1) * pitch + std::size_t(column + 1); }
  void pad() {
    padded = (size + 3) / 4 * 4;
    for (std::size_t i = size; i < padded; ++i) {
      for (auto *values : {&model, &slope_x, &slope_y, &data, &weight}) (*values)[i] = 0.0;
      noise[i] = variance[i] = 1.0;
    }
  }
  void equal_weights() { std::fill(weight.begin(), weight.begin() + std::ptrdiff_t(size), 1.0); }
};

// One row of a stamp and of the planes below it.
struct Row {
  const float *data, *noise;
  const std::int32_t *mask;
  const double *stamp, *slope_x, *slope_y;
};

// What is not finite gives NaN when it is subtracted from itself.
STREAMCHAR_INLINE bool usable(const Row &row, std::int64_t k, std::int32_t bad) {
  return (row.mask[k] & bad) == 0 && row.data[k] - row.data[k] == 0.0f && row.noise[k] > 0.0f && row.noise[k] - row.noise[k] == 0.0f &&
         row.stamp[k] - row.stamp[k] == 0.0;
}

STREAMCHAR_INLINE bool all_usable(const Row &row, std::int64_t n, std::int32_t bad) {
  std::int32_t flaws = 0;
  for (std::int64_t k = 0; k < n; ++k)
    flaws |= (row.mask[k] & bad) | std::int32_t(row.data[k] - row.data[k] != 0.0f) | std::int32_t(row.noise[k] - row.noise[k] != 0.0f) |
             std::int32_t(!(row.noise[k] > 0.0f));
  return flaws == 0;
}

// Only finite values.
STREAMCHAR_MULTIVERSION bool finite(const double *values, std::size_t size) {
  Four total;
  broadcast(0.0, total);
  std::size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    Four v;
    load(values + i, v);
    total += v - v;
  }
  double rest = sum(total);
  for (; i < size; ++i) rest += values[i] - values[i];
  return rest == 0.0;
}

// Take over what is usable of n pixels; whole rows, which most are, without asking pixel by pixel.
template <bool Position>
STREAMCHAR_MULTIVERSION void add_row(const Row &row, std::int64_t n, std::int32_t bad, std::int32_t spread, bool finite_stamp, std::size_t where, Pixels &p) {
  const std::size_t first = p.size;
  if (finite_stamp && all_usable(row, n, bad)) {
    double *model = p.model.data() + first, *data = p.data.data() + first, *variance = p.variance.data() + first;
    std::uint32_t *place = p.place.data() + first;
    for (std::int64_t k = 0; k < n; ++k) {
      model[k] = row.stamp[k];
      data[k] = double(row.data[k]);
      variance[k] = double(row.noise[k]);
      place[k] = std::uint32_t(where) + std::uint32_t(k);
    }
    if (Position) {
      std::copy(row.slope_x, row.slope_x + n, p.slope_x.data() + first);
      std::copy(row.slope_y, row.slope_y + n, p.slope_y.data() + first);
    }
    p.size += std::size_t(n);
    return;
  }
  for (std::int64_t k = 0; k < n; ++k) {
    if (!usable(row, k, bad)) {
      const bool spreads = (row.mask[k] & bad & spread) != 0;
      p.bad[where + std::size_t(k)] = spreads ? SPREADING : LEFT_OUT;
      p.spreading |= spreads;
      continue;
    }
    const std::size_t to = p.size++;
    p.model[to] = row.stamp[k];
    p.data[to] = double(row.data[k]);
    p.variance[to] = double(row.noise[k]);
    p.place[to] = std::uint32_t(where + std::size_t(k));
    if (Position) {
      p.slope_x[to] = row.slope_x[k];
      p.slope_y[to] = row.slope_y[k];
    }
  }
}

// Leave out, too, what touches a pixel whose flaw spreads: of a cosmic ray, charge too faint to be found there.
void leave_out_touching(Pixels &p) {
  const auto touches = [&](std::size_t at) {
    for (const std::size_t row : {at - p.pitch, at, at + p.pitch})
      if (p.bad[row - 1] == SPREADING || p.bad[row] == SPREADING || p.bad[row + 1] == SPREADING) return true;
    return false;
  };
  std::size_t kept = 0;
  for (std::size_t i = 0; i < p.size; ++i) {
    if (touches(p.place[i])) {
      p.bad[p.place[i]] = LEFT_OUT;
      continue;
    }
    for (auto *values : {&p.model, &p.slope_x, &p.slope_y, &p.data, &p.variance}) (*values)[kept] = (*values)[i];
    p.place[kept++] = p.place[i];
  }
  p.size = kept;
}

// The slopes of a stamp that is zero outside.
class Slopes {
public:
  Slopes(std::ptrdiff_t height, std::ptrdiff_t width)
      : height_(height), width_(width), pitch_(width + 2 * REACH), framed_(std::size_t((height + 2 * REACH) * pitch_), 0.0),
        along_x_(std::size_t(height * width)), along_y_(along_x_.size()) {}
  void of(const double *stamp) {
    for (std::ptrdiff_t y = 0; y < height_; ++y) std::copy(stamp + y * width_, stamp + (y + 1) * width_, framed_.data() + (y + REACH) * pitch_ + REACH);
    for (std::ptrdiff_t y = 0; y < height_; ++y) {
      const double *row = framed_.data() + (y + REACH) * pitch_ + REACH;
      differentiate(row, 1, width_, along_x_.data() + y * width_);
      differentiate(row, pitch_, width_, along_y_.data() + y * width_);
    }
  }
  const double *x() const { return along_x_.data(); }
  const double *y() const { return along_y_.data(); }

private:
  static constexpr std::ptrdiff_t REACH = std::ptrdiff_t(DIFFERENCES.size());
  STREAMCHAR_MULTIVERSION static void differentiate(const double *in, std::ptrdiff_t step, std::ptrdiff_t n, double *out) {
    constexpr double a = DIFFERENCES[0], b = DIFFERENCES[1], c = DIFFERENCES[2], d = DIFFERENCES[3], e = DIFFERENCES[4];
    static_assert(REACH == 5, "one constant for each pair");
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const double *p = in + i;
      out[i] = a * (p[step] - p[-step]) + b * (p[2 * step] - p[-2 * step]) + c * (p[3 * step] - p[-3 * step]) + d * (p[4 * step] - p[-4 * step]) +
               e * (p[5 * step] - p[-5 * step]);
    }
  }

  std::ptrdiff_t height_, width_, pitch_;
  std::vector<double> framed_, along_x_, along_y_;
};

// Variance as a constant plus a multiple of the model: it must not follow the noise of single pixels. Deviations count
// in proportion to the variance, or the core of a bright star would decide on the sky.
STREAMCHAR_MULTIVERSION void model_variance(Pixels &p) {
  Four a0, a1, a2, b0, b1, nothing;
  for (Four *total : {&a0, &a1, &a2, &b0, &b1, &nothing}) broadcast(0.0, *total);
  for (std::size_t i = 0; i < p.padded; i += 4) {
    Four m, w, v;
    load(p.model.data() + i, m);
    load(p.weight.data() + i, w);
    load(p.variance.data() + i, v);
    Four use = m;
    keep(FourMasks(m > nothing) & FourMasks(w > nothing), use);
    use /= v * v;
    const Four um = use * m;
    a0 += use;
    a1 += um;
    a2 += um * m;
    b0 += use * v;
    b1 += um * v;
  }
  const double s0 = sum(a0), s1 = sum(a1), s2 = sum(a2), t0 = sum(b0), t1 = sum(b1);
  const double det = s0 * s2 - s1 * s1, mean = t0 / s0;
  double slope = det > 1e-9 * s0 * s2 ? std::max((s0 * t1 - s1 * t0) / det, 0.0) : 0.0, level = (t0 - slope * s1) / s0;
  if (level < 0.0) {
    level = 0.0;
    slope = t1 / s2;
  }
  const double least = VARIANCE_FLOOR * mean;
  for (std::size_t i = 0; i < p.padded; ++i) p.noise[i] = std::max(level + slope * std::max(p.model[i], 0.0), least);
}

struct Fit {
  double flux = 0, dx = 0, dy = 0, flux_variance = 0, x_variance = 0, y_variance = 0;
};

struct Sums {
  double mm = 0, mx = 0, my = 0, xx = 0, xy = 0, yy = 0, md = 0, xd = 0, yd = 0, noise = 0;
};

STREAMCHAR_MULTIVERSION void accumulate(const Pixels &p, Sums &out) {
  Four mm, mx, my, xx, xy, yy, md, xd, yd;
  for (Four *total : {&mm, &mx, &my, &xx, &xy, &yy, &md, &xd, &yd}) broadcast(0.0, *total);
  for (std::size_t i = 0; i < p.padded; i += 4) {
    Four m, gx, gy, d, w;
    load(p.model.data() + i, m);
    load(p.slope_x.data() + i, gx);
    load(p.slope_y.data() + i, gy);
    load(p.data.data() + i, d);
    load(p.weight.data() + i, w);
    const Four wm = w * m, wx = w * gx, wy = w * gy;
    mm += wm * m;
    mx += wm * gx;
    my += wm * gy;
    xx += wx * gx;
    xy += wx * gy;
    yy += wy * gy;
    md += wm * d;
    xd += wx * d;
    yd += wy * d;
  }
  out = {sum(mm), sum(mx), sum(my), sum(xx), sum(xy), sum(yy), sum(md), sum(xd), sum(yd), 0.0};
}

STREAMCHAR_MULTIVERSION void accumulate_flux(const Pixels &p, Sums &out) {
  Four mm, md, nn;
  for (Four *total : {&mm, &md, &nn}) broadcast(0.0, *total);
  for (std::size_t i = 0; i < p.padded; i += 4) {
    Four m, d, w, v;
    load(p.model.data() + i, m);
    load(p.data.data() + i, d);
    load(p.weight.data() + i, w);
    load(p.noise.data() + i, v);
    const Four wm = w * m;
    mm += wm * m;
    md += wm * d;
    nn += wm * wm * v;
  }
  out = {};
  out.mm = sum(mm);
  out.md = sum(md);
  out.noise = sum(nn);
}

STREAMCHAR_MULTIVERSION double chi_squared(const Pixels &p, const Fit &fit) {
  Four total, nothing;
  broadcast(0.0, total);
  broadcast(0.0, nothing);
  for (std::size_t i = 0; i < p.padded; i += 4) {
    Four m, gx, gy, d, w, v;
    load(p.model.data() + i, m);
    load(p.slope_x.data() + i, gx);
    load(p.slope_y.data() + i, gy);
    load(p.data.data() + i, d);
    load(p.weight.data() + i, w);
    load(p.noise.data() + i, v);
    const Four r = d - fit.flux * (m - fit.dx * gx - fit.dy * gy);
    Four square = r * r / v;
    keep(FourMasks(w > nothing), square);
    total += square;
  }
  return sum(total);
}

// Sums of the model and of its square over the pixels with weight.
STREAMCHAR_MULTIVERSION void sum_light(const Pixels &p, double &light, double &square) {
  Four first, second, nothing;
  for (Four *total : {&first, &second, &nothing}) broadcast(0.0, *total);
  for (std::size_t i = 0; i < p.padded; i += 4) {
    Four m, w;
    load(p.model.data() + i, m);
    load(p.weight.data() + i, w);
    keep(FourMasks(w > nothing), m);
    first += m;
    second += m * m;
  }
  light = sum(first);
  square = sum(second);
}

// Amplitudes of the model and its two slopes; the amplitudes of the slopes over that of the model are the shift.
Fit solve(const Pixels &p, bool position) {
  const double nan = std::nan("");
  Sums s;
  Fit fit;
  if (!position) {
    accumulate_flux(p, s);
    fit.flux = s.md / s.mm;
    fit.flux_variance = s.noise / (s.mm * s.mm);
    return fit;
  }
  accumulate(p, s);
  const double a = s.xx * s.yy - s.xy * s.xy, b = s.xy * s.my - s.mx * s.yy, c = s.mx * s.xy - s.xx * s.my;
  const double det = s.mm * a + s.mx * b + s.my * c;
  if (!(det > 1e-12 * s.mm * s.xx * s.yy)) return {nan, nan, nan, nan, nan, nan};
  const double e = s.mm * s.yy - s.my * s.my, f = s.mx * s.my - s.mm * s.xy, g = s.mm * s.xx - s.mx * s.mx;
  fit.flux = (a * s.md + b * s.xd + c * s.yd) / det;
  fit.dx = -(b * s.md + e * s.xd + f * s.yd) / det / fit.flux;
  fit.dy = -(c * s.md + f * s.xd + g * s.yd) / det / fit.flux;
  const double square = fit.flux * fit.flux;
  fit.flux_variance = a / det;
  fit.x_variance = e / det / square;
  fit.y_variance = g / det / square;
  return fit;
}

STREAMCHAR_MULTIVERSION void invert_noise(Pixels &p) {
  for (std::size_t i = 0; i < p.size; ++i) p.weight[i] = p.weight[i] > 0.0 ? 1.0 / p.noise[i] : p.weight[i];
}

// From weights of 1 or 0, with the noise of the model known, to those of the fit.
Fit solve(Pixels &p, bool position, bool weighted) {
  if (weighted) invert_noise(p);
  return solve(p, position);
}

// Numbers of the values that exceed a limit.
STREAMCHAR_MULTIVERSION void collect_above(const std::vector<double> &values, std::size_t size, double limit, std::vector<std::uint32_t> &found) {
  found.resize(size);
  std::uint32_t *out = found.data();
  std::size_t count = 0;
  for (std::size_t i = 0; i < size; ++i) {
    out[count] = std::uint32_t(i);
    count += std::size_t(values[i] > limit);
  }
  found.resize(count);
}

STREAMCHAR_MULTIVERSION double greatest(const std::vector<double> &values, std::size_t size) {
  Four most;
  broadcast(values[0], most);
  std::size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    Four v;
    load(values.data() + i, v);
    most = v > most ? v : most;
  }
  double result = std::max(std::max(most[0], most[1]), std::max(most[2], most[3]));
  for (; i < size; ++i) result = std::max(result, values[i]);
  return result;
}

struct Work {
  std::vector<double> ratios;
  std::vector<std::uint8_t> flagged;
  std::vector<std::uint32_t> doubtful, rejected;
};

// The median of pixel over model in the core: hardly moved by a hit that covers less than half of it.
double median_flux(const Pixels &p, Work &work) {
  collect_above(p.model, p.size, CORE * greatest(p.model, p.size), work.doubtful);
  work.ratios.clear();
  for (const std::uint32_t i : work.doubtful) work.ratios.push_back(p.data[i] / p.model[i]);
  const auto middle = work.ratios.begin() + std::ptrdiff_t(work.ratios.size() / 2);
  std::nth_element(work.ratios.begin(), middle, work.ratios.end());
  return *middle;
}

bool beside(const std::vector<std::uint8_t> &flagged, std::size_t at, std::size_t pitch) {
  for (const std::size_t row : {at - pitch, at, at + pitch})
    if (flagged[row - 1] | flagged[row] | flagged[row + 1]) return true;
  return false;
}

// Squared residuals over the variance of noise and model.
STREAMCHAR_MULTIVERSION void square_residuals(Pixels &p, const Fit &fit, double tolerance) {
  for (std::size_t i = 0; i < p.padded; ++i) {
    const double model = fit.flux * (p.model[i] - fit.dx * p.slope_x[i] - fit.dy * p.slope_y[i]);
    const double residual = p.data[i] - model, slack = tolerance * model;
    p.square[i] = residual * residual / (p.noise[i] + slack * slack);
  }
}

// Weights of 0 for pixels far from the model, and for less far ones beside them or beside pixels left out before, of 1 for
// all others; returns how many have none now.
std::int64_t reject_outliers(Pixels &p, const Fit &fit, double reject, double tolerance, Work &work) {
  const double limit = reject * reject;
  square_residuals(p, fit, tolerance);
  collect_above(p.square, p.size, BESIDE * limit, work.doubtful);
  work.flagged = p.bad;
  for (const std::uint32_t i : work.rejected) work.flagged[p.place[i]] = 1;
  for (const std::uint32_t i : work.doubtful)
    if (p.square[i] > limit) work.flagged[p.place[i]] = 1;
  work.rejected.clear();
  for (const std::uint32_t i : work.doubtful)
    if (p.square[i] > limit || beside(work.flagged, p.place[i], p.pitch)) work.rejected.push_back(i);
  p.equal_weights();
  for (const std::uint32_t i : work.rejected) p.weight[i] = 0.0;
  return std::int64_t(work.rejected.size());
}

// Outliers are told by fits with equal weights, which the core decides. Where the wings decide, as they do with the weights of
// a bright source, a galaxy's core does not fit and would be left out.
Fit fit_without_outliers(Pixels &p, const Options &options, Work &work, std::int64_t &rejected) {
  p.equal_weights();
  model_variance(p);
  if (!(options.reject > 0.0)) return solve(p, options.position, options.weighted);
  Fit fit;
  fit.flux = median_flux(p, work);
  work.rejected.clear();
  std::int64_t before = 0;
  for (int round = 0;; ++round) {
    const double tolerance = round == 0 ? std::max(options.tolerance, FIRST_TOLERANCE) : options.tolerance;
    rejected = reject_outliers(p, fit, options.reject, tolerance, work);
    if (rejected > options.reject_max || std::size_t(rejected) == p.size) break;
    if (rejected == 0 && round == 0) return solve(p, options.position, options.weighted);
    const bool last = round > 0 && (rejected == before || round + 1 == REJECTION_ROUNDS);
    model_variance(p);
    fit = solve(p, options.position, options.weighted && last);
    if (!std::isfinite(fit.flux)) break;
    if (last) return fit;
    before = rejected;
  }
  rejected = 0;
  p.equal_weights();
  model_variance(p);
  return solve(p, options.position, options.weighted);
}

struct Change {
  double x = 0, y = 0;
};

// Flux that a shift of the stamp by a pixel would add: none where all pixels are used, as the squared stamp then sums to the same.
Change change_with_position(const Pixels &p, const Slopes &slopes, double flux) {
  double square = 0, x = 0, y = 0;
  for (std::size_t i = 0; i < p.size; ++i) {
    const std::size_t row = p.place[i] / p.pitch - 1, column = p.place[i] % p.pitch - 1, at = row * (p.pitch - 2) + column;
    const double use = p.weight[i] * p.model[i];
    square += use * p.model[i];
    x += use * slopes.x()[at];
    y += use * slopes.y()[at];
  }
  return {flux * x / square, flux * y / square};
}

nb::tuple psf_fit(Scene &scene, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t bad, Vector<const std::int64_t> sources,
                  Cube<const double> stamps, Vector<const std::int64_t> x0, Vector<const std::int64_t> y0, bool position, bool weighted,
                  double reject, double tolerance, std::int64_t reject_max, std::int32_t spread) {
  const std::size_t n = stamps.shape(0);
  if (x0.shape(0) != n || y0.shape(0) != n || sources.shape(0) != n) throw std::invalid_argument("sources, stamps and their origins differ in length");
  for (std::size_t i = 0; i < n; ++i) {
    if (sources(i) < 0) throw std::invalid_argument("a source's number must not be negative");
    scene.require_sources(std::size_t(sources(i)) + 1);
  }
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width() || mask.shape(0) != scene.height() || mask.shape(1) != scene.width())
    throw std::invalid_argument("the planes differ in shape");
  Rows<double> out(n, RESULTS);
  Values<std::int32_t> pixels(n);
  Values<bool> clipped(n);
  {
    nb::gil_scoped_release release;
    const std::int64_t height = std::int64_t(stamps.shape(1)), width = std::int64_t(stamps.shape(2));
    const std::size_t area = std::size_t(height * width);
    const std::ptrdiff_t image_width = std::ptrdiff_t(scene.width()), image_height = std::ptrdiff_t(scene.height());
    Slopes slopes(height, width);
    Work work;
    const Options options{position, weighted, reject, tolerance, reject_max};
    Pixels p;
    p.reserve(std::size_t(height), std::size_t(width));
    for (std::size_t i = 0; i < n; ++i) {
      if (i + 1 < n) {
        const Region next = Region{x0(i + 1), y0(i + 1), x0(i + 1) + width - 1, y0(i + 1) + height - 1}.within(image_width, image_height);
        fetch(scene.image().data(), image_width, next);
        fetch(variance.data(), image_width, next);
        fetch(mask.data(), image_width, next);
      }
      const Shown shown(scene, std::size_t(sources(i)));
      const std::int64_t left = std::max<std::int64_t>(-x0(i), 0), top = std::max<std::int64_t>(-y0(i), 0);
      const std::int64_t right = std::min(width, std::int64_t(scene.width()) - x0(i)), bottom = std::min(height, std::int64_t(scene.height()) - y0(i));
      clipped[i] = left > 0 || top > 0 || right < width || bottom < height;
      const double *stamp = stamps.data() + i * area;
      const bool whole = finite(stamp, area);
      if (position) slopes.of(stamp);
      p.clear();
      for (std::int64_t r = top; left < right && r < bottom; ++r) {
        const std::size_t row = std::size_t(y0(i) + r) * scene.width() + std::size_t(x0(i) + left), at = std::size_t(r * width + left);
        const Row line{scene.image().data() + row, variance.data() + row, mask.data() + row, stamp + at, position ? slopes.x() + at : nullptr, position ? slopes.y() + at : nullptr};
        (position ? add_row<true> : add_row<false>)(line, right - left, bad, spread, whole, p.at(r, left), p);
      }
      double *values = out.row(i);
      std::fill(values, values + RESULTS, std::nan(""));
      values[8] = 0.0;
      values[9] = 0.0;
      if (p.spreading) leave_out_touching(p);
      if (p.size == 0) continue;
      p.pad();
      std::int64_t rejected = 0;
      const Fit fit = fit_without_outliers(p, options, work, rejected);
      double light, square;
      sum_light(p, light, square);
      Change change;
      if (!position && whole && p.size - std::size_t(rejected) < area) {
        slopes.of(stamp);
        change = change_with_position(p, slopes, fit.flux);
      }
      const double found[RESULTS] = {fit.flux,           std::sqrt(fit.flux_variance), light * light / square, chi_squared(p, fit), fit.dx, fit.dy,
                                     std::sqrt(fit.x_variance), std::sqrt(fit.y_variance),    light,                  double(rejected), change.x, change.y};
      std::copy(found, found + RESULTS, values);
      pixels[i] = std::int32_t(std::int64_t(p.size) - rejected);
    }
  }
  return nb::make_tuple(out.release(), pixels.release(), clipped.release());
}

} // namespace

void register_psf_fit(nb::module_ &m) {
  m.def("psf_fit", &psf_fit, nb::arg("scene"), nb::arg("variance"), nb::arg("mask"), nb::arg("bad"), nb::arg("sources"), nb::arg("stamps"),
        nb::arg("x0"), nb::arg("y0"), nb::arg("position") = false, nb::arg("weighted") = true, nb::arg("reject") = 0.0, nb::arg("tolerance") = 0.0,
        nb::arg("reject_max") = 0, nb::arg("spread") = 0,
        "One Gauss-Newton step of a PSF fit to the numbered sources of the scene, each with its stamp (float64 (n, h, w), unit sum, "
        "its first pixel at (x0, y0)). Pixels with a bad bit, not finite, or without positive variance are left out, and what touches those "
        "whose bad bit is one of spread. Weights are the inverse "
        "of a constant plus a multiple of the stamp fitted to the variance (weighted) or 1; the position is fitted through the stamp's "
        "derivatives (position) or fixed. With reject > 0, residuals beyond reject times the root of variance plus (tolerance times model) "
        "squared are left out, unless there are more than reject_max of them. Returns ((n, 12) flux, error, effective area, chi2, shifts in "
        "x and y, their errors, part of the stamp on used pixels, rejected pixels, change of the flux for each pixel that a fixed position "
        "moves along x and y; (n,) used pixels; (n,) clipped by the image); NaN where "
        "no pixel is left or the fit is singular.");
}

} // namespace streamchar
