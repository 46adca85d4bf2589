// The pixels of stars: stamps of a plane, which of their pixels are of use, and the noise that they tell.
#include "fetch.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

constexpr double LOWEST = 0.1; // part of the variances that stands for the sky where the line fails

// Pixels of a stamp that are set but not connected (8 neighbours) with the middle one, be that set or not.
class Detached {
public:
  explicit Detached(std::size_t size) : pitch_(size + 2), framed_(pitch_ * pitch_) {}
  std::uint8_t *row(std::size_t j) { return framed_.data() + (j + 1) * pitch_ + 1; }
  // From all that are set; what is reached from the middle goes.
  void find() {
    const std::size_t middle = framed_.size() / 2;
    framed_[middle] = 1;
    open_.clear();
    clear_run(middle);
    while (!open_.empty()) {
      const Run run = open_.back();
      open_.pop_back();
      for (const std::size_t shift : {run.first - pitch_, run.first + pitch_})
        for (std::size_t at = shift - 1; at <= shift + run.length; ++at)
          if (framed_[at]) at = clear_run(at);
    }
  }

private:
  struct Run {
    std::size_t first, length;
  };
  // The run of pixels in a row that holds one; returns its end. The frame is never set.
  std::size_t clear_run(std::size_t at) {
    std::size_t first = at, end = at;
    while (framed_[first - 1]) framed_[--first] = 0;
    while (framed_[end]) framed_[end++] = 0;
    open_.push_back({first, end - first});
    return end;
  }

  std::size_t pitch_;
  std::vector<std::uint8_t> framed_;
  std::vector<Run> open_;
};

// Set all pixels within a distance of those that are.
void add_grown(Detached &pixels, std::ptrdiff_t size, std::ptrdiff_t radius, std::vector<std::uint8_t> &out) {
  for (std::ptrdiff_t j = 0; j < size; ++j) {
    const std::uint8_t *line = pixels.row(std::size_t(j));
    if (!std::memchr(line, 1, std::size_t(size))) continue;
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      if (!line[i]) continue;
      for (std::ptrdiff_t down = std::max(-radius, -j); down <= std::min(radius, size - 1 - j); ++down) {
        const std::ptrdiff_t reach = std::ptrdiff_t(std::sqrt(double(radius * radius - down * down)));
        const std::ptrdiff_t first = std::max<std::ptrdiff_t>(i - reach, 0), last = std::min(i + reach, size - 1);
        std::fill_n(out.begin() + (j + down) * size + first, last - first + 1, std::uint8_t(1));
      }
    }
  }
}

// The planes' pixels of one stamp, one row behind the other: vectors then are as long as the stamp, not as a row.
struct Cut {
  std::vector<float> image, variance;
  std::vector<std::int32_t> mask;
  explicit Cut(std::size_t area) : image(area), variance(area), mask(area) {}
};

STREAMCHAR_MULTIVERSION void select_detected(const std::int32_t *mask, const std::uint8_t *foreign, std::size_t n, std::int32_t detected,
                                             std::uint8_t *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = std::uint8_t((mask[i] & detected) != 0) & std::uint8_t(foreign[i] == 0);
}

// What is not finite gives NaN when it is subtracted from itself.
STREAMCHAR_MULTIVERSION void select_usable(const float *image, const float *variance, const std::int32_t *mask, const std::uint8_t *within,
                                           const std::uint8_t *foreign, std::size_t n, std::int32_t bad, std::uint8_t *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t good = std::int32_t(image[i] - image[i] == 0.0f) & std::int32_t(variance[i] - variance[i] == 0.0f) &
                              std::int32_t(variance[i] > 0.0f) & std::int32_t((mask[i] & bad) == 0);
    out[i] = std::uint8_t(good) & within[i] & std::uint8_t(foreign[i] == 0);
  }
}

STREAMCHAR_MULTIVERSION void take(const float *values, const std::uint8_t *usable, std::size_t n, double *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = usable[i] ? double(values[i]) : 0.0;
}

struct Line {
  double level, slope;
};

STREAMCHAR_MULTIVERSION void add_up(const double *pixels, const double *variance, std::size_t n, double &pixel, double &noise) {
  Four p, v, pixel_sum, noise_sum;
  broadcast(0.0, pixel_sum);
  broadcast(0.0, noise_sum);
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    load(pixels + i, p);
    load(variance + i, v);
    pixel_sum += p;
    noise_sum += v;
  }
  pixel = sum(pixel_sum);
  noise = sum(noise_sum);
  for (; i < n; ++i) {
    pixel += pixels[i];
    noise += variance[i];
  }
}

// Sums of the squared pixels and of their products with the variances, about their mean; where no variance is, nothing is usable.
STREAMCHAR_MULTIVERSION void add_squares(const double *pixels, const double *variance, std::size_t n, double mean, double &square, double &product) {
  Four p, v, nothing, squares, products;
  for (Four *total : {&nothing, &squares, &products}) broadcast(0.0, *total);
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    load(pixels + i, p);
    load(variance + i, v);
    p -= mean;
    keep(FourMasks(v > nothing), p);
    squares += p * p;
    products += p * v;
  }
  square = sum(squares);
  product = sum(products);
  for (; i < n; ++i) {
    const double centred = variance[i] > 0.0 ? pixels[i] - mean : 0.0;
    square += centred * centred;
    product += centred * variance[i];
  }
}

// The quantile of the positive values, linear between them; at least one is.
double quantile(const double *values, std::size_t n, double fraction, std::vector<double> &room) {
  room.clear();
  std::copy_if(values, values + n, std::back_inserter(room), [](double v) { return v > 0.0; });
  const double place = fraction * double(room.size() - 1);
  const std::size_t below = std::size_t(place);
  std::nth_element(room.begin(), room.begin() + std::ptrdiff_t(below), room.end());
  const double low = room[below], high = below + 1 < room.size() ? *std::min_element(room.begin() + std::ptrdiff_t(below) + 1, room.end()) : low;
  return low + (place - double(below)) * (high - low);
}

Line variance_line(const double *pixels, const double *variance, const std::uint8_t *usable, std::size_t n, std::vector<double> &room) {
  const double count = double(std::count(usable, usable + n, 1));
  if (count == 0.0) return {std::numeric_limits<double>::quiet_NaN(), 0.0};
  double mean_pixel, mean_variance, square, product;
  add_up(pixels, variance, n, mean_pixel, mean_variance);
  mean_pixel /= count;
  mean_variance /= count;
  add_squares(pixels, variance, n, mean_pixel, square, product);
  const double ratio = product / square, slope = std::isfinite(ratio) ? std::max(ratio, 0.0) : 0.0, level = mean_variance - slope * mean_pixel;
  if (level > 0.0) return {level, slope};
  return {quantile(variance, n, LOWEST, room), 0.0};
}

nb::tuple star_pixels(Plane<const float> image, Plane<const float> variance, Plane<const std::int32_t> mask, Vector<const std::int64_t> x,
                      Vector<const std::int64_t> y, Plane<const bool> within, Cube<const bool> foreign, std::int32_t bad, std::int32_t detected, int margin) {
  const std::size_t n = x.shape(0), size = within.shape(0), area = size * size, height = image.shape(0), width = image.shape(1);
  if (within.shape(1) != size || size % 2 == 0) throw std::invalid_argument("stamps must be square, of odd width");
  if (y.shape(0) != n || foreign.shape(0) != n || foreign.shape(1) != size || foreign.shape(2) != size)
    throw std::invalid_argument("positions and foreign pixels differ in shape");
  if (variance.shape(0) != height || variance.shape(1) != width || mask.shape(0) != height || mask.shape(1) != width)
    throw std::invalid_argument("the planes differ in shape");
  if (margin < 0) throw std::invalid_argument("the margin must not be negative");
  const std::int64_t half = std::int64_t(size / 2);
  for (std::size_t i = 0; i < n; ++i)
    if (x(i) < half || y(i) < half || x(i) + half >= std::int64_t(width) || y(i) + half >= std::int64_t(height))
      throw std::invalid_argument("a stamp leaves the plane");
  Rows<double> pixels(n, area);
  Rows<bool> usable(n, area);
  Values<double> level(n), slope(n);
  {
    nb::gil_scoped_release release;
    Cut cut(area);
    Detached apart(size);
    std::vector<std::uint8_t> foreigners(area), set(area);
    std::vector<double> noise(area), room;
    const auto *wanted = reinterpret_cast<const std::uint8_t *>(within.data());
    for (std::size_t i = 0; i < n; ++i) {
      if (i + 1 < n) {
        const Region next{x(i + 1) - half, y(i + 1) - half, x(i + 1) + half, y(i + 1) + half};
        fetch(image.data(), std::ptrdiff_t(width), next);
        fetch(variance.data(), std::ptrdiff_t(width), next);
        fetch(mask.data(), std::ptrdiff_t(width), next);
      }
      for (std::size_t j = 0; j < size; ++j) {
        const std::size_t from = (std::size_t(y(i) - half) + j) * width + std::size_t(x(i) - half), to = j * size;
        std::copy_n(image.data() + from, size, cut.image.data() + to);
        std::copy_n(variance.data() + from, size, cut.variance.data() + to);
        std::copy_n(mask.data() + from, size, cut.mask.data() + to);
      }
      const auto *given = reinterpret_cast<const std::uint8_t *>(foreign.data()) + i * area;
      std::copy_n(given, area, foreigners.data());
      select_detected(cut.mask.data(), given, area, detected, set.data());
      for (std::size_t j = 0; j < size; ++j) std::copy_n(set.data() + j * size, size, apart.row(j));
      apart.find();
      add_grown(apart, std::ptrdiff_t(size), margin, foreigners);
      auto *use = reinterpret_cast<std::uint8_t *>(usable.row(i));
      select_usable(cut.image.data(), cut.variance.data(), cut.mask.data(), wanted, foreigners.data(), area, bad, use);
      take(cut.image.data(), use, area, pixels.row(i));
      take(cut.variance.data(), use, area, noise.data());
      const Line line = variance_line(pixels.row(i), noise.data(), use, area, room);
      level[i] = line.level;
      slope[i] = line.slope;
    }
  }
  return nb::make_tuple(pixels.release(), usable.release(), level.release(), slope.release());
}

} // namespace

void register_star_pixels(nb::module_ &m) {
  m.def("star_pixels", &star_pixels, nb::arg("image"), nb::arg("variance"), nb::arg("mask"), nb::arg("x"), nb::arg("y"), nb::arg("within").noconvert(),
        nb::arg("foreign").noconvert(), nb::arg("bad"), nb::arg("detected"), nb::arg("margin"),
        "Stamps of V x V pixels, V odd, around the pixels (x, y) of stars. Usable are those wanted (within, bool (V, V)) and not foreign (bool (n, V, V)), "
        "finite, of finite positive variance, without a bad bit, and farther than margin from pixels with a detected bit that are neither foreign nor "
        "connected (8 neighbours) with the middle. Returns (n, V V) pixels, 0 where not usable; (n, V V) usable; and the line variance = sky + slope pixel, "
        "slope not negative, fitted to the usable pixels: sky (n) and slope (n), the 0.1 quantile of the variances and 0 where the sky would not be positive, "
        "NaN and 0 without usable pixels.");
}

} // namespace streamchar
