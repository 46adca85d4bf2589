// Peaks that are sharper than the PSF at its best place: compact hits of cosmic rays.
#include "arrays.hpp"
#include "fetch.hpp"
#include "lanes.hpp"
#include "results.hpp"
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr std::int64_t REACH = 2, SIDE = 2 * REACH + 1, PIXELS = SIDE * SIDE; // of the window around a peak
constexpr std::size_t AHEAD = 8;                                              // peaks

struct Limits {
  double improvement, advantage, long_gain, growth, counts;
};

// Images in all places of the window's middle pixel: float32 (PIXELS, count).
struct Models {
  const float *images;
  std::size_t count;
};

// What several models next to each other, each at its best brightness, take from chi-square; NaN without any light.
template <typename T> STREAMCHAR_INLINE void explained_by(const float *weighted, const float *weight, const float *models, std::size_t count, T &out) {
  T product = {}, square = {}, light;
  for (std::int64_t k = 0; k < PIXELS; ++k) {
    std::memcpy(&light, models + std::size_t(k) * count, sizeof light);
    product += weighted[k] * light;
    square += weight[k] * (light * light);
  }
  product = product > T{} ? product : T{};
  out = product * product / square;
}

// What the best of the models takes.
STREAMCHAR_MULTIVERSION double explained(const float *weighted, const float *weight, Models models) {
  typedef Lanes<float>::Wide Wide;
  constexpr std::size_t LANES = sizeof(Wide) / sizeof(float);
  float best = 0.0f, one;
  Wide several;
  std::size_t i = 0;
  for (; i + LANES <= models.count; i += LANES) {
    explained_by(weighted, weight, models.images + i, models.count, several);
    for (std::size_t lane = 0; lane < LANES; ++lane) best = std::max(best, several[lane]);
  }
  for (; i < models.count; ++i) {
    explained_by(weighted, weight, models.images + i, models.count, one);
    best = std::max(best, one);
  }
  return best;
}

// The pixels around a peak, row by row.
struct Window {
  std::array<double, PIXELS> light, weight; // above the sky; inverse variance

  // Light of the outermost pixels over that of the inner ones.
  double surroundings() const {
    double all = 0.0, inner = 0.0;
    for (std::int64_t y = 0; y < SIDE; ++y)
      for (std::int64_t x = 0; x < SIDE; ++x) {
        const double value = light[std::size_t(y * SIDE + x)];
        all += value;
        if (y > 0 && y + 1 < SIDE && x > 0 && x + 1 < SIDE) inner += value;
      }
    return (all - inner) / std::max(inner, 1e-30);
  }

  bool sharper(Models stars, Models round, Models elongated, const Limits &limits) const {
    std::array<float, PIXELS> weighted, single;
    for (std::size_t k = 0; k < PIXELS; ++k) {
      weighted[k] = float(light[k] * weight[k]);
      single[k] = float(weight[k]);
    }
    const double star = explained(weighted.data(), single.data(), stars);
    double spot = explained(weighted.data(), single.data(), round);
    if (spot > star - limits.long_gain) spot = std::max(spot, explained(weighted.data(), single.data(), elongated));
    return spot - star > limits.improvement && spot > (1.0 + limits.advantage) * star;
  }

  // The bright pixels that are connected with the middle one by sides or corners.
  std::vector<std::int64_t> footprint(double growth) const {
    std::array<bool, PIXELS> found{};
    std::vector<std::int64_t> pixels{PIXELS / 2};
    found[PIXELS / 2] = true;
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      const std::int64_t y = pixels[i] / SIDE, x = pixels[i] % SIDE;
      for (std::int64_t b = std::max<std::int64_t>(y - 1, 0); b <= std::min(y + 1, SIDE - 1); ++b)
        for (std::int64_t a = std::max<std::int64_t>(x - 1, 0); a <= std::min(x + 1, SIDE - 1); ++a) {
          const auto k = std::size_t(b * SIDE + a);
          if (found[k] || !(light[k] * std::sqrt(weight[k]) > growth)) continue;
          found[k] = true;
          pixels.push_back(std::int64_t(k));
        }
    }
    std::sort(pixels.begin(), pixels.end());
    return pixels;
  }
};

// The planes that tell what a pixel's value is worth.
class Worth {
public:
  Worth(const std::int32_t *mask, const float *variance, std::int64_t height, std::int64_t width, std::int32_t excluded)
      : mask(mask), variance(variance), height(height), width(width), excluded(excluded) {}

  bool holds_window(std::int64_t y, std::int64_t x) const { return y >= REACH && y + REACH < height && x >= REACH && x + REACH < width; }

  void fetch_window(std::int64_t y, std::int64_t x) const {
    const Region region = Region{x - REACH, y - REACH, x + REACH, y + REACH}.within(width, height);
    fetch(mask, width, region);
    fetch(variance, width, region);
  }

  // Fill the weights of a window that the planes hold; false when a pixel is not finite, excluded, or of unknown variance.
  bool read(std::int64_t y, std::int64_t x, Window &window) const {
    bool usable = true;
    for (std::int64_t k = 0; k < PIXELS; ++k) {
      const std::int64_t index = (y - REACH + k / SIDE) * width + x - REACH + k % SIDE;
      usable &= std::isfinite(window.light[std::size_t(k)]) & !(mask[index] & excluded) & (variance[index] > 0.0f);
      window.weight[std::size_t(k)] = 1.0 / double(variance[index]);
    }
    return usable;
  }

private:
  const std::int32_t *mask;
  const float *variance;
  std::int64_t height, width;
  std::int32_t excluded;
};

struct Spots {
  std::vector<std::int32_t> y, x;
  std::vector<std::int64_t> start{0};

  // Unless its light is too little.
  void add(std::int64_t row, std::int64_t column, const Window &window, const Limits &limits) {
    const std::vector<std::int64_t> pixels = window.footprint(limits.growth);
    double sum = 0.0;
    for (const std::int64_t k : pixels) sum += window.light[std::size_t(k)];
    if (sum < limits.counts) return;
    for (const std::int64_t k : pixels) {
      y.push_back(std::int32_t(row - REACH + k / SIDE));
      x.push_back(std::int32_t(column - REACH + k % SIDE));
    }
    start.push_back(std::int64_t(y.size()));
  }
};

using Peaks = Vector<const std::int32_t>;
using Around = nb::ndarray<nb::numpy, const float, nb::shape<-1, PIXELS>, nb::c_contig, nb::device::cpu>;
using Stars = nb::ndarray<nb::numpy, const float, nb::shape<-1, -1, PIXELS, -1>, nb::c_contig, nb::device::cpu>;
using Shapes = nb::ndarray<nb::numpy, const float, nb::shape<PIXELS, -1>, nb::c_contig, nb::device::cpu>;

nb::tuple compact_spots(Plane<const std::int32_t> mask, Plane<const float> variance, Peaks y, Peaks x, Around around, double level, std::int32_t excluded,
                        Stars stars, Plane<const double> sharpest, Shapes round_spots, Shapes long_spots, double improvement, double advantage,
                        double long_gain, double growth, double counts) {
  const auto height = std::int64_t(mask.shape(0)), width = std::int64_t(mask.shape(1));
  const auto rows = std::int64_t(stars.shape(0)), columns = std::int64_t(stars.shape(1));
  const std::size_t n = y.shape(0), models = stars.shape(3);
  if (variance.shape(0) != mask.shape(0) || variance.shape(1) != mask.shape(1)) throw std::invalid_argument("mask and variance differ in shape");
  if (x.shape(0) != n || around.shape(0) != n) throw std::invalid_argument("x, y and around differ in length");
  if (rows == 0 || columns == 0 || std::int64_t(sharpest.shape(0)) != rows || std::int64_t(sharpest.shape(1)) != columns)
    throw std::invalid_argument("stars and their surroundings are needed for the same parts");
  const Limits limits{improvement, advantage, long_gain, growth, counts};
  const Models round{round_spots.data(), round_spots.shape(1)}, elongated{long_spots.data(), long_spots.shape(1)};
  Spots spots;
  {
    nb::gil_scoped_release release;
    const Worth worth(mask.data(), variance.data(), height, width, excluded);
    const auto part_of = [&](std::size_t i) { return std::size_t(y(i) * rows / height * columns + x(i) * columns / width); };
    Window window;
    const auto take = [&](std::size_t i) {
      for (std::size_t k = 0; k < PIXELS; ++k) window.light[k] = double(around(i, k)) - level;
    };
    // Bright stars need no comparison: their light is spread as the PSF says.
    std::vector<std::size_t> compact;
    for (std::size_t i = 0; i < n; ++i) {
      if (!worth.holds_window(y(i), x(i))) continue;
      take(i);
      if (window.surroundings() < sharpest.data()[part_of(i)]) compact.push_back(i);
    }
    for (std::size_t j = 0; j < compact.size(); ++j) {
      if (j + AHEAD < compact.size()) worth.fetch_window(y(compact[j + AHEAD]), x(compact[j + AHEAD]));
      const std::size_t i = compact[j];
      take(i);
      if (!worth.read(y(i), x(i), window)) continue;
      const Models near{stars.data() + part_of(i) * PIXELS * models, models};
      if (window.sharper(near, round, elongated, limits)) spots.add(y(i), x(i), window, limits);
    }
  }
  return nb::make_tuple(copy_to_numpy(spots.y), copy_to_numpy(spots.x), copy_to_numpy(spots.start));
}

} // namespace

void register_compact_spots(nb::module_ &m) {
  m.def("compact_spots", &compact_spots, nb::arg("mask"), nb::arg("variance"), nb::arg("y"), nb::arg("x"), nb::arg("around"), nb::arg("level"),
        nb::arg("excluded"), nb::arg("stars"), nb::arg("sharpest"), nb::arg("round_spots"), nb::arg("long_spots"), nb::arg("improvement"),
        nb::arg("advantage"), nb::arg("long_gain"), nb::arg("growth"), nb::arg("counts"),
        "Which peaks (y, x) are sharper than stars, by the 5 x 5 pixels `around` (float32 (n, 25), row by row) each: finite, of positive variance, without the bits "
        "`excluded`. Models are float32: `stars` (rows, columns, 25, m) near the peaks in each of rows x columns equal parts of the plane, `round_spots` and `long_spots` "
        "(25, m); the latter are tried where the best round one explains no less of the pixels' chi-square (above `level`) than the best star less `long_gain`. A peak is a "
        "spot when its outermost pixels have less of the inner ones' light than `sharpest` (rows, columns) of its part, the best spot explains more than the best star by "
        "`improvement` and by the factor 1 + `advantage`, and its pixels have `counts` together: the middle one and those more than `growth` standard deviations high that are "
        "connected with it. Returns (y, x, start): the pixels of spot i, ascending, are start[i]:start[i + 1].");
}

} // namespace streamchar
