// Weights of the pixels of stars, given a model of their light.
#include "arrays.hpp"
#include <cstdint>
#include <stdexcept>

namespace streamchar {
namespace {

struct Noise {
  double flux, sky, slope, accuracy;
};

STREAMCHAR_MULTIVERSION void weigh(const double *model, const std::uint8_t *usable, std::size_t n, Noise noise, double *__restrict out) {
  for (std::size_t i = 0; i < n; ++i) {
    const double flux = noise.flux * model[i], light = flux < 0.0 ? 0.0 : flux, error = light * noise.accuracy;
    const double weight = 1.0 / (light * noise.slope + noise.sky + error * error);
    out[i] = usable[i] ? weight : 0.0;
  }
}

auto inverse_variance(Cube<const double> model, Cube<const bool> usable, Vector<const double> flux, Vector<const double> sky, Vector<const double> slope,
                      double accuracy) {
  const std::size_t n = model.shape(0), height = model.shape(1), width = model.shape(2), area = height * width;
  if (usable.shape(0) != n || usable.shape(1) != height || usable.shape(2) != width) throw std::invalid_argument("model and usable differ in shape");
  if (flux.shape(0) != n || sky.shape(0) != n || slope.shape(0) != n) throw std::invalid_argument("stamps and their noise differ in length");
  auto out = unset<double>(n * area);
  {
    nb::gil_scoped_release release;
    const auto *flags = reinterpret_cast<const std::uint8_t *>(usable.data());
    for (std::size_t i = 0; i < n; ++i)
      weigh(model.data() + i * area, flags + i * area, area, {flux(i), sky(i), slope(i), accuracy}, out.get() + i * area);
  }
  return to_numpy(std::move(out), n, height, width);
}

} // namespace

void register_inverse_variance(nb::module_ &m) {
  m.def("inverse_variance", &inverse_variance, nb::arg("model").noconvert(), nb::arg("usable").noconvert(), nb::arg("flux"), nb::arg("sky"), nb::arg("slope"),
        nb::arg("accuracy"),
        "One over the variance sky + slope L + (accuracy L)^2 of the pixels of n stars, L being flux times their model (n, h, w) or zero where that is less; "
        "0 where a pixel is not usable.");
}

} // namespace streamchar
