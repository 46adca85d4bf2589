// Are the peaks of a blend point sources? Fits of the PSF with its neighbours and a sky that slopes.
#include "blends.hpp"
#include "rows.hpp"
#include <limits>

namespace streamchar {
namespace {

constexpr double SINGULAR = 1e-10; // what is left of a term's square beside the terms before it: none
constexpr std::size_t COLUMNS = 5;

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

// Weighted least squares with a triangular decomposition; terms that depend on those before them stay 0.
class LeastSquares {
public:
  void start(std::size_t terms) {
    terms_ = terms;
    values_.clear();
    data_.clear();
    weights_.clear();
  }
  double *add(double data, double weight) {
    data_.push_back(data);
    weights_.push_back(weight);
    values_.resize(values_.size() + terms_);
    return values_.data() + values_.size() - terms_;
  }
  std::size_t size() const { return data_.size(); }

  // Fit the first n terms; the sum of squared residuals over their variances.
  double fit(std::size_t n) {
    normal_.assign(n * n, 0.0);
    solution.assign(n, 0.0);
    for (std::size_t i = 0; i < size(); ++i) {
      const double *row = values_.data() + i * terms_;
      for (std::size_t a = 0; a < n; ++a) {
        const double weighted = weights_[i] * row[a];
        if (weighted == 0.0) continue;
        solution[a] += weighted * data_[i];
        for (std::size_t b = 0; b <= a; ++b) normal_[a * n + b] += weighted * row[b];
      }
    }
    solve(n);
    double chi2 = 0.0;
    for (std::size_t i = 0; i < size(); ++i) {
      double residual = data_[i];
      for (std::size_t a = 0; a < n; ++a) residual -= solution[a] * values_[i * terms_ + a];
      chi2 += weights_[i] * residual * residual;
    }
    return chi2;
  }

  std::vector<double> solution;

private:
  // L D L^T x = b in place.
  void solve(std::size_t n) {
    pivot_.assign(n, 0.0);
    for (std::size_t a = 0; a < n; ++a) {
      double *row = normal_.data() + a * n;
      const double whole = row[a];
      for (std::size_t b = 0; b < a; ++b) {
        double left = row[b];
        for (std::size_t c = 0; c < b; ++c) left -= row[c] * normal_[b * n + c] * pivot_[c];
        row[b] = pivot_[b] > 0.0 ? left / pivot_[b] : 0.0;
      }
      double left = whole;
      for (std::size_t b = 0; b < a; ++b) left -= row[b] * row[b] * pivot_[b];
      pivot_[a] = left > SINGULAR * whole ? left : 0.0;
    }
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = 0; b < a; ++b) solution[a] -= normal_[a * n + b] * solution[b];
    for (std::size_t a = 0; a < n; ++a) solution[a] = pivot_[a] > 0.0 ? solution[a] / pivot_[a] : 0.0;
    for (std::size_t a = n; a-- > 0;) {
      for (std::size_t b = a + 1; b < n; ++b) solution[a] -= normal_[b * n + a] * solution[b];
      if (!(pivot_[a] > 0.0)) solution[a] = 0.0;
    }
  }

  std::size_t terms_ = 0;
  std::vector<double> values_, data_, weights_, normal_, pivot_;
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

  // Amplitude, chi-squared, degrees of freedom, shift in x and y of source k at (x, y), its own image being the i-th at
  // (x0, y0); NaN without enough pixels.
  void test(std::size_t k, std::size_t i, std::int64_t x0, std::int64_t y0, double x, double y, double *out) {
    const auto own = [&](std::int64_t px, std::int64_t py) { return own_.at(i, x0, y0, px, py); };
    std::fill(out, out + COLUMNS, std::numeric_limits<double>::quiet_NaN());
    if (!std::isfinite(x) || !std::isfinite(y)) return;
    choose_neighbours(k, x, y);
    const std::size_t plain = 4 + neighbours_.size(), terms = plain + (shift_ ? 2 : 0);
    squares_.start(terms);
    double pixels = 0.0;
    const auto low = [](double v) { return std::int32_t(std::ceil(v)); };
    const auto high = [](double v) { return std::int32_t(std::floor(v)); };
    for (std::int32_t py = std::max(low(y - outer_), box_.top); py <= std::min(high(y + outer_), box_.top + box_.height - 1); ++py)
      for (std::int32_t px = std::max(low(x - outer_), box_.left); px <= std::min(high(x + outer_), box_.left + box_.width - 1); ++px) {
        const double radius = std::hypot(px - x, py - y);
        if (radius >= outer_ || !usable(px, py)) continue;
        const double share = radius <= inner_ ? 1.0 : (outer_ - radius) / (outer_ - inner_);
        pixels += share;
        double *row = squares_.add(planes_.image.row(py)[px], share / planes_.variance.row(py)[px]);
        *row++ = own(px, py);
        *row++ = 1.0;
        *row++ = px - x;
        *row++ = py - y;
        for (const std::size_t other : neighbours_) *row++ = others_.at(other, corners_.x0[other], corners_.y0[other], px, py);
        if (!shift_) continue;
        *row++ = 0.5 * (own(px - 1, py) - own(px + 1, py));
        *row++ = 0.5 * (own(px, py - 1) - own(px, py + 1));
      }
    const double freedom = pixels - double(terms);
    if (!(freedom > 0.0)) return;
    out[1] = squares_.fit(terms);
    out[2] = freedom;
    out[0] = squares_.solution[0];
    out[3] = shift_ ? squares_.solution[plain] / out[0] : 0.0;
    out[4] = shift_ ? squares_.solution[plain + 1] / out[0] : 0.0;
  }

private:
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
  Rows<double> result(n, COLUMNS);
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
          std::fill(result.row(k), result.row(k) + COLUMNS, std::numeric_limits<double>::quiet_NaN());
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
        "Returns float64 (n, 5): amplitude of the own stamp, chi-squared, degrees of freedom (sum of the ramp minus the number of terms), and shift (x, y) in pixels (0 without "
        "`shift`); NaN when not wanted or without a degree of freedom.");
}

} // namespace streamchar
