// The pixels inside an ellipse of constant weight.
#pragma once
#include "scene.hpp"
#include <algorithm>
#include <cmath>

namespace streamchar {

struct Ellipse {
  double xx, xy, yy; // second moments
  double determinant() const { return xx * yy - xy * xy; }
  bool usable() const { return xx > 0 && yy > 0 && determinant() > 0 && std::isfinite(xx) && std::isfinite(yy); }
};

struct Box {
  std::ptrdiff_t x0, y0, x1, y1; // inclusive; empty when a first exceeds its last
};

// The box about the ellipse q <= q_max, clipped to the image; at most a thousand pixels to each side.
inline Box box_within(const Scene &scene, double x, double y, const Ellipse &e, double q_max) {
  const double rx = std::min(std::sqrt(q_max * e.xx), 1000.0), ry = std::min(std::sqrt(q_max * e.yy), 1000.0);
  const auto low = [](double v, std::size_t n) { return std::ptrdiff_t(std::clamp(std::ceil(v), 0.0, double(n))); };
  const auto high = [](double v, std::size_t n) { return std::ptrdiff_t(std::clamp(std::floor(v), -1.0, double(n) - 1.0)); };
  return {low(x - rx, scene.width()), low(y - ry, scene.height()), high(x + rx, scene.width()), high(y + ry, scene.height())};
}

} // namespace streamchar
