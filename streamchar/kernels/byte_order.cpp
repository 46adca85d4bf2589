// Numbers with their bytes in the other order.
#include "arrays.hpp"
#include <cstring>
#include <stdexcept>

namespace streamchar {
namespace {

using Byte = std::uint8_t;

inline std::uint16_t swapped(std::uint16_t value) { return __builtin_bswap16(value); }
inline std::uint32_t swapped(std::uint32_t value) { return __builtin_bswap32(value); }
inline std::uint64_t swapped(std::uint64_t value) { return __builtin_bswap64(value); }

template <typename Word> inline void swap_words(const Byte *__restrict in, Byte *__restrict out, std::size_t words) {
  for (std::size_t i = 0; i < words; ++i) {
    Word value;
    std::memcpy(&value, in + i * sizeof value, sizeof value);
    value = swapped(value);
    std::memcpy(out + i * sizeof value, &value, sizeof value);
  }
}

STREAMCHAR_MULTIVERSION void swap_twos(const Byte *in, Byte *out, std::size_t words) { swap_words<std::uint16_t>(in, out, words); }
STREAMCHAR_MULTIVERSION void swap_fours(const Byte *in, Byte *out, std::size_t words) { swap_words<std::uint32_t>(in, out, words); }
STREAMCHAR_MULTIVERSION void swap_eights(const Byte *in, Byte *out, std::size_t words) { swap_words<std::uint64_t>(in, out, words); }

void copy_swapped(Vector<const Byte> source, std::int64_t size, Vector<Byte> out) {
  const std::size_t n = source.shape(0);
  if (out.shape(0) != n) throw std::invalid_argument("source and output differ in length");
  if ((size != 1 && size != 2 && size != 4 && size != 8) || n % std::size_t(size) != 0)
    throw std::invalid_argument("numbers have 1, 2, 4 or 8 bytes, all of them");
  nb::gil_scoped_release release;
  if (size == 1) std::memcpy(out.data(), source.data(), n);
  if (size == 2) swap_twos(source.data(), out.data(), n / 2);
  if (size == 4) swap_fours(source.data(), out.data(), n / 4);
  if (size == 8) swap_eights(source.data(), out.data(), n / 8);
}

} // namespace

void register_byte_order(nb::module_ &m) {
  m.def("copy_swapped", &copy_swapped, nb::arg("source"), nb::arg("size"), nb::arg("out").noconvert(),
        "Copy numbers of `size` bytes (1, 2, 4 or 8) from source to out (uint8, of one length, apart from each other) with the bytes of each reversed.");
}

} // namespace streamchar
