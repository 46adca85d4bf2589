// Are the peaks of a blend point sources? Fits of the PSF with its neighbours and a sky that slopes.
#include "blends.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include <limits>

namespace streamchar {
namespace {

constexpr double SINGULAR = 1e-10; // what is left of a term's square beside the terms before it: none
constexpr std::size_t PLAIN = 3, WITH_SHIFT = 8; // columns of the result
constexpr std::size_t LANES = 4;

constexpr std::size_t rounded_up(std::size_t n) { return (n + LANES - 1) / LANES * LANES; }

// Images of point sources; a single one stands for all.
struct Stamps {
  const double *images;
  std::size_t count;
  std::int32_t height, width;

  // The value of image i, its first pixel at (x0, y0), at a pixel of the exposure; 0 beside it.
  double at(std::size_t i, std::int64_t x0, std::int64_t y0, std::int64_t x, std::int64_t y) const {
    const std::int64_t column = x - x0, row = y - y0;
    if (column < 0 || row < 0 || column >= width || row >= height) return 0.0;
    if (count == 1) i = 0;
    return images[(i * std::size_t(height) + std::size_t(row)) * std::size_t(width) + std::size_t(column)];
  }
};

struct Corners {
  const std::int64_t *x0, *y0;
};

// Sums over n pixels of `weighted` times each of four columns.
STREAMCHAR_INLINE void products(const double *weighted, const double *columns, std::size_t room, std::size_t n, double *out) {
  Four total[LANES] = {}, w, value;
  for (std::size_t i = 0; i < n; i += LANES) {
    load(weighted + i, w);
    for (std::size_t k = 0; k < LANES; ++k) {
      load(columns + k * room + i, value);
      total[k] += w * value;
    }
  }
  for (std::size_t k = 0; k < LANES; ++k) out[k] = sum(total[k]);
}

// The normal matrix of `terms` columns (of `room` values each, the first n being in use) and its right side, of which the last
// column is the data. normal has `pitch` columns: a multiple of four, as the columns' number is.
STREAMCHAR_MULTIVERSION void multiply(const double *columns, const double *data, const double *weights, std::size_t room, std::size_t n, std::size_t terms,
                                      std::size_t pitch, double *weighted, double *normal, double *right) {
  for (std::size_t a = 0; a < terms; ++a) {
    Four total = {}, w, value;
    for (std::size_t i = 0; i < n; i += LANES) {
      load(columns + a * room + i, w);
      load(weights + i, value);
      w *= value;
      std::memcpy(weighted + i, &w, sizeof w);
      load(data + i, value);
      total += w * value;
    }
    right[a] = sum(total);
    for (std::size_t b = 0; b <= a; b += LANES) products(weighted, columns + b * room, room, n, normal + a * pitch + b);
  }
}

STREAMCHAR_MULTIVERSION double weighted_squares(const double *columns, const double *data, const double *weights, std::size_t room, std::size_t n,
                                                const double *solution, std::size_t terms) {
  Four total = {}, residual, value;
  for (std::size_t i = 0; i < n; i += LANES) {
    load(data + i, residual);
    for (std::size_t a = 0; a < terms; ++a) {
      load(columns + a * room + i, value);
      residual -= solution[a] * value;
    }
    load(weights + i, value);
    total += value * residual * residual;
  }
  return sum(total);
}

// Weighted least squares with a triangular decomposition; terms that depend on those before them stay 0.
class LeastSquares {
public:
  // Room for so many terms and values; all is 0, so that what is not filled does not count.
  void start(std::size_t terms, std::size_t values) {
    room_ = rounded_up(values);
    columns_.assign(rounded_up(terms) * room_, 0.0);
    data_.assign(room_, 0.0);
    weights_.assign(room_, 0.0);
    weighted_.resize(room_);
  }
  double *column(std::size_t term) { return columns_.data() + term * room_; }
  double *data() { return data_.data(); }
  double *weights() { return weights_.data(); }

  // Fit the first n terms; the sum of squared residuals over their variances.
  double fit(std::size_t n) {
    pitch_ = rounded_up(n);
    normal_.resize(n * pitch_);
    solution.resize(n);
    multiply(columns_.data(), data_.data(), weights_.data(), room_, room_, n, pitch_, weighted_.data(), normal_.data(), solution.data());
    solve(n);
    return weighted_squares(columns_.data(), data_.data(), weights_.data(), room_, room_, solution.data(), n);
  }

  std::vector<double> solution;

private:
  // L D L^T x = b in place.
  void solve(std::size_t n) {
    pivot_.assign(n, 0.0);
    for (std::size_t a = 0; a < n; ++a) {
      double *row = normal_.data() + a * pitch_;
      const double whole = row[a];
      for (std::size_t b = 0; b < a; ++b) {
        double left = row[b];
        for (std::size_t c = 0; c < b; ++c) left -= row[c] * normal_[b * pitch_ + c] * pivot_[c];
        row[b] = pivot_[b] > 0.0 ? left / pivot_[b] : 0.0;
      }
      double left = whole;
      for (std::size_t b = 0; b < a; ++b) left -= row[b] * row[b] * pivot_[b];
      pivot_[a] = left > SINGULAR * whole ? left : 0.0;
    }
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = 0; b < a; ++b) solution[a] -= normal_[a * pitch_ + b] * solution[b];
    for (std::size_t a = 0; a < n; ++a) solution[a] = pivot_[a] > 0.0 ? solution[a] / pivot_[a] : 0.0;
    for (std::size_t a = n; a-- > 0;) {
      for (std::size_t b = a + 1; b < n; ++b) solution[a] -= normal_[b * pitch_ + a] * solution[b];
      if (!(pivot_[a] > 0.0)) solution[a] = 0.0;
    }
  }

  std::size_t room_ = 0, pitch_ = 0;
  std::vector<double> columns_, data_, weights_, weighted_, normal_, pivot_; // columns_: term after term, room_ values each
};

struct Planes {
  View image, variance;
  const std::int32_t *mask;
  std::int32_t bad;
};

class Tester {
public:
  Tester(const Planes &planes, const Stamps &own, const Stamps &others, const Corners &corners, double inner, double outer, bool shift)
      : planes_(planes), own_(own), others_(others), corners_(corners), inner_(inner), outer_(outer), shift_(shift) {}

  void take(const Spans &spans, std::size_t i, std::size_t first, std::size_t end) {
    box_.take(spans, i);
    first_ = first;
    end_ = end;
  }

  // Amplitude, chi-squared and degrees of freedom of source k at (x, y), its own image being the i-th at (x0, y0); NaN without
  // enough pixels. With a shift, then the same of the fit with it, and the shift in x and y.
  void test(std::size_t k, std::size_t i, std::int64_t x0, std::int64_t y0, double x, double y, double *out) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    std::fill(out, out + (shift_ ? WITH_SHIFT : PLAIN), nan);
    if (!std::isfinite(x) || !std::isfinite(y)) return;
    choose_neighbours(k, x, y);
    const double weight = choose_pixels(x, y);
    const std::size_t plain = 4 + neighbours_.size(), n = pixels_.size();
    squares_.start(plain + (shift_ ? 2 : 0), n);
    const auto fill = [&](std::size_t term, auto value) {
      double *column = squares_.column(term);
      for (std::size_t p = 0; p < n; ++p) column[p] = value(pixels_[p].x, pixels_[p].y);
    };
    const auto own = [&](std::int64_t px, std::int64_t py) { return own_.at(i, x0, y0, px, py); };
    for (std::size_t p = 0; p < n; ++p) {
      squares_.data()[p] = planes_.image.row(pixels_[p].y)[pixels_[p].x];
      squares_.weights()[p] = pixels_[p].share / planes_.variance.row(pixels_[p].y)[pixels_[p].x];
    }
    fill(0, own);
    fill(1, [](std::int32_t, std::int32_t) { return 1.0; });
    fill(2, [&](std::int32_t px, std::int32_t) { return px - x; });
    fill(3, [&](std::int32_t, std::int32_t py) { return py - y; });
    for (std::size_t j = 0; j < neighbours_.size(); ++j) {
      const std::size_t other = neighbours_[j];
      fill(4 + j, [&](std::int32_t px, std::int32_t py) { return others_.at(other, corners_.x0[other], corners_.y0[other], px, py); });
    }
    fit(plain, weight, out);
    if (!shift_) return;
    fill(plain, [&](std::int32_t px, std::int32_t py) { return 0.5 * (own(px - 1, py) - own(px + 1, py)); });
    fill(plain + 1, [&](std::int32_t px, std::int32_t py) { return 0.5 * (own(px, py - 1) - own(px, py + 1)); });
    if (!fit(plain + 2, weight, out + PLAIN)) return;
    out[2 * PLAIN] = squares_.solution[plain] / squares_.solution[0];
    out[2 * PLAIN + 1] = squares_.solution[plain + 1] / squares_.solution[0];
  }

private:
  struct Pixel {
    std::int32_t x, y;
    double share;
  };

  bool fit(std::size_t terms, double weight, double *out) {
    const double freedom = weight - double(terms);
    if (!(freedom > 0.0)) return false;
    out[1] = squares_.fit(terms);
    out[0] = squares_.solution[0];
    out[2] = freedom;
    return true;
  }

  // The usable pixels of the disk, and the sum of their shares.
  double choose_pixels(double x, double y) {
    const auto low = [](double v) { return std::int32_t(std::ceil(v)); };
    const auto high = [](double v) { return std::int32_t(std::floor(v)); };
    pixels_.clear();
    double total = 0.0;
    for (std::int32_t py = std::max(low(y - outer_), box_.top); py <= std::min(high(y + outer_), box_.top + box_.height - 1); ++py)
      for (std::int32_t px = std::max(low(x - outer_), box_.left); px <= std::min(high(x + outer_), box_.left + box_.width - 1); ++px) {
        const double radius = std::sqrt((px - x) * (px - x) + (py - y) * (py - y));
        if (radius >= outer_ || !usable(px, py)) continue;
        const double share = radius <= inner_ ? 1.0 : (outer_ - radius) / (outer_ - inner_);
        pixels_.push_back({px, py, share});
        total += share;
      }
    return total;
  }

  bool usable(std::int32_t x, std::int32_t y) const {
    if (!box_.inside(x - box_.left, y - box_.top)) return false;
    const double variance = planes_.variance.row(y)[x];
    return std::isfinite(planes_.image.row(y)[x]) && variance > 0 && std::isfinite(variance) &&
           !(planes_.mask[std::size_t(y) * planes_.image.stride + std::size_t(x)] & planes_.bad);
  }

  // Other peaks of the footprint whose stamps reach into the fitted disk.
  void choose_neighbours(std::size_t k, double x, double y) {
    neighbours_.clear();
    for (std::size_t other = first_; other < end_; ++other) {
      if (other == k) continue;
      const double left = double(corners_.x0[other]), top = double(corners_.y0[other]);
      const double dx = std::max({left - x, x - (left + others_.width - 1), 0.0});
      const double dy = std::max({top - y, y - (top + others_.height - 1), 0.0});
      if (std::hypot(dx, dy) < outer_) neighbours_.push_back(other);
    }
  }

  Planes planes_;
  Stamps own_, others_;
  Corners corners_;
  double inner_, outer_;
  bool shift_;
  BlendBox box_;
  std::size_t first_ = 0, end_ = 0;
  std::vector<std::size_t> neighbours_;
  std::vector<Pixel> pixels_;
  LeastSquares squares_;
};

using Floats = Vector<const double>;

nb::object fit_point_sources(Plane<const float> image, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t bad, I32 y, I32 x0,
                             I32 x1, I64 start, I64 peak_start, Vector<const bool> wanted, Floats x, Floats y_centre, Cube<const double> own,
                             I64 own_x0, I64 own_y0, Cube<const double> others, I64 others_x0, I64 others_y0, double inner, double outer, bool shift) {
  const Spans spans{y, x0, x1, start};
  const std::size_t height = image.shape(0), width = image.shape(1), n = x.shape(0);
  if (variance.shape(0) != height || variance.shape(1) != width || mask.shape(0) != height || mask.shape(1) != width)
    throw std::invalid_argument("image, variance and mask differ in shape");
  check_spans(spans, height, width);
  if (peak_start.shape(0) != spans.size() + 1 || peak_start(0) != 0 || peak_start(spans.size()) != std::int64_t(n))
    throw std::invalid_argument("peak offsets do not cover the peaks");
  for (std::size_t i = 0; i < spans.size(); ++i)
    if (peak_start(i + 1) < peak_start(i)) throw std::invalid_argument("peak offsets decrease");
  for (const std::size_t length : {y_centre.shape(0), wanted.shape(0), others_x0.shape(0), others_y0.shape(0)})
    if (length != n) throw std::invalid_argument("one position, choice and corner for each peak is needed");
  const std::size_t chosen = std::size_t(std::count(wanted.data(), wanted.data() + n, true));
  if (own_x0.shape(0) != chosen || own_y0.shape(0) != chosen || (own.shape(0) != chosen && own.shape(0) != 1) ||
      (others.shape(0) != n && others.shape(0) != 1))
    throw std::invalid_argument("one stamp for each wanted and for each other peak is needed, or one for all");
  if (!(inner >= 0 && outer > inner && std::isfinite(outer))) throw std::invalid_argument("the radii must ascend");
  const std::size_t columns = shift ? WITH_SHIFT : PLAIN;
  Rows<double> result(n, columns);
  {
    nb::gil_scoped_release release;
    const Stamps first{own.data(), own.shape(0), std::int32_t(own.shape(1)), std::int32_t(own.shape(2))};
    const Stamps second{others.data(), others.shape(0), std::int32_t(others.shape(1)), std::int32_t(others.shape(2))};
    Tester tester({view(image), view(variance), mask.data(), bad}, first, second, {others_x0.data(), others_y0.data()}, inner, outer, shift);
    std::size_t number = 0;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      const std::size_t begin = std::size_t(peak_start(i)), end = std::size_t(peak_start(i + 1));
      if (begin < end) tester.take(spans, i, begin, end);
      for (std::size_t k = begin; k < end; ++k) {
        if (wanted(k)) {
          tester.test(k, number, own_x0(number), own_y0(number), x(k), y_centre(k), result.row(k));
          ++number;
        } else
          std::fill(result.row(k), result.row(k) + columns, std::numeric_limits<double>::quiet_NaN());
      }
    }
  }
  return result.release();
}

} // namespace

void register_point_sources(nb::module_ &m) {
  m.def("fit_point_sources", &fit_point_sources, nb::arg("image"), nb::arg("variance"), nb::arg("mask"), nb::arg("bad"), nb::arg("y"), nb::arg("x0"),
        nb::arg("x1"), nb::arg("start"), nb::arg("peak_start"), nb::arg("wanted"), nb::arg("x"), nb::arg("y_centre"), nb::arg("own"), nb::arg("own_x0"),
        nb::arg("own_y0"), nb::arg("others"), nb::arg("others_x0"), nb::arg("others_y0"), nb::arg("inner"), nb::arg("outer"), nb::arg("shift"),
        "Fit every wanted (bool) source of blended footprints as a point source. Weighted least squares over the usable pixels of the footprint (finite, of finite positive variance, "
        "without the mask bits `bad`) nearer to (x, y_centre) than `outer`; weights 1/variance, falling linearly to 0 from `inner` to `outer`. The terms are the source's own stamp "
        "(float64 (wanted, h, w), or (1, h, w) for all; first pixels at own_x0, own_y0, of the wanted ones), a constant, slopes along x and y, and the stamp (of `others`, (n, h, w) or (1, h, w)) of every other source of the footprint that reaches "
        "into the disk; with `shift` also the own stamp's derivatives, by central differences. A term that depends on those before it is left out. "
        "Returns float64 (n, 3): amplitude of the own stamp, chi-squared, degrees of freedom (sum of the ramp minus the number of terms), or with `shift` (n, 8): the "
        "same of the fit without the derivatives, of the fit with them, and the shift (x, y) in pixels; NaN when not wanted or without a degree of freedom.");
}

} // namespace streamchar
