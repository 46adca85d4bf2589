// Lanczos resampling of many stamps onto regular grids.
#include "arrays.hpp"
#include "lanczos_taps.hpp"
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

auto lanczos_resample(Cube<const double> images, Vector<const double> x, Vector<const double> y, double step, std::size_t size,
                      int order) {
  const std::size_t n = images.shape(0), height = images.shape(1), width = images.shape(2);
  if (x.shape(0) != n || y.shape(0) != n) throw std::invalid_argument("images, x and y differ in length");
  if (size < 1 || order < 1 || order > MAX_ORDER || !(step > 0)) throw std::invalid_argument("size, order and step must be positive");
  auto out = unset<double>(n * size * size);
  {
    nb::gil_scoped_release release;
    Taps<double> columns(size, order), rows(size, order);
    std::vector<double> a(std::max(size * width, size * size)), b(size * width);
    for (std::size_t i = 0; i < n; ++i) {
      columns.fill(x(i), step, std::int64_t(width));
      rows.fill(y(i), step, std::int64_t(height));
      interpolate_rows(rows, images.data() + i * height * width, height, width, a.data());
      transpose(a.data(), width, size, width, b.data(), size);
      interpolate_rows(columns, b.data(), width, size, a.data());
      transpose(a.data(), size, size, size, out.get() + i * size * size, size);
    }
  }
  return to_numpy(std::move(out), n, size, size);
}

} // namespace

void register_lanczos(nb::module_ &m) {
  m.def("lanczos_resample", &lanczos_resample, nb::arg("images").noconvert(), nb::arg("x"), nb::arg("y"), nb::arg("step"),
        nb::arg("size"), nb::arg("order"),
        "Sample images (n, h, w) at size x size positions x[i] + k step, y[i] + j step (in their pixels) by separable Lanczos "
        "interpolation of the given order; weights are truncated at the edges and normalised, positions outside give 0.");
}

} // namespace streamchar
