// The extension module: one registration function per kernel file, nothing else.
#include "arrays.hpp"

namespace streamchar {
// Each kernel file defines register_<file>(module); declare and call it here.
} // namespace streamchar

NB_MODULE(_kernels, m) {
  m.doc() = "Compiled loops of streamchar: arrays in, arrays out, no policy.";
}
