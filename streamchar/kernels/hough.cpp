// The kernel-based Hough transform's sequential parts: chains of edge pixels, their subdivision, and voting.
#include "arrays.hpp"
#include "results.hpp"
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

struct Pixel {
  std::int32_t x, y;
};

// Follows edge pixels from neighbour to neighbour, clearing them.
class Linker {
public:
  Linker(Plane<const std::uint8_t> edges)
      : height_(std::int32_t(edges.shape(0))), width_(std::int32_t(edges.shape(1))),
        left_(edges.data(), edges.data() + edges.shape(0) * edges.shape(1)) {}

  bool starts(std::int32_t x, std::int32_t y) const { return at(x, y) != 0; }

  std::vector<Pixel> link(Pixel first) {
    std::vector<Pixel> chain;
    follow(first, chain);
    std::reverse(chain.begin(), chain.end());
    Pixel next;
    if (neighbour(first, next)) follow(next, chain);
    return chain;
  }

private:
  std::uint8_t at(std::int32_t x, std::int32_t y) const { return left_[std::size_t(y) * std::size_t(width_) + std::size_t(x)]; }

  bool neighbour(Pixel from, Pixel &next) const {
    static const int steps[8][2] = {{0, 1}, {1, 0}, {0, -1}, {-1, 0}, {1, 1}, {-1, 1}, {-1, -1}, {1, -1}};
    for (const auto &step : steps) {
      const std::int32_t x = from.x + step[0], y = from.y + step[1];
      if (x < 0 || y < 0 || x >= width_ || y >= height_ || !at(x, y)) continue;
      next = {x, y};
      return true;
    }
    return false;
  }

  void follow(Pixel pixel, std::vector<Pixel> &chain) {
    do {
      chain.push_back(pixel);
      left_[std::size_t(pixel.y) * std::size_t(width_) + std::size_t(pixel.x)] = 0;
    } while (neighbour(pixel, pixel));
  }

  std::int32_t height_, width_;
  std::vector<std::uint8_t> left_;
};

nb::tuple link_chains(Plane<const std::uint8_t> edges, std::int64_t shortest) {
  std::vector<std::int32_t> x, y;
  std::vector<std::int64_t> start{0};
  {
    nb::gil_scoped_release release;
    Linker linker(edges);
    const std::int32_t height = std::int32_t(edges.shape(0)), width = std::int32_t(edges.shape(1));
    for (std::int32_t row = 1; row < height - 1; ++row)
      for (std::int32_t column = 1; column < width - 1; ++column) {
        if (!linker.starts(column, row)) continue;
        const std::vector<Pixel> chain = linker.link({column, row});
        if (std::int64_t(chain.size()) < shortest) continue;
        for (const Pixel &pixel : chain) {
          x.push_back(pixel.x);
          y.push_back(pixel.y);
        }
        start.push_back(std::int64_t(x.size()));
      }
  }
  return nb::make_tuple(copy_to_numpy(x), copy_to_numpy(y), copy_to_numpy(start));
}

// Recursive subdivision of one chain at the pixel farthest from the chord.
class Subdivision {
public:
  Subdivision(const std::int32_t *x, const std::int32_t *y, std::int64_t smallest, double deviation)
      : x_(x), y_(y), smallest_(smallest), deviation_(deviation) {}

  // Append the clusters of pixels first..last (inclusive) and return the quality of the whole.
  double divide(std::int64_t first, std::int64_t last, std::vector<std::int64_t> &begin, std::vector<std::int64_t> &end) {
    const double dx = x_[first] - x_[last], dy = y_[first] - y_[last], length = std::hypot(dx, dy);
    std::int64_t farthest = first;
    double largest = 0.0;
    for (std::int64_t i = first; i <= last && length > 0.0; ++i) {
      const double away = std::fabs((x_[i] - x_[last]) * dy - (y_[i] - y_[last]) * dx) / length;
      if (away > largest) {
        largest = away;
        farthest = i;
      }
    }
    const double quality = length / std::max(largest, deviation_);
    if (farthest - first + 1 >= smallest_ && last - farthest + 1 >= smallest_) {
      const std::size_t before = begin.size();
      const double one = divide(first, farthest, begin, end), other = divide(farthest, last, begin, end);
      if (one > quality || other > quality) return std::max(one, other);
      begin.resize(before);
      end.resize(before);
    }
    begin.push_back(first);
    end.push_back(last + 1);
    return quality;
  }

private:
  const std::int32_t *x_, *y_;
  std::int64_t smallest_;
  double deviation_;
};

nb::tuple subdivide_chains(Vector<const std::int32_t> x, Vector<const std::int32_t> y, Vector<const std::int64_t> start,
                           std::int64_t smallest, double deviation) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (start.shape(0) == 0 || start(0) != 0 || start(start.shape(0) - 1) != std::int64_t(n))
    throw std::invalid_argument("chain offsets do not cover the pixels");
  for (std::size_t i = 1; i < start.shape(0); ++i)
    if (start(i) <= start(i - 1)) throw std::invalid_argument("chain without pixels");
  // Two pixels at least, so that every division makes the parts smaller.
  if (smallest < 2 || !(deviation > 0.0)) throw std::invalid_argument("clusters need two pixels and a positive deviation");
  std::vector<std::int64_t> begin, end;
  {
    nb::gil_scoped_release release;
    Subdivision subdivision(x.data(), y.data(), smallest, deviation);
    for (std::size_t i = 1; i < start.shape(0); ++i) subdivision.divide(start(i - 1), start(i) - 1, begin, end);
  }
  return nb::make_tuple(copy_to_numpy(begin), copy_to_numpy(end));
}

// One elliptical Gaussian kernel in units of the accumulator's bins.
struct Kernel {
  double rho, theta, rr, rt, tt, scale;

  int votes(double rho_step, double theta_step) const {
    const double determinant = rr * tt - rt * rt;
    const double z = (rho_step * rho_step * tt - 2.0 * rho_step * theta_step * rt + theta_step * theta_step * rr) / determinant;
    const double height = scale * std::exp(-0.5 * z) / (2.0 * M_PI * std::sqrt(determinant));
    return int(std::min(height, 16777216.0) + 0.5);
  }
};

class Accumulator {
public:
  Accumulator(std::int32_t *votes, std::int64_t thetas, std::int64_t rhos) : votes_(votes), thetas_(thetas), rhos_(rhos) {}

  // The four quadrants about the bin that holds the centre.
  void vote(const Kernel &kernel, double delta) {
    const std::int64_t rho = std::int64_t(std::floor(kernel.rho / delta + 0.5)) + rhos_ / 2;
    const std::int64_t theta = std::int64_t(std::floor(kernel.theta / delta + 0.5));
    quadrant(kernel, delta, rho, theta, 1, 1, 0, 0);
    quadrant(kernel, delta, rho, theta, -1, 1, -1, 0);
    quadrant(kernel, delta, rho, theta, 1, -1, 0, -1);
    quadrant(kernel, delta, rho, theta, -1, -1, -1, -1);
  }

private:
  void quadrant(const Kernel &kernel, double delta, std::int64_t rho, std::int64_t theta, int rho_sign, int theta_sign, int rho_first,
                int theta_first) {
    int empty = 0;
    for (std::int64_t j = 0; j < thetas_ && empty < 2; ++j) {
      const std::int64_t row = theta + theta_first + theta_sign * j;
      bool any = false;
      for (std::int64_t i = 0; i < rhos_; ++i) {
        const std::int64_t column = rho + rho_first + rho_sign * i;
        const int votes = kernel.votes((double(column - rhos_ / 2)) * delta - kernel.rho, double(row) * delta - kernel.theta);
        if (votes <= 0) break;
        any = true;
        add(row, column, votes);
      }
      empty = any ? 0 : empty + 1;
    }
  }

  // Past 0 or 180 degrees the line is the same with rho reversed.
  void add(std::int64_t row, std::int64_t column, int votes) {
    const std::int64_t turns = row >= 0 ? row / thetas_ : -((-row + thetas_ - 1) / thetas_);
    row -= turns * thetas_;
    if (turns % 2 != 0) column = 2 * (rhos_ / 2) - column;
    if (column >= 0 && column < rhos_) votes_[row * rhos_ + column] += votes;
  }

  std::int32_t *votes_;
  std::int64_t thetas_, rhos_;
};

nb::object hough_votes(Plane<const double> kernels, double scale, double delta, std::int64_t thetas, std::int64_t rhos) {
  if (kernels.shape(1) != 5) throw std::invalid_argument("a kernel has rho, theta and three covariances");
  if (!(delta > 0.0) || thetas < 1 || rhos < 1) throw std::invalid_argument("an accumulator needs bins");
  for (std::size_t i = 0; i < kernels.shape(0); ++i)
    if (!(kernels(i, 2) > 0.0 && kernels(i, 4) > 0.0 && kernels(i, 2) * kernels(i, 4) > kernels(i, 3) * kernels(i, 3)))
      throw std::invalid_argument("a kernel's covariance is not positive definite");
  Rows<std::int32_t> votes{std::size_t(thetas), std::size_t(rhos)};
  {
    nb::gil_scoped_release release;
    Accumulator accumulator(votes.row(0), thetas, rhos);
    for (std::size_t i = 0; i < kernels.shape(0); ++i)
      accumulator.vote({kernels(i, 0), kernels(i, 1), kernels(i, 2), kernels(i, 3), kernels(i, 4), scale}, delta);
  }
  return votes.release();
}

} // namespace

void register_hough(nb::module_ &m) {
  m.def("link_chains", &link_chains, nb::arg("edges"), nb::arg("shortest"),
        "Chains of the non-zero pixels of edges (uint8), from each one not yet taken, by rows and columns without the outermost ring: from pixel to "
        "the first remaining neighbour of (dx, dy) = (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, 1), (-1, -1), (1, -1), then reversed and "
        "continued from the start. Returns x, y (int32) and the first pixel of each chain with at least `shortest` pixels (int64, n + 1).");
  m.def("subdivide_chains", &subdivide_chains, nb::arg("x"), nb::arg("y"), nb::arg("start"), nb::arg("smallest"), nb::arg("deviation"),
        "Divide chains at the pixel farthest from the chord when both parts (which share it) have at least `smallest` pixels and one of them has a "
        "greater quality: chord over the larger of that distance and `deviation`. The quality of a divided chain is the greater of its "
        "parts'. Returns first and last + 1 pixel of every cluster (int64).");
  m.def("hough_votes", &hough_votes, nb::arg("kernels"), nb::arg("scale"), nb::arg("delta"), nb::arg("thetas"), nb::arg("rhos"),
        "Votes of Gaussian kernels, rows of (rho, theta, var rho, covariance, var theta) in pixels and degrees. Bin [j, i] stands for theta = j "
        "delta, rho = (i - rhos // 2) delta. In each quadrant around a kernel's bin int(scale G + 1/2) is added along rho while positive, row by row "
        "until two rows are empty (at most 2^24 a bin); past the ends of theta rho changes its sign. Returns int32 (thetas, rhos).");
}

} // namespace streamchar
