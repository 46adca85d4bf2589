// Sums under the band-limited (sinc) weights of a circle, shifted to each source's centre.
#include "fetch.hpp"
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

constexpr int ORDER = 5, TAPS = 2 * ORDER;
constexpr std::int32_t TRUNCATED_WEIGHTS = 1, TRUNCATED_APERTURE = 2;

struct Kernel {
  float taps[TAPS];
  std::ptrdiff_t centre; // tap that is at the output pixel itself
};

// sin(pi k / ORDER) and cos(pi k / ORDER), |k| <= ORDER.
struct Turns {
  double sine[2 * ORDER + 1], cosine[2 * ORDER + 1];
  Turns() {
    for (int k = -ORDER; k <= ORDER; ++k) {
      sine[k + ORDER] = std::sin(M_PI * k / ORDER);
      cosine[k + ORDER] = std::cos(M_PI * k / ORDER);
    }
  }
};

// Lanczos taps at the distances k + offset, of unit sum. As k is whole, sin(pi (k + f)) = (-1)^k sin(pi f), and the sine of a fifth of
// that follows from those of its parts.
Kernel shift_kernel(const Turns &turns, double offset) {
  Kernel kernel{};
  kernel.centre = offset > 0 ? ORDER : ORDER - 1;
  const double whole = std::sin(M_PI * offset), sine = std::sin(M_PI * offset / ORDER), cosine = std::cos(M_PI * offset / ORDER);
  double taps[TAPS], total = 0.0;
  for (int p = 0; p < TAPS; ++p) {
    const int k = p - int(kernel.centre);
    const double u = double(k) + offset, z = M_PI * u, slow = sine * turns.cosine[k + ORDER] + cosine * turns.sine[k + ORDER];
    taps[p] = std::abs(u) < 1e-8 ? 1.0 : (k % 2 ? -whole : whole) * slow * ORDER / (z * z);
    total += taps[p];
  }
  for (int p = 0; p < TAPS; ++p) kernel.taps[p] = float(taps[p] / total);
  return kernel;
}

// Ten taps on consecutive values (or rows): a plain sum the compiler turns into vectors over the output.
STREAMCHAR_INLINE void convolve(const float *__restrict in, std::ptrdiff_t step, const float *__restrict taps, std::ptrdiff_t n,
                                float *__restrict out) {
  const float t0 = taps[0], t1 = taps[1], t2 = taps[2], t3 = taps[3], t4 = taps[4], t5 = taps[5], t6 = taps[6], t7 = taps[7],
              t8 = taps[8], t9 = taps[9];
  static_assert(TAPS == 10, "one local for each tap");
  for (std::ptrdiff_t i = 0; i < n; ++i)
    out[i] = ((t0 * in[i] + t1 * in[i + step]) + (t2 * in[i + 2 * step] + t3 * in[i + 3 * step])) +
             (((t4 * in[i + 4 * step] + t5 * in[i + 5 * step]) + (t6 * in[i + 6 * step] + t7 * in[i + 7 * step])) +
              (t8 * in[i + 8 * step] + t9 * in[i + 9 * step]));
}

// out(n) = sum_p taps[p] in(n + p - centre) where the taps fit along both axes, in(n) elsewhere.
STREAMCHAR_MULTIVERSION void shift(const float *in, std::ptrdiff_t size, const Kernel &kx, const Kernel &ky, float *rows, float *out) {
  const std::ptrdiff_t inner = size - TAPS + 1;
  std::copy(in, in + size * size, out);
  for (std::ptrdiff_t r = 0; inner > 0 && r < size; ++r) convolve(in + r * size, 1, kx.taps, inner, rows + r * inner);
  for (std::ptrdiff_t r = 0; r < inner; ++r)
    convolve(rows + r * inner, inner, ky.taps, inner, out + (r + ky.centre) * size + kx.centre);
}

struct Sums {
  double flux, variance;
};

struct Accumulator {
  Four flux{0, 0, 0, 0}, noise{0, 0, 0, 0};
  STREAMCHAR_INLINE void add(const float *w, const float *d, const float *v) {
    Four weight, data, square;
    load(w, weight);
    load(d, data);
    load(v, square);
    flux += weight * data;
    noise += weight * weight * square;
  }
  STREAMCHAR_INLINE void add(const float *w, const float *d, const float *v, const FourMasks &inside) {
    Four weight, data, square;
    load(w, weight);
    load(d, data);
    load(v, square);
    keep(inside, weight);
    keep(inside, data);
    keep(inside, square);
    flux += weight * data;
    noise += weight * weight * square;
  }
};

// Two chains of sums over each row: one alone would wait for its own additions.
STREAMCHAR_MULTIVERSION Sums weighted(const float *weights, std::ptrdiff_t size, const float *image, const float *variance,
                                      std::ptrdiff_t stride, std::ptrdiff_t width, std::ptrdiff_t height) {
  Accumulator even, odd, tail;
  for (std::ptrdiff_t r = 0; r < height; ++r) {
    const float *w = weights + r * size, *d = image + r * stride, *v = variance + r * stride;
    std::ptrdiff_t c = 0;
    for (; c + 8 <= width; c += 8) {
      even.add(w + c, d + c, v + c);
      odd.add(w + c + 4, d + c + 4, v + c + 4);
    }
    if (c + 4 <= width) {
      even.add(w + c, d + c, v + c);
      c += 4;
    }
    if (c == width) continue;
    const FourMasks inside = FourMasks(FourMasks{0, 1, 2, 3} < (long long)(width - c));
    if (r + 1 < height) { // what follows is the next row's
      tail.add(w + c, d + c, v + c, inside);
    } else {
      float last[3][4] = {{0}};
      for (std::ptrdiff_t k = 0; c + k < width; ++k) {
        last[0][k] = w[c + k];
        last[1][k] = d[c + k];
        last[2][k] = v[c + k];
      }
      tail.add(last[0], last[1], last[2], inside);
    }
  }
  const Four flux = even.flux + odd.flux + tail.flux, noise = even.noise + odd.noise + tail.noise;
  return {sum(flux), sum(noise)};
}

nb::tuple sinc_aperture(Scene &scene, Plane<const float> variance, Vector<const double> x, Vector<const double> y,
                        Plane<const float> coefficients, double radius) {
  const std::size_t n = x.shape(0);
  scene.require_sources(n);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width()) throw std::invalid_argument("variance and image differ in shape");
  if (coefficients.shape(0) != coefficients.shape(1) || coefficients.shape(0) % 2 == 0) throw std::invalid_argument("coefficients must be square with odd sides");
  Rows<double> out(n, 2);
  Values<std::int32_t> flags(n);
  {
    nb::gil_scoped_release release;
    const std::ptrdiff_t size = std::ptrdiff_t(coefficients.shape(0)), half = size / 2;
    const std::ptrdiff_t image_width = std::ptrdiff_t(scene.width()), image_height = std::ptrdiff_t(scene.height());
    const Turns turns;
    std::vector<float> shifted(std::size_t(size * size)), rows(std::size_t(size * size));
    for (std::size_t i = 0; i < n; ++i) {
      out.row(i)[0] = out.row(i)[1] = std::nan("");
      const double xf = double(float(x(i))), yf = double(float(y(i)));
      // Far outside (or NaN) nothing overlaps, and the integer conversion below would overflow.
      if (!(std::abs(xf) < 1e9 && std::abs(yf) < 1e9)) {
        flags[i] = TRUNCATED_WEIGHTS | TRUNCATED_APERTURE;
        continue;
      }
      const double column = std::floor(xf + 0.5), row = std::floor(yf + 0.5);
      const Region all{std::ptrdiff_t(column) - half, std::ptrdiff_t(row) - half, std::ptrdiff_t(column) + half, std::ptrdiff_t(row) + half};
      const Region kept = all.within(image_width, image_height);
      if (kept.x0 != all.x0 || kept.y0 != all.y0 || kept.x1 != all.x1 || kept.y1 != all.y1) flags[i] = TRUNCATED_WEIGHTS;
      if (std::ceil(x(i) - radius - 0.5) < double(kept.x0) || std::ceil(y(i) - radius - 0.5) < double(kept.y0) ||
          std::floor(x(i) + radius + 0.5) > double(kept.x1) || std::floor(y(i) + radius + 0.5) > double(kept.y1)) {
        flags[i] |= TRUNCATED_APERTURE;
        continue;
      }
      if (i + 1 < n && std::abs(x(i + 1)) < 1e9 && std::abs(y(i + 1)) < 1e9) {
        const std::ptrdiff_t cx = std::ptrdiff_t(x(i + 1)), cy = std::ptrdiff_t(y(i + 1));
        const Region next = Region{cx - half, cy - half, cx + half, cy + half}.within(image_width, image_height);
        fetch(scene.image().data(), image_width, next);
        fetch(variance.data(), image_width, next);
      }
      const Shown shown(scene, i);
      shift(coefficients.data(), size, shift_kernel(turns, xf - column), shift_kernel(turns, yf - row), rows.data(), shifted.data());
      const std::size_t offset = std::size_t(kept.y0 * image_width + kept.x0);
      const Sums sums = weighted(shifted.data() + (kept.y0 - all.y0) * size + (kept.x0 - all.x0), size, scene.image().data() + offset,
                                 variance.data() + offset, image_width, kept.x1 - kept.x0 + 1, kept.y1 - kept.y0 + 1);
      out.row(i)[0] = sums.flux;
      out.row(i)[1] = sums.variance;
    }
  }
  return nb::make_tuple(out.release(), flags.release());
}

} // namespace

void register_sinc_apertures(nb::module_ &m) {
  m.def("sinc_aperture", &sinc_aperture, nb::arg("scene"), nb::arg("variance"), nb::arg("x"), nb::arg("y"), nb::arg("coefficients"), nb::arg("radius"),
        "Weigh the pixels with coefficients (float32, square, odd) shifted by Lanczos-5 to each (x, y). Returns ((n, 2) flux, variance of the "
        "flux; (n,) bits: 1 the coefficients stick out of the image, 2 the circle of radius does too and the row is NaN).");
}

} // namespace streamchar
