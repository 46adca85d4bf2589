// Local maxima of a plane above a level.
#include "arrays.hpp"
#include "fetch.hpp"
#include "results.hpp"
#include <algorithm>
#include <vector>

namespace streamchar {
namespace {

// How many pixels are looked at before any of them is told apart: few blocks hold one.
constexpr std::int64_t BLOCK = 32;

STREAMCHAR_MULTIVERSION
bool any_above(const float *values, float level) {
  std::int32_t any = 0;
  for (std::int64_t x = 0; x < BLOCK; ++x) any |= values[x] > level;
  return any != 0;
}

nb::tuple bright_maxima(Plane<const float> image, float level) {
  const auto height = std::int64_t(image.shape(0)), width = std::int64_t(image.shape(1));
  std::vector<std::int32_t> found_y, found_x;
  {
    nb::gil_scoped_release release;
    for (std::int64_t y = 1; y + 1 < height; ++y) {
      const float *row = image.data() + y * width;
      for (std::int64_t x = 1; x + 1 < width; ++x) {
        if (x % BLOCK == 0) fetch(row + width + x, std::min(BLOCK, width - x));
        if (x % BLOCK == 0 && x + BLOCK <= width && !any_above(row + x, level)) {
          x += BLOCK - 1;
          continue;
        }
        if (!(row[x] > level)) continue;
        const float *v = row + x;
        // Not below those before, above those behind: one pixel of a plateau. NaN fails either.
        const bool before = (*v >= v[-width - 1]) & (*v >= v[-width]) & (*v >= v[-width + 1]) & (*v >= v[-1]);
        const bool behind = (*v > v[width - 1]) & (*v > v[width]) & (*v > v[width + 1]) & (*v > v[1]);
        if (before & behind) {
          found_y.push_back(std::int32_t(y));
          found_x.push_back(std::int32_t(x));
        }
      }
    }
  }
  return nb::make_tuple(copy_to_numpy(found_y), copy_to_numpy(found_x));
}

} // namespace

void register_bright_maxima(nb::module_ &m) {
  m.def("bright_maxima", &bright_maxima, nb::arg("image"), nb::arg("level"),
        "Rows and columns (int32) of pixels above level and not below any of their eight neighbours; border pixels and neighbours of NaN are left out, "
        "plateaus give their last pixel.");
}

} // namespace streamchar
