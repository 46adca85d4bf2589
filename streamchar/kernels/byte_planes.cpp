// Bytes of equal significance side by side, and back: what makes columns of numbers compressible.
#include "arrays.hpp"
#include <cstring>
#include <stdexcept>

namespace streamchar {
namespace {

using Byte = std::uint8_t;
constexpr std::size_t HIGH = 2;
constexpr std::size_t LANES = 16;

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define STREAMCHAR_INTERLEAVE
#endif
#endif

#ifdef STREAMCHAR_INTERLEAVE
typedef Byte Lanes __attribute__((vector_size(LANES)));

// Interleaves the bytes of the first K/2 vectors with those of the others: the index of each byte among the 16 K is
// rotated left by one bit. So many times make the transposition of 16 x K bytes, or of K x 16.
template <int K> inline void interleave(Lanes *x) {
  Lanes y[K];
  for (int i = 0; i < K / 2; ++i) {
    const Lanes a = x[i], b = x[i + K / 2];
    y[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    y[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
  for (int i = 0; i < K; ++i) x[i] = y[i];
}

// Both return how many elements they dealt with: a multiple of 16.
template <int K> std::size_t split_blocks(const Byte *in, Byte *low, Byte *high, std::size_t n) {
  const std::size_t whole = n - n % LANES;
  for (std::size_t i = 0; i < whole; i += LANES) {
    Lanes x[K];
    std::memcpy(x, in + K * i, sizeof(x));
    for (int stage = 0; stage < 4; ++stage) interleave<K>(x);
    for (std::size_t p = 0; p < K - HIGH; ++p) std::memcpy(low + p * n + i, x + p, LANES);
    for (std::size_t p = 0; p < HIGH; ++p) std::memcpy(high + p * n + i, x + K - HIGH + p, LANES);
  }
  return whole;
}

template <int K> std::size_t join_blocks(const Byte *low, const Byte *high, Byte *out, std::size_t n) {
  const std::size_t whole = n - n % LANES;
  for (std::size_t i = 0; i < whole; i += LANES) {
    Lanes x[K];
    for (std::size_t p = 0; p < K - HIGH; ++p) std::memcpy(x + p, low + p * n + i, LANES);
    for (std::size_t p = 0; p < HIGH; ++p) std::memcpy(x + K - HIGH + p, high + p * n + i, LANES);
    for (int stage = 1; stage < K; stage *= 2) interleave<K>(x);
    std::memcpy(out + K * i, x, sizeof(x));
  }
  return whole;
}
#else
template <int K> std::size_t split_blocks(const Byte *, Byte *, Byte *, std::size_t) { return 0; }
template <int K> std::size_t join_blocks(const Byte *, const Byte *, Byte *, std::size_t) { return 0; }
#endif

void split(const Byte *in, Byte *low, Byte *high, std::size_t n, std::size_t k) {
  const std::size_t below = k - HIGH;
  std::size_t first = k == 8 ? split_blocks<8>(in, low, high, n) : k == 4 ? split_blocks<4>(in, low, high, n) : 0;
  for (; first < n; ++first) {
    for (std::size_t p = 0; p < below; ++p) low[p * n + first] = in[k * first + p];
    for (std::size_t p = 0; p < HIGH; ++p) high[p * n + first] = in[k * first + below + p];
  }
}

void join(const Byte *low, const Byte *high, Byte *out, std::size_t n, std::size_t k) {
  const std::size_t below = k - HIGH;
  std::size_t first = k == 8 ? join_blocks<8>(low, high, out, n) : k == 4 ? join_blocks<4>(low, high, out, n) : 0;
  for (; first < n; ++first) {
    for (std::size_t p = 0; p < below; ++p) out[k * first + p] = low[p * n + first];
    for (std::size_t p = 0; p < HIGH; ++p) out[k * first + below + p] = high[p * n + first];
  }
}

nb::bytes make_bytes(std::size_t size) {
  PyObject *made = PyBytes_FromStringAndSize(nullptr, Py_ssize_t(size));
  if (!made) throw nb::python_error();
  return nb::steal<nb::bytes>(made);
}

Byte *content(const nb::bytes &made) { return reinterpret_cast<Byte *>(PyBytes_AS_STRING(made.ptr())); }

nb::tuple split_bytes(Plane<const Byte> elements) {
  const std::size_t n = elements.shape(0), k = elements.shape(1);
  if (k < HIGH) throw std::invalid_argument("elements of at least two bytes are needed");
  nb::bytes low = make_bytes(n * (k - HIGH)), high = make_bytes(n * HIGH);
  Byte *to_low = content(low), *to_high = content(high);
  {
    nb::gil_scoped_release release;
    split(elements.data(), to_low, to_high, n, k);
  }
  return nb::make_tuple(low, high);
}

void join_bytes(Vector<const Byte> low, Vector<const Byte> high, Plane<Byte> out) {
  const std::size_t n = out.shape(0), k = out.shape(1);
  if (k < HIGH || low.shape(0) != n * (k - HIGH) || high.shape(0) != n * HIGH)
    throw std::invalid_argument("the planes do not make the elements");
  nb::gil_scoped_release release;
  join(low.data(), high.data(), out.data(), n, k);
}

} // namespace

void register_byte_planes(nb::module_ &m) {
  m.def("split_bytes", &split_bytes, nb::arg("elements"),
        "Transpose elements, uint8 (n, k), k >= 2: bytes of the first k - 2 planes (the first byte of all elements, then\n"
        "the second one, ...), and bytes of the last two.");
  m.def("join_bytes", &join_bytes, nb::arg("low"), nb::arg("high"), nb::arg("out").noconvert(),
        "Write into out, uint8 (n, k), the elements whose first k - 2 byte planes are low, uint8 (n (k - 2)), and\n"
        "whose last two are high, uint8 (2 n): the reverse of split_bytes.");
}

} // namespace streamchar
