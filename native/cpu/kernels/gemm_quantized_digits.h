// The rows of activations of a product with a quantised weight, cut into digits (digits.h), a group of them for each of
// the weight's, as gemm_quantized_int8.h and gemm_quantized_tiles.h read them.
#pragma once
#include "cpu/kernels/digits.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

// The places of the digits of a product's rows in its workspace.
template <int D>
struct Digits {
  const QuantizedLayout& w;
  int64_t rows;
  char* memory;

  int64_t groups() const { return rows * w.groups(); }
  // [rows][groups][D][group]
  int8_t* at(int64_t row, int64_t g) const {
    return reinterpret_cast<int8_t*>(memory) + (row * w.groups() + g) * D * w.group;
  }
  // [rows][groups]
  float* step(int64_t row) const {
    return reinterpret_cast<float*>(memory + groups() * D * w.group) + row * w.groups();
  }
  // [rows][groups][D]: -zero · Σd
  int32_t* begin(int64_t row) const { return reinterpret_cast<int32_t*>(step(0) + groups()) + row * w.groups() * D; }
  static int64_t bytes(const QuantizedLayout& w, int64_t rows) { return rows * w.groups() * (D * w.group + 4 + 4 * D); }
};

// Cuts one group of a row.
template <int bits, int D>
inline void cut_group_of_row(const QuantizedProduct& p, const Digits<D>& digits, int64_t row, int64_t g) {
  const int64_t group = p.weight.group, K = p.weight.K, first = g * group;
  constexpr int kZero = 1 << (bits - 1);
  vi sums[D] = {};
  const int64_t end = row * K + min_of(first + group, K);
  digits.step(row)[g] = cut_group<D>(p.a, row * K + first, end, group, [&](int64_t k, const vi(&cut)[D]) {
    for (int d = 0; d < D; d++) {
      store_digits(digits.at(row, g) + d * group + k, cut[d]);
      sums[d] = sums[d] + cut[d];
    }
  });
  for (int d = 0; d < D; d++) digits.begin(row)[g * D + d] = -kZero * _mm512_reduce_add_epi32((__m512i)sums[d]);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
