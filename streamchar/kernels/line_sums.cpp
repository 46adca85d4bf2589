// Sums of pixels along all lines across a plane: the fast discrete Radon transform, and the block means it starts from.
#include "arrays.hpp"
#include "fetch.hpp"
#include "rows.hpp"
#include <cstdlib>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::size_t TOGETHER = 4;  // rows whose pixels are added at a time
constexpr std::size_t STRIP = 256;   // columns of them: what comes below is fetched meanwhile

// What becomes of pixels: those with one of the bits, and NaN, are left out, the others limited.
struct Limits {
  std::int32_t bits;
  float low, high;
};

// Add the usable pixels of `rows` rows to the columns' sums and counts.
template <std::size_t rows>
inline void accumulate(const float *pixels, const std::int32_t *mask, std::size_t width, Limits limits, std::size_t n, float *__restrict sum,
                       std::int32_t *__restrict count) {
  for (std::size_t x = 0; x < n; ++x) {
    float total = sum[x];
    std::int32_t number = count[x];
    for (std::size_t y = 0; y < rows; ++y) {
      const float value = pixels[y * width + x];
      const bool usable = ((mask[y * width + x] & limits.bits) == 0) & (value == value);
      const float raised = value > limits.low ? value : limits.low;
      const float limited = raised < limits.high ? raised : limits.high;
      total += usable ? limited : 0.0f;
      number += usable;
    }
    sum[x] = total;
    count[x] = number;
  }
}

// The same of any number of rows, the first of `left` that the plane still has.
STREAMCHAR_MULTIVERSION
void accumulate_rows(const float *pixels, const std::int32_t *mask, std::size_t width, std::size_t rows, std::size_t left, Limits limits, float *sum,
                     std::int32_t *count) {
  for (std::size_t x = 0; x < width; x += STRIP) {
    const std::size_t n = std::min(STRIP, width - x);
    std::size_t y = 0;
    for (; y + TOGETHER <= rows; y += TOGETHER) {
      for (std::size_t next = y + TOGETHER; next < std::min(y + 2 * TOGETHER, left); ++next) {
        fetch(pixels + next * width + x, std::ptrdiff_t(n));
        fetch(mask + next * width + x, std::ptrdiff_t(n));
      }
      accumulate<TOGETHER>(pixels + y * width + x, mask + y * width + x, width, limits, n, sum + x, count + x);
    }
    for (; y < rows; ++y) accumulate<1>(pixels + y * width + x, mask + y * width + x, width, limits, n, sum + x, count + x);
  }
}

// Means of adjacent columns from their sums and counts, the numbers of pixels in `used`.
template <std::size_t side> inline void average(const float *sum, const std::int32_t *count, std::size_t blocks, float *__restrict mean, std::int32_t *__restrict used) {
  for (std::size_t i = 0; i < blocks; ++i) {
    double total = 0.0;
    std::int32_t n = 0;
    for (std::size_t x = i * side; x < (i + 1) * side; ++x) {
      total += double(sum[x]);
      n += count[x];
    }
    mean[i] = n ? float(total / n) : 0.0f;
    used[i] = n;
  }
}

STREAMCHAR_MULTIVERSION void average_fours(const float *sum, const std::int32_t *count, std::size_t blocks, float *mean, std::int32_t *used) {
  average<4>(sum, count, blocks, mean, used);
}

STREAMCHAR_MULTIVERSION void average_eights(const float *sum, const std::int32_t *count, std::size_t blocks, float *mean, std::int32_t *used) {
  average<8>(sum, count, blocks, mean, used);
}

nb::tuple block_means(Plane<const float> image, Plane<const std::int32_t> mask, std::int32_t bits, std::int64_t block, float low,
                      float high) {
  const std::size_t height = image.shape(0), width = image.shape(1);
  if (mask.shape(0) != height || mask.shape(1) != width) throw std::invalid_argument("image and mask differ in shape");
  if (block < 1) throw std::invalid_argument("a block has at least one pixel");
  if (!(low <= high)) throw std::invalid_argument("low exceeds high");
  const std::size_t side = std::size_t(block), rows = (height + side - 1) / side, columns = (width + side - 1) / side;
  Rows<float> mean(rows, columns);
  Rows<std::int32_t> used(rows, columns);
  {
    nb::gil_scoped_release release;
    std::vector<float> sum(width);
    std::vector<std::int32_t> count(width);
    for (std::size_t row = 0; row < rows; ++row) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      std::fill(count.begin(), count.end(), 0);
      const std::size_t y = row * side;
      accumulate_rows(image.data() + y * width, mask.data() + y * width, width, std::min(side, height - y), height - y, {bits, low, high}, sum.data(), count.data());
      const std::size_t whole = side == 4 || side == 8 ? width / side : 0;
      if (side == 4) average_fours(sum.data(), count.data(), whole, mean.row(row), used.row(row));
      if (side == 8) average_eights(sum.data(), count.data(), whole, mean.row(row), used.row(row));
      for (std::size_t column = whole; column < columns; ++column) {
        double total = 0.0;
        std::int32_t n = 0;
        for (std::size_t x = column * side; x < std::min((column + 1) * side, width); ++x) {
          total += double(sum[x]);
          n += count[x];
        }
        mean.row(row)[column] = n ? float(total / n) : 0.0f;
        used.row(row)[column] = n;
      }
    }
  }
  return nb::make_tuple(mean.release(), used.release());
}

STREAMCHAR_MULTIVERSION
void add(const std::int16_t *a, const std::int16_t *b, std::int16_t *out, std::size_t n) {
  for (std::size_t x = 0; x < n; ++x) out[x] = std::int16_t(a[x] + b[x]);
}

// Lines through 2h adjacent rows from those through their halves: row t of either half of `from` holds its lines that shift by t columns.
// A line that shifts by t reaches the plane from t columns to its left on; `to` is zero where lines of fewer rows with its shift do not.
void double_height(const std::int16_t *from, std::int16_t *to, std::size_t rows, std::size_t width, std::size_t h) {
  for (std::size_t shift = 0; shift < 2 * h; ++shift) {
    const std::size_t half = shift / 2, offset = half + shift % 2, first = rows - 1 - shift;
    const std::int16_t *upper = from + half * width, *lower = from + (h + half) * width;
    std::int16_t *out = to + shift * width;
    const std::size_t both = std::max(first, width - std::min(offset, width));
    add(upper + first, lower + offset + first, out + first, both - first);
    std::copy(upper + both, upper + width, out + both);
  }
}

// Lines through n adjacent rows, from single rows by doubling: `to` holds the single rows when n is an even power of two, `other` when it is an
// odd one. One half after the other, so that the rows of both stay in the cache.
void sum_lines(std::int16_t *other, std::int16_t *to, std::size_t rows, std::size_t width, std::size_t n) {
  if (n == 1) return;
  const std::size_t h = n / 2;
  sum_lines(to, other, rows, width, h);
  sum_lines(to + h * width, other + h * width, rows, width, h);
  double_height(other, to, rows, width, h);
}

nb::object line_sums(Plane<const std::int16_t> plane) {
  const std::size_t height = plane.shape(0), columns = plane.shape(1);
  if (height == 0 || columns == 0) throw std::invalid_argument("a plane without pixels has no lines");
  std::size_t rows = 1;
  while (rows < height) rows *= 2;
  int largest = 0;
  for (std::size_t i = 0; i < height * columns; ++i) largest = std::max(largest, std::abs(int(plane.data()[i])));
  if (std::size_t(largest) * rows > INT16_MAX) throw std::invalid_argument("the sum of a line may exceed 16 bits");
  const std::size_t width = columns + rows - 1;
  Rows<std::int16_t> result(rows, width);
  {
    nb::gil_scoped_release release;
    std::vector<std::int16_t> other(rows * width);
    bool even = true;
    for (std::size_t n = rows; n > 1; n /= 2) even = !even;
    std::int16_t *single = even ? result.row(0) : other.data();
    for (std::size_t y = 0; y < height; ++y) std::copy(plane.data() + y * columns, plane.data() + (y + 1) * columns, single + y * width + rows - 1);
    sum_lines(other.data(), result.row(0), rows, width, rows);
  }
  return result.release();
}

STREAMCHAR_MULTIVERSION
void score(const std::int16_t *sums, const std::int16_t *counts, float shortest, std::size_t n, float *__restrict out) {
  for (std::size_t x = 0; x < n; ++x) {
    const float count = counts[x];
    const float value = float(sums[x]) / std::sqrt(count < 1.0f ? 1.0f : count);
    out[x] = count < shortest ? 0.0f : value;
  }
}

nb::object line_scores(Plane<const std::int16_t> sums, Plane<const std::int16_t> counts, Vector<const float> shortest) {
  const std::size_t rows = sums.shape(0), columns = sums.shape(1);
  if (counts.shape(0) != rows || counts.shape(1) != columns) throw std::invalid_argument("sums and counts differ in shape");
  if (shortest.shape(0) != rows) throw std::invalid_argument("sums and lengths differ in rows");
  Rows<float> result(rows, columns);
  {
    nb::gil_scoped_release release;
    for (std::size_t y = 0; y < rows; ++y) score(sums.data() + y * columns, counts.data() + y * columns, shortest(y), columns, result.row(y));
  }
  return result.release();
}

} // namespace

void register_line_sums(nb::module_ &m) {
  m.def("block_means", &block_means, nb::arg("image"), nb::arg("mask"), nb::arg("bits"), nb::arg("block"), nb::arg("low"), nb::arg("high"),
        "Means of block x block pixels, each pixel limited to low..high; pixels with one of the bits and NaN are left out, and the last row and "
        "column of blocks may be smaller. Returns the means (float32, 0 without a pixel) and the numbers of pixels (int32).");
  m.def("line_sums", &line_sums, nb::arg("plane"),
        "Sums along the lines that cross all rows of a plane (int16 (height, width)) and shift by 0 to one column per row to the right: the fast "
        "discrete Radon transform of Goetz and Druckmueller, and Brady. With N the height rounded up to a power of two, returns int16 (N, width + "
        "N - 1): element [s, N - 1 + x] belongs to the line from column x of row 0 to column x + s of row N - 1. By doubling: the line of shift t "
        "through 2h rows is that of shift t // 2 through the upper h rows followed, t // 2 + t % 2 columns further, by that of shift t // 2 "
        "through the lower ones; beyond the plane pixels are 0. Refuses planes whose sums "
        "may exceed 16 bits.");
  m.def("line_scores", &line_scores, nb::arg("sums"), nb::arg("counts"), nb::arg("shortest"),
        "Sums of lines over the square root of their numbers of pixels (int16 planes of one shape): float32, 0 where there are fewer than "
        "shortest, which has a number (float32) for each row.");
}

} // namespace streamchar
