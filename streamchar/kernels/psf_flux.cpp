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

// Copies of one row in double precision; unusable pixels carry no model and no data. Padded to whole vectors with zeros.
struct RowBuffers {
  std::vector<double> model, data, variance;
  std::int64_t pixels = 0;
  void resize(std::size_t n) {
    const std::size_t padded = (n + 3) / 4 * 4;
    model.assign(padded, 0.0);
    data.assign(padded, 0.0);
    variance.assign(padded, 1.0);
  }
};

void fill(RowBuffers &row, std::int64_t n, const double *model, const float *data, const float *variance, const std::int32_t *mask,
          std::int32_t bad) {
  for (std::int64_t i = 0; i < n; ++i) {
    row.model[std::size_t(i)] = model[i];
    row.data[std::size_t(i)] = double(data[i]);
    row.variance[std::size_t(i)] = double(variance[i]);
  }
  row.pixels = n;
  if (!bad) return;
  for (std::int64_t i = 0; i < n; ++i)
    if (mask[i] & bad) {
      row.model[std::size_t(i)] = row.data[std::size_t(i)] = 0.0;
      row.variance[std::size_t(i)] = 1.0;
      --row.pixels;
    }
}

STREAMCHAR_MULTIVERSION void add_row(const RowBuffers &row, Fit &fit) {
  Four model{0, 0, 0, 0}, square = model, product = model, variance = model;
  for (std::size_t i = 0; i < row.model.size(); i += 4) {
    Four m, d, v;
    load(row.model.data() + i, m);
    load(row.data.data() + i, d);
    load(row.variance.data() + i, v);
    model += m;
    product += m * d;
    square += m * m;
    variance += m * m * v;
  }
  fit.model += sum(model);
  fit.square += sum(square);
  fit.product += sum(product);
  fit.variance += sum(variance);
  fit.pixels += row.pixels;
}

STREAMCHAR_MULTIVERSION double chi2_of_row(const RowBuffers &row, double flux) {
  Four total{0, 0, 0, 0};
  for (std::size_t i = 0; i < row.model.size(); i += 4) {
    Four m, d, v;
    load(row.model.data() + i, m);
    load(row.data.data() + i, d);
    load(row.variance.data() + i, v);
    const Four residual = d - m * flux;
    total += residual * residual / v;
  }
  return sum(total);
}

nb::tuple psf_flux(Scene &scene, Plane<const float> variance, Plane<const std::int32_t> mask, std::int32_t bad, Cube<const double> stamps,
                   Vector<const std::int64_t> x0, Vector<const std::int64_t> y0, std::size_t first) {
  const std::size_t n = stamps.shape(0);
  if (x0.shape(0) != n || y0.shape(0) != n) throw std::invalid_argument("stamps and their origins differ in length");
  if (scene.footprints() != 0 && first + n > scene.footprints()) throw std::invalid_argument("more stamps than footprints in the scene");
  if (variance.shape(0) != scene.height() || variance.shape(1) != scene.width() || mask.shape(0) != scene.height() || mask.shape(1) != scene.width())
    throw std::invalid_argument("the planes differ in shape");
  Rows<double> out(n, 4);
  Values<std::int32_t> pixels(n);
  Values<bool> clipped(n);
  {
    nb::gil_scoped_release release;
    const std::int64_t height = std::int64_t(stamps.shape(1)), width = std::int64_t(stamps.shape(2));
    RowBuffers row;
    for (std::size_t i = 0; i < n; ++i) {
      const Shown shown(scene, first + i);
      const Overlap o{std::max<std::int64_t>(-x0(i), 0), std::max<std::int64_t>(-y0(i), 0),
                      std::min(width, std::int64_t(scene.width()) - x0(i)) - 1, std::min(height, std::int64_t(scene.height()) - y0(i)) - 1};
      clipped[i] = o.x0 > 0 || o.y0 > 0 || o.x1 < width - 1 || o.y1 < height - 1;
      const double *stamp = stamps.data() + i * std::size_t(width * height);
      const auto each_row = [&](auto &&use) {
        if (o.x1 < o.x0) return;
        row.resize(std::size_t(o.x1 - o.x0 + 1));
        for (std::int64_t r = o.y0; r <= o.y1; ++r) {
          const std::size_t y = std::size_t(y0(i) + r), offset = y * scene.width() + std::size_t(x0(i) + o.x0);
          fill(row, o.x1 - o.x0 + 1, stamp + r * width + o.x0, scene.image().data() + offset, variance.data() + offset, mask.data() + offset, bad);
          use();
        }
      };
      Fit fit;
      each_row([&] { add_row(row, fit); });
      const double flux = fit.product / fit.square;
      each_row([&] { fit.chi2 += chi2_of_row(row, flux); });
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
        nb::arg("y0"), nb::arg("first") = 0,
        "Fit the amplitude of each stamp (float64 (n, h, w), its first pixel at (x0, y0) of the image) without weights; pixels with a bad bit "
        "are left out. Stamp i belongs to footprint first + i of the scene. Returns ((n, 4) flux, error, effective area, chi2; (n,) pixels; "
        "(n,) clipped by the image); NaN where no pixel is left.");
}

} // namespace streamchar
