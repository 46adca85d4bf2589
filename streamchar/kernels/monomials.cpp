// Monomials of two coordinates.
#include "arrays.hpp"
#include "rows.hpp"
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

nb::object monomials(Vector<const double> x, Vector<const double> y, int degree, double x_offset, double y_offset, double x_scale, double y_scale) {
  const std::size_t n = x.shape(0);
  if (y.shape(0) != n) throw std::invalid_argument("x and y differ in length");
  if (degree < 0) throw std::invalid_argument("a degree is not negative");
  const std::size_t powers = std::size_t(degree) + 1;
  Rows<double> values(n, powers * (powers + 1) / 2);
  {
    nb::gil_scoped_release release;
    std::vector<double> along_x(powers, 1.0), along_y(powers, 1.0);
    for (std::size_t star = 0; star < n; ++star) {
      const double u = (x(star) - x_offset) / x_scale, v = (y(star) - y_offset) / y_scale;
      for (std::size_t k = 1; k < powers; ++k) {
        along_x[k] = along_x[k - 1] * u;
        along_y[k] = along_y[k - 1] * v;
      }
      double *value = values.row(star);
      for (std::size_t j = 0; j < powers; ++j)
        for (std::size_t i = 0; i + j < powers; ++i) *value++ = along_x[i] * along_y[j];
    }
  }
  return values.release();
}

} // namespace

void register_monomials(nb::module_ &m) {
  m.def("monomials", &monomials, nb::arg("x"), nb::arg("y"), nb::arg("degree"), nb::arg("x_offset"), nb::arg("y_offset"), nb::arg("x_scale"),
        nb::arg("y_scale"),
        "Products u^i v^j, i + j <= degree, of u = (x - x_offset) / x_scale and v likewise, ordered 1, u, u^2, ..., v, uv, ..., v^2: float64 (n, terms).");
}

} // namespace streamchar
