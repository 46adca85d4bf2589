// The extension module: one registration function per kernel file, nothing else.
#include "arrays.hpp"

namespace streamchar {
void register_detect(nb::module_ &m);
void register_grow(nb::module_ &m);
void register_peaks(nb::module_ &m);
void register_lanczos(nb::module_ &m);
void register_psf_model(nb::module_ &m);
void register_sdss_shape(nb::module_ &m);
void register_smooth(nb::module_ &m);
void register_spans(nb::module_ &m);
} // namespace streamchar

NB_MODULE(_kernels, m) {
  m.doc() = "Compiled loops of streamchar: arrays in, arrays out, no policy.";
  streamchar::register_detect(m);
  streamchar::register_grow(m);
  streamchar::register_peaks(m);
  streamchar::register_lanczos(m);
  streamchar::register_psf_model(m);
  streamchar::register_sdss_shape(m);
  streamchar::register_smooth(m);
  streamchar::register_spans(m);
}
