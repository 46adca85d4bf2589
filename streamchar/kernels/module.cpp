// The extension module: one registration function per kernel file, nothing else.
#include "arrays.hpp"

namespace streamchar {
void register_sdss_shape(nb::module_ &m);
void register_spans(nb::module_ &m);
} // namespace streamchar

NB_MODULE(_kernels, m) {
  m.doc() = "Compiled loops of streamchar: arrays in, arrays out, no policy.";
  streamchar::register_sdss_shape(m);
  streamchar::register_spans(m);
}
