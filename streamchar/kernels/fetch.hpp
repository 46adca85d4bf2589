// Asking for pixels before they are needed: the rows of a box lie pages apart, and the processor does not foresee them.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace streamchar {

struct Region {
  std::ptrdiff_t x0, y0, x1, y1; // inclusive

  Region within(std::ptrdiff_t width, std::ptrdiff_t height) const {
    return {std::max<std::ptrdiff_t>(x0, 0), std::max<std::ptrdiff_t>(y0, 0), std::min(x1, width - 1), std::min(y1, height - 1)};
  }
};

// Four-byte pixels, sixteen to a line of the cache.
template <typename T> void fetch(const T *plane, std::ptrdiff_t width, const Region &box) {
  static_assert(sizeof(T) == 4);
  for (std::ptrdiff_t y = box.y0; y <= box.y1; ++y) {
    const T *row = plane + y * width;
    for (std::ptrdiff_t x = box.x0; x < box.x1 + 16; x += 16) __builtin_prefetch(row + x);
  }
}

// The same of n adjacent pixels.
template <typename T> void fetch(const T *pixels, std::ptrdiff_t n) {
  static_assert(sizeof(T) == 4);
  for (std::ptrdiff_t x = 0; x < n; x += 16) __builtin_prefetch(pixels + x);
}

} // namespace streamchar
