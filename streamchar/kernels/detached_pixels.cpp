// Pixels of stamps that are not connected with their middle.
#include "arrays.hpp"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace streamchar {
namespace {

auto detached_pixels(Cube<const bool> stamps) {
  const std::size_t n = stamps.shape(0), size = stamps.shape(1), pitch = size + 2;
  if (stamps.shape(2) != size || size % 2 == 0) throw std::invalid_argument("stamps must be square, of odd width");
  bool *out = new bool[n * size * size];
  nb::capsule owner(out, [](void *p) noexcept { delete[] static_cast<bool *>(p); });
  {
    nb::gil_scoped_release release;
    std::vector<std::uint8_t> framed(pitch * pitch, 0);
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < n; ++i) {
      const bool *stamp = stamps.data() + i * size * size;
      for (std::size_t row = 0; row < size; ++row) std::copy_n(stamp + row * size, size, framed.begin() + std::ptrdiff_t((row + 1) * pitch + 1));
      // What is reached from the middle goes; what is left stands alone.
      open.assign(1, pitch * pitch / 2);
      framed[open.front()] = 0;
      while (!open.empty()) {
        const std::size_t here = open.back();
        open.pop_back();
        for (const std::size_t row : {here - pitch, here, here + pitch})
          for (std::size_t next = row - 1; next <= row + 1; ++next)
            if (framed[next]) {
              framed[next] = 0;
              open.push_back(next);
            }
      }
      for (std::size_t row = 0; row < size; ++row)
        std::copy_n(framed.begin() + std::ptrdiff_t((row + 1) * pitch + 1), size, out + (i * size + row) * size);
    }
  }
  return nb::ndarray<nb::numpy, bool, nb::ndim<3>>(out, {n, size, size}, owner);
}

} // namespace

void register_detached_pixels(nb::module_ &m) {
  m.def("detached_pixels", &detached_pixels, nb::arg("stamps").noconvert(),
        "Pixels of stamps, bool (n, V, V) with V odd, that are set but not connected (8 neighbours) with the middle one, be that set or not.");
}

} // namespace streamchar
