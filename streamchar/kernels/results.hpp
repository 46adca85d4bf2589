// From the kernels' vectors to NumPy arrays.
#pragma once
#include "arrays.hpp"
#include "fetch.hpp"
#include "runs.hpp"
#include <algorithm>
#include <stdexcept>
#include <vector>

namespace streamchar {

template <typename T> nb::ndarray<nb::numpy, T, nb::ndim<1>> copy_to_numpy(const std::vector<T> &values) {
  auto copy = unset<T>(values.size());
  std::copy(values.begin(), values.end(), copy.get());
  return to_numpy(std::move(copy), values.size());
}

inline View view(const Plane<const float> &plane) {
  return {plane.data(), plane.shape(1), std::int32_t(plane.shape(0)), std::int32_t(plane.shape(1))};
}

inline nb::tuple to_tuple(const Components &found) {
  return nb::make_tuple(copy_to_numpy(found.y), copy_to_numpy(found.x0), copy_to_numpy(found.x1), copy_to_numpy(found.start));
}

// Footprints as a kernel receives them.
struct Spans {
  Vector<const std::int32_t> y, x0, x1;
  Vector<const std::int64_t> start;
  std::size_t size() const { return start.shape(0) - 1; }
  // The smallest box that holds a footprint.
  Region box(std::size_t footprint) const {
    const std::size_t first = start(footprint), last = start(footprint + 1);
    const auto [top, bottom] = std::minmax_element(y.data() + first, y.data() + last);
    return {*std::min_element(x0.data() + first, x0.data() + last), *top, *std::max_element(x1.data() + first, x1.data() + last), *bottom};
  }
};

// Refuse spans that leave the box, and offsets that leave the spans.
inline void check_spans(const Spans &spans, std::size_t height, std::size_t width) {
  const std::size_t n = spans.y.shape(0);
  if (spans.x0.shape(0) != n || spans.x1.shape(0) != n) throw std::invalid_argument("span arrays differ in length");
  for (std::size_t i = 0; i < n; ++i)
    if (spans.y(i) < 0 || std::size_t(spans.y(i)) >= height || spans.x0(i) < 0 || spans.x1(i) < spans.x0(i) ||
        std::size_t(spans.x1(i)) >= width)
      throw std::invalid_argument("span outside the plane");
  if (spans.start.shape(0) == 0 || spans.start(0) != 0 || spans.start(spans.size()) != std::int64_t(n))
    throw std::invalid_argument("footprint offsets do not cover the spans");
  for (std::size_t i = 0; i < spans.size(); ++i)
    if (spans.start(i + 1) <= spans.start(i)) throw std::invalid_argument("footprint without spans");
}

} // namespace streamchar
