// A plane convolved with a symmetric separable kernel where it is wanted, without a plane that holds the result.
#pragma once
#include "arrays.hpp"
#include "fetch.hpp"
#include "runs.hpp"
#include <optional>
#include <vector>

namespace streamchar {

// A plane or a box of one: rows of adjacent pixels.
using Box = nb::ndarray<nb::numpy, const float, nb::ndim<2>, nb::device::cpu>;

// Refuse a box whose pixels are not adjacent in a row.
View view_of_box(const Box &box);

// What is convolved, and the right half of the kernel: taps[0] to taps[half]. plane.data may be null: nothing.
struct Convolved {
  View plane;
  const float *taps;
  int half;

  // The part under the kernels of a box of the result.
  Convolved box(std::int32_t x0, std::int32_t y0, std::int32_t width, std::int32_t height) const {
    return {{plane.data ? plane.row(y0) + x0 : nullptr, plane.stride, height + 2 * half, width + 2 * half}, taps, half};
  }
  std::int32_t width() const { return plane.width - 2 * half; }
  std::int32_t height() const { return plane.height - 2 * half; }
  // Whether the result is the plane itself.
  bool is_plane() const { return half == 0 && taps[0] == 1.0f; }
  // Ask for what a box of the result needs.
  void fetch(const Region &box) const {
    streamchar::fetch(plane.data, std::ptrdiff_t(plane.stride), Region{box.x0, box.y0, box.x1 + 2 * half, box.y1 + 2 * half});
  }
  // A single pixel of the result, equal to that of the row or the plane.
  float pixel(std::int32_t x, std::int32_t y) const;
  // The part of it that the middle row of the kernel gives: no more than all of it where nothing is negative.
  float middle(std::int32_t x, std::int32_t y) const;

private:
  float along_row(std::int32_t x, std::int32_t row) const;
};

// A kernel's argument: the box, or nothing, for a result of height x width; without taps it is taken as it is.
// Throws std::invalid_argument when the shapes do not fit.
Convolved convolved(const std::optional<Box> &box, const std::optional<Vector<const float>> &taps, std::size_t height, std::size_t width);

// The same of an argument that is not optional: whatever is left inside the kernel's borders.
Convolved convolved(const Box &box, const std::optional<Vector<const float>> &taps);

// A plane taken as it is.
Convolved as_it_is(View plane);

// The rows of the result from the first on.
class ConvolvedRows {
public:
  static constexpr std::size_t together = 4; // rows made at a time: most of the rows that one needs are those of the next

  explicit ConvolvedRows(const Convolved &source);
  // Write the next rows, at most `together`.
  void write(float *out, std::size_t stride, std::size_t count);
  // The next row, valid until the one after it.
  const float *next();

private:
  Convolved source_;
  std::size_t width_, height_, filtered_ = 0, written_ = 0, ready_ = 0, given_ = 0;
  std::vector<float> ring_, made_;
  std::vector<const float *> rows_;
};

// Adjacent pixels of rows of the result, wherever they are.
class ConvolvedSpans {
public:
  explicit ConvolvedSpans(const Convolved &source);
  // Ask for what pixels x0..x1 of row y need, all of it or what those of the row above did not.
  void fetch(std::int32_t y, std::int32_t x0, std::int32_t x1, bool all) const;
  // Pixels x0..x1 of row y, valid until the next.
  const float *values(std::int32_t y, std::int32_t x0, std::int32_t x1);

private:
  Convolved source_;
  std::vector<float> column_, row_;
  std::vector<const float *> rows_;
};

} // namespace streamchar
