// Linear fit of a PSF image to the pixels: the flux that minimises the unweighted residuals.
#include "lanes.hpp"
#include "rows.hpp"
#include "scene.hpp"
#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace streamchar {
namespace {

struct Overlap {
  std::int64_t x0, y0, x1, y1; // of the stamp on the image, inclusive
};

struct Fit {
  double model = 0, square = 0, product = 0, variance = 0, chi2 = 0;
  std::int64_t pixels = 0;
};

// One row of model and pixels.
struct Row {
  const double *model;
  const float *data, *variance;
  std::int64_t length, pixels; // pixels: those that count
};

// Copies in which unusable pixels carry no model and no data.
struct Masked {
  std::vector<double> model;
  std::vector<float> data, variance;
};

Row without(const Row &row, const std::int32_t *mask, std::int32_t bad, Masked &copy) {
  copy.model.assign(row.model, row.model + row.length);
  copy.data.assign(row.data, row.data + row.length);
  copy.variance.assign(row.variance, row.variance + row.length);
  std::int64_t pixels = row.length;
  for (std::size_t i = 0; i < std::size_t(row.length); ++i)
    if (mask[i] & bad) {
      copy.model[i] = 0.0;
      copy.data[i] = 0.0f;
      copy.variance[i] = 1.0f;
      --pixels;
    }
  return {copy.model.data(), copy.data.data(), copy.variance.data(), row.length, pixels};
}

STREAMCHAR_MULTIVERSION void add_row(const Row &row, Fit &fit) {
  Four model{0, 0, 0, 0}, square = model, product = model, variance = model;
  std::int64_t i = 0;
  for (; i + 4 <= row.length; i += 4) {
    Four m, d, v;
    load(row.model + i, m);
    load(row.data + i, d);
    load(row.variance + i, v);
    const Four m2 = m * m;
    model += m;
    product += m * d;
    square += m2;
    variance += m2 * v;
  }
  fit.model += sum(model);
  fit.square += sum(square);
  fit.product += sum(product);
  fit.variance += sum(variance);
  for (; i < row.length; ++i) {
    const double m = row.model[i];
    fit.model += m;
    fit.square += m * m;
    fit.product += m * double(row.data[i]);
    fit.variance += m * m * double(row.variance[i]);
  }
  fit.pixels += row.pixels;
}

STREAMCHAR_MULTIVERSION double chi2_of_row(const Row &row, double flux) {
  Four total{0, 0, 0, 0};
  std::int64_t i = 0;
  for (; i + 4 <= row.length; i += 4) {
    Four m, d, v;
    load(row.model + i, m);
    load(row.data + i, d);
    load(row.variance + i, v);
    const Four residual = d - m * flux;
    total += residual * residual / v;
  }
  double chi2 = sum(total);
  for (; i < row.length; ++i) {
    const double residual = double(row.data[i]) - row.model[i] * flux;
    chi2 += residual * residual / double(row.variance[i]);
  }
  return chi2;
}

nb::tuple psf_flux(Scene &scene, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t bad, Cube<const double> stamps,
                   Vector<const std::int64_t> x0, Vector<const std::int64_t> y0) {
  const std::size_t n = stamps.shape(0);
  if (x0.shape(0) != n || y0.shape(0) != n) throw std::invalid_argument("stamps and their origins differ in length");
  scene.require_sources(n);
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width() || mask.shape(0) != scene.height() || mask.shape(1) != scene.width())
    throw std::invalid_argument("the planes differ in shape");
  Rows<double> out(n, 4);
  Values<std::int32_t> pixels(n);
  Values<bool> clipped(n);
  {
    nb::gil_scoped_release release;
    const std::int64_t height = std::int64_t(stamps.shape(1)), width = std::int64_t(stamps.shape(2));
    Masked copy;
    for (std::size_t i = 0; i < n; ++i) {
      const Shown shown(scene, i);
      const Overlap o{std::max<std::int64_t>(-x0(i), 0), std::max<std::int64_t>(-y0(i), 0),
                      std::min(width, std::int64_t(scene.width()) - x0(i)) - 1, std::min(height, std::int64_t(scene.height()) - y0(i)) - 1};
      clipped[i] = o.x0 > 0 || o.y0 > 0 || o.x1 < width - 1 || o.y1 < height - 1;
      const double *stamp = stamps.data() + i * std::size_t(width * height);
      const auto each_row = [&](auto &&use) {
        if (o.x1 < o.x0) return;
        const std::int64_t length = o.x1 - o.x0 + 1;
        for (std::int64_t r = o.y0; r <= o.y1; ++r) {
          const std::size_t y = std::size_t(y0(i) + r), offset = y * scene.width() + std::size_t(x0(i) + o.x0);
          const Row row{stamp + r * width + o.x0, scene.image().data() + offset, variance.data() + offset, length, length};
          use(bad ? without(row, mask.data() + offset, bad, copy) : row);
        }
      };
      Fit fit;
      each_row([&](const Row &row) { add_row(row, fit); });
      const double flux = fit.product / fit.square;
      each_row([&](const Row &row) { fit.chi2 += chi2_of_row(row, flux); });
      if (fit.pixels == 0) fit.chi2 = std::nan("");
      const double values[4] = {flux, std::sqrt(fit.variance) / fit.square, fit.model * fit.model / fit.square, fit.chi2};
      std::copy(values, values + 4, out.row(i));
      pixels[i] = std::int32_t(fit.pixels);
    }
  }
  return nb::make_tuple(out.release(), pixels.release(), clipped.release());
}

} // namespace

void register_psf_flux(nb::module_ &m) {
  m.def("psf_flux", &psf_flux, nb::arg("scene"), nb::arg("variance"), nb::arg("mask"), nb::arg("bad"), nb::arg("stamps"), nb::arg("x0"),
        nb::arg("y0"),
        "Fit the amplitude of each stamp (float64 (n, h, w), its first pixel at (x0, y0) of the image) without weights; pixels with a bad bit "
        "are left out. Returns ((n, 4) flux, error, effective area, chi2; (n,) pixels; "
        "(n,) clipped by the image); NaN where no pixel is left.");
}

} // namespace streamchar
