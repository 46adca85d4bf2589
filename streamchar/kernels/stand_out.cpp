// What stands out of a smoothed plane, and what surrounds it.
#include "rows.hpp"
#include "smooth.hpp"
#include <algorithm>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

// Set the flags of pixels above the level or below -pit levels; returns whether there is one.
STREAMCHAR_MULTIVERSION
bool flag_row(const float *values, const float *level, float pit, std::uint8_t *__restrict flags, std::size_t n) {
  std::uint8_t any = 0;
  for (std::size_t x = 0; x < n; ++x) {
    flags[x] = std::uint8_t(values[x] > level[x]) | std::uint8_t(values[x] < -pit * level[x]);
    any |= flags[x];
  }
  return any != 0;
}

STREAMCHAR_MULTIVERSION
void add_flags(const std::uint8_t *flags, std::uint8_t *__restrict out, std::size_t n) {
  for (std::size_t x = 0; x < n; ++x) out[x] |= flags[x];
}

// A plane continued by its outermost pixels.
class Continued {
public:
  Continued(const Plane<const float> &plane, std::size_t border)
      : height_(plane.shape(0) + 2 * border), width_(plane.shape(1) + 2 * border), pixels_(height_ * width_) {
    const std::size_t width = plane.shape(1);
    for (std::size_t y = 0; y < height_; ++y) {
      const std::size_t nearest = std::min(y > border ? y - border : 0, std::size_t(plane.shape(0)) - 1);
      const float *from = plane.data() + nearest * width;
      float *row = pixels_.data() + y * width_;
      std::fill_n(row, border, from[0]);
      std::copy_n(from, width, row + border);
      std::fill_n(row + border + width, border, from[width - 1]);
    }
  }
  View view() const { return {pixels_.data(), width_, std::int32_t(height_), std::int32_t(width_)}; }

private:
  std::size_t height_, width_;
  std::vector<float> pixels_;
};

nb::object stand_out(Plane<const float> plane, Vector<const float> taps, Plane<const float> level, float pit, Vector<const std::int32_t> half_widths) {
  const std::size_t height = plane.shape(0), width = plane.shape(1);
  if (level.shape(0) != height || level.shape(1) != width) throw std::invalid_argument("plane and level differ in shape");
  if (taps.shape(0) == 0) throw std::invalid_argument("the kernel has no taps");
  if (half_widths.shape(0) == 0) throw std::invalid_argument("the element has no rows");
  for (std::size_t i = 0; i < half_widths.shape(0); ++i)
    if (half_widths(i) < 0 || (i > 0 && half_widths(i) > half_widths(i - 1)))
      throw std::invalid_argument("half widths are negative or grow away from the middle row");
  Rows<bool> found(height, width);
  if (height > 0 && width > 0) {
    nb::gil_scoped_release release;
    const std::size_t half = taps.shape(0) - 1, reach = std::min(std::size_t(half_widths(0)), width - 1);
    const Continued continued(plane, half);
    ConvolvedRows smoothed({continued.view(), taps.data(), int(half)});
    std::vector<std::uint8_t> flags(width + 2 * reach), wide(width);
    const auto add = [&](std::size_t y) { add_flags(wide.data(), reinterpret_cast<std::uint8_t *>(found.row(y)), width); };
    for (std::size_t y = 0; y < height; ++y) {
      if (!flag_row(smoothed.next(), level.data() + y * width, pit, flags.data() + reach, width)) continue;
      // From the element's narrow outer rows to the wide ones, the flags are widened only once.
      std::copy_n(flags.data() + reach, width, wide.data());
      std::size_t widened = 0;
      for (std::size_t dy = half_widths.shape(0); dy-- > 0;) {
        for (const std::size_t half_width = std::min(std::size_t(half_widths(dy)), reach); widened < half_width;) {
          ++widened;
          add_flags(flags.data() + reach - widened, wide.data(), width);
          add_flags(flags.data() + reach + widened, wide.data(), width);
        }
        if (dy <= y) add(y - dy);
        if (dy > 0 && dy < height - y) add(y + dy);
      }
    }
  }
  return found.release();
}

} // namespace

void register_stand_out(nb::module_ &m) {
  m.def("stand_out", &stand_out, nb::arg("plane"), nb::arg("taps"), nb::arg("level"), nb::arg("pit"), nb::arg("half_widths"),
        "Whether a pixel of a plane, continued by its outermost pixels and smoothed as in smooth, exceeds its level or is below -pit levels, or "
        "is near one that does: within half_widths[|dy|] columns of one dy rows away. half_widths do not grow with |dy|. Returns bool "
        "(height, width); NaN never stands out.");
}

} // namespace streamchar
