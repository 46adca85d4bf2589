// Point sources in the residuals of stamps: the signal to noise of one at each pixel, and the most significant one.
#include "arrays.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

using Wide = Lanes<float>::Wide;
constexpr std::size_t WIDTH = sizeof(Wide) / sizeof(float), BLOCK = 4;

// Widths from its middle beyond which the filter, there 2e-5 of its height, is zero. What it would be far away single precision
// holds only as denormal numbers, which the processor multiplies a hundred times more slowly.
constexpr double REACH = 2.0;

// Four rows of left (pitch inner) times PARTS lanes of right; the sums stay in registers.
template <std::size_t PARTS>
STREAMCHAR_INLINE void multiply_block(const float *left, const float *right, std::size_t inner, std::size_t pitch, float *out) {
  Wide total[BLOCK][PARTS], value[PARTS];
  for (auto &row : total)
    for (Wide &sum : row) sum = Wide{};
  for (std::size_t k = 0; k < inner; ++k) {
    for (std::size_t part = 0; part < PARTS; ++part) std::memcpy(&value[part], right + k * pitch + part * WIDTH, sizeof(Wide));
    for (std::size_t row = 0; row < BLOCK; ++row)
      for (std::size_t part = 0; part < PARTS; ++part) total[row][part] += left[row * pitch + k] * value[part];
  }
  for (std::size_t row = 0; row < BLOCK; ++row)
    for (std::size_t part = 0; part < PARTS; ++part) {
      const Wide sum = total[row][part];
      std::memcpy(out + row * pitch + part * WIDTH, &sum, sizeof sum);
    }
}

// out = left times right, all of whole blocks of rows, a pitch of whole lanes apart; the sums are over the first `inner` of them.
STREAMCHAR_MULTIVERSION void multiply(const float *left, const float *right, std::size_t inner, std::size_t rows, std::size_t pitch, float *out) {
  for (std::size_t row = 0; row < rows; row += BLOCK) {
    std::size_t i = 0;
    for (; i + 2 * WIDTH <= pitch; i += 2 * WIDTH) multiply_block<2>(left + row * pitch, right + i, inner, pitch, out + row * pitch + i);
    for (; i < pitch; i += WIDTH) multiply_block<1>(left + row * pitch, right + i, inner, pitch, out + row * pitch + i);
  }
}

STREAMCHAR_MULTIVERSION void weigh(const double *residual, const double *weight, std::size_t n, float *__restrict weighted, float *__restrict weights) {
  for (std::size_t i = 0; i < n; ++i) {
    weighted[i] = float(weight[i] * residual[i]);
    weights[i] = float(weight[i]);
  }
}

STREAMCHAR_MULTIVERSION void divide(const float *noise, std::size_t n, float *__restrict signal) {
  for (std::size_t i = 0; i < n; ++i) {
    const float ratio = signal[i] / std::sqrt(noise[i]);
    signal[i] = noise[i] > 0.0f ? ratio : 0.0f;
  }
}

// Σ g w r / √(Σ g² w) of one stamp after the other; g is a Gaussian, the product of one along either axis, each cut off.
class MatchedFilter {
public:
  MatchedFilter(std::size_t size, double fwhm)
      : size_(size), rows_((size + BLOCK - 1) / BLOCK * BLOCK), pitch_((size + WIDTH - 1) / WIDTH * WIDTH), gaussian_(rows_ * pitch_), square_(gaussian_.size()),
        weighted_(gaussian_.size()), weight_(gaussian_.size()), half_(gaussian_.size()), signal_(gaussian_.size()), noise_(gaussian_.size()) {
    for (std::size_t j = 0; j < size; ++j)
      for (std::size_t i = 0; i < size; ++i) {
        const double distance = (double(j) - double(i)) / fwhm, value = std::abs(distance) <= REACH ? std::exp(-4.0 * std::log(2.0) * distance * distance) : 0.0;
        gaussian_[j * pitch_ + i] = float(value);
        square_[j * pitch_ + i] = float(value * value);
      }
  }
  // Rows of the result are a pitch apart.
  float *apply(const double *residual, const double *weight) {
    for (std::size_t j = 0; j < size_; ++j) weigh(residual + j * size_, weight + j * size_, size_, weighted_.data() + j * pitch_, weight_.data() + j * pitch_);
    both_ways(gaussian_, weighted_, signal_);
    both_ways(square_, weight_, noise_);
    divide(noise_.data(), noise_.size(), signal_.data());
    return signal_.data();
  }
  std::size_t pitch() const { return pitch_; }

private:
  void both_ways(const std::vector<float> &factor, const std::vector<float> &in, std::vector<float> &out) {
    multiply(factor.data(), in.data(), size_, rows_, pitch_, half_.data());
    multiply(half_.data(), factor.data(), size_, rows_, pitch_, out.data());
  }

  std::size_t size_, rows_, pitch_;
  std::vector<float> gaussian_, square_, weighted_, weight_, half_, signal_, noise_;
};

void require_stamps(const Cube<const double> &residual, const Cube<const double> &weights, double fwhm) {
  if (residual.shape(1) != residual.shape(2)) throw std::invalid_argument("stamps must be square");
  for (std::size_t axis = 0; axis < 3; ++axis)
    if (weights.shape(axis) != residual.shape(axis)) throw std::invalid_argument("residual and weights differ in shape");
  if (!(fwhm > 0.0)) throw std::invalid_argument("the width must be positive");
}

auto point_significance(Cube<const double> residual, Cube<const double> weights, double fwhm) {
  require_stamps(residual, weights, fwhm);
  const std::size_t n = residual.shape(0), size = residual.shape(1);
  auto out = unset<float>(n * size * size);
  {
    nb::gil_scoped_release release;
    MatchedFilter filter(size, fwhm);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i * size * size;
      const float *found = filter.apply(residual.data() + at, weights.data() + at);
      for (std::size_t j = 0; j < size; ++j) std::copy_n(found + j * filter.pitch(), size, out.get() + at + j * size);
    }
  }
  return to_numpy(std::move(out), n, size, size);
}

// Offset of the parabola's vertex through three values from the middle one, at most half.
double vertex(double before, double here, double after) {
  const double offset = 0.5 * (before - after) / (before - 2.0 * here + after);
  return std::isfinite(offset) ? std::clamp(offset, -0.5, 0.5) : 0.0;
}

// The highest of a stamp's values at least `nearest` away from (x, y), counted from the middle pixel: the value and its place.
void find_highest(float *values, std::size_t size, std::size_t pitch, double x, double y, double nearest, double *found) {
  const double middle = double(size / 2);
  std::size_t row = 0, column = 0;
  float highest = -std::numeric_limits<float>::infinity();
  for (std::size_t j = 0; j < size; ++j) {
    const double up = double(j) - middle - y;
    float *line = values + j * pitch;
    for (std::size_t i = 0; i < size; ++i) {
      const double along = double(i) - middle - x;
      if (along * along + up * up < nearest * nearest) line[i] = 0.0f;
      if (line[i] > highest) {
        highest = line[i];
        row = j;
        column = i;
      }
    }
  }
  const std::size_t inner_row = std::clamp<std::size_t>(row, 1, size - 2), inner_column = std::clamp<std::size_t>(column, 1, size - 2);
  const float *here = values + inner_row * pitch + inner_column;
  found[0] = highest;
  found[1] = double(column) - middle + (column == inner_column ? vertex(here[-1], here[0], here[1]) : 0.0);
  found[2] = double(row) - middle + (row == inner_row ? vertex(*(here - pitch), here[0], here[pitch]) : 0.0);
}

nb::object brightest_points(Cube<const double> residual, Cube<const double> weights, Vector<const double> dx, Vector<const double> dy,
                            Vector<const std::int64_t> stars, double fwhm, double nearest) {
  require_stamps(residual, weights, fwhm);
  const std::size_t n = residual.shape(0), size = residual.shape(1);
  if (size < 3) throw std::invalid_argument("stamps must be three pixels wide");
  if (dx.shape(0) != n || dy.shape(0) != n) throw std::invalid_argument("stamps and positions differ in length");
  for (std::size_t i = 0; i < stars.shape(0); ++i)
    if (stars(i) < 0 || std::size_t(stars(i)) >= n) throw std::invalid_argument("there is no such star");
  Rows<double> out(stars.shape(0), 3);
  {
    nb::gil_scoped_release release;
    MatchedFilter filter(size, fwhm);
    for (std::size_t i = 0; i < stars.shape(0); ++i) {
      const std::size_t star = std::size_t(stars(i)), at = star * size * size;
      float *values = filter.apply(residual.data() + at, weights.data() + at);
      find_highest(values, size, filter.pitch(), dx(star), dy(star), nearest, out.row(i));
    }
  }
  return out.release();
}

} // namespace

void register_point_significance(nb::module_ &m) {
  m.def("point_significance", &point_significance, nb::arg("residual").noconvert(), nb::arg("weights").noconvert(), nb::arg("fwhm"),
        "Signal to noise of a point source at each pixel of residuals (n, V, V) with inverse variances: sum(g w r) / sqrt(sum(g^2 w)), g being a Gaussian of "
        "the given width in pixels, cut off at twice the width along either axis; 0 where all within is masked. In single precision: float32 (n, V, V).");
  m.def("brightest_points", &brightest_points, nb::arg("residual").noconvert(), nb::arg("weights").noconvert(), nb::arg("dx"), nb::arg("dy"), nb::arg("stars"),
        nb::arg("fwhm"), nb::arg("nearest"),
        "The highest point_significance of each of some stamps, places nearer than given to the star's, (dx, dy) from the middle pixel, counting as 0. Returns "
        "float64 (stars, 3): its value, -inf without any, and its place from the middle pixel by parabolas through three pixels along either axis.");
}

} // namespace streamchar
