// The columns of a tile of a product with a weight in blocks, step by step, and the scales of a step with the columns
// in the lanes of vectors.
#pragma once
#include "cpu/kernels/block_codes.h"
#include "cpu/kernels/gemm_blocks.h"
#include "cpu/kernels/transpose.h"

#if defined(__AVX2__)

namespace heed::cpu::HEED_ISA {
namespace {

// Goes through the steps of the columns of a tile.
template <int64_t kColumns>
struct TileSteps {
  const BlockLayout& weight;
  const uint8_t* columns[kColumns];  // the blocks of the current step
  int64_t left;                      // numbers of a column from it on
  const uint8_t* next;               // bytes of a later tile, which are prefetched meanwhile
  uint8_t padded[kColumns][8 * 34];

  TileSteps(const BlockProduct& p, int64_t column, int64_t ahead)
      : weight(p.weight), left(p.weight.K), next(column_at(p, column) + ahead) {
    for (int64_t c = 0; c < kColumns; c++) columns[c] = column_at(p, column + c);
    if (left < kBlockDepth) pad();
  }
  // Prefetches as many bytes as the current step has, in the order in which they lie in memory.
  HEED_IN_LOOP void prefetch_later_tile(int64_t bytes) {
    prefetch(next, kColumns * bytes);
    next += kColumns * bytes;
  }
  // Goes to the next step. The current one has `bytes`.
  HEED_IN_LOOP void go_on(int64_t bytes) {
#pragma GCC unroll 16
    for (int64_t c = 0; c < kColumns; c++) columns[c] += bytes;
    left -= kBlockDepth;
    if (left < kBlockDepth) pad();
  }

 private:
  // If K ends within a step, zeros stand for the blocks that are missing.
  __attribute__((noinline)) void pad() {
    if (left <= 0) return;
    const size_t bytes = static_cast<size_t>(weight.at(left));
    std::memset(padded, 0, sizeof padded);
    for (int64_t c = 0; c < kColumns; c++) {
      std::memcpy(padded[c], columns[c], bytes);
      columns[c] = padded[c];
    }
  }
};

#if defined(__AVX512F__)

// to[j] = element j of each column's vector, for the first n elements, 8 or 16.
template <int n>
HEED_IN_LOOP void transpose_parts(const __m512 (&columns)[16], float (*to)[16]) {
  vf x[16];
  if constexpr (n == 16) {
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) x[c] = (vf)columns[c];
    transpose(x);
  } else {
    vf y[8];  // two columns in a vector
#pragma GCC unroll 8
    for (int c = 0; c < 8; c++) x[c] = (vf)_mm512_insertf32x8(columns[c], _mm512_castps512_ps256(columns[c + 8]), 1);
    const __m512i low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      // Columns i and i + 4 change places with parts 4 to 7.
      y[i] = (vf)_mm512_permutex2var_pd((__m512d)x[i], low, (__m512d)x[i + 4]);
      y[i + 4] = (vf)_mm512_permutex2var_pd((__m512d)x[i], high, (__m512d)x[i + 4]);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 8; half += 4) {
      const __m512 a = (__m512)y[half], b = (__m512)y[half + 1], c = (__m512)y[half + 2], d = (__m512)y[half + 3];
      const __m512d ab = (__m512d)_mm512_unpacklo_ps(a, b), ab2 = (__m512d)_mm512_unpackhi_ps(a, b);
      const __m512d cd = (__m512d)_mm512_unpacklo_ps(c, d), cd2 = (__m512d)_mm512_unpackhi_ps(c, d);
      x[half] = (vf)_mm512_unpacklo_pd(ab, cd);
      x[half + 1] = (vf)_mm512_unpackhi_pd(ab, cd);
      x[half + 2] = (vf)_mm512_unpacklo_pd(ab2, cd2);
      x[half + 3] = (vf)_mm512_unpackhi_pd(ab2, cd2);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < n; j++) _mm512_store_ps(to[j], (__m512)x[j]);
}

template <class Format>
HEED_IN_LOOP void read_scales(const uint8_t* const* columns, PanelScales& to) {
  if constexpr (Format::kPacked) {
    Format::read_scales(columns, to);
  } else {
    constexpr int kParts = kBlockDepth / Format::kPart;
    __m512 scales[16], minima[16];
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) {
      const StepScales some = Format::scales(columns[c]);
      scales[c] = (__m512)some.scales[0];
      minima[c] = (__m512)some.minima[0];
    }
    transpose_parts<kParts>(scales, to.scales);
    if constexpr (Format::kMinima) transpose_parts<kParts>(minima, to.minima);
  }
}

#else

HEED_IN_LOOP void transpose_parts(vf (&columns)[kWidth], float (*to)[kWidth]) {
  transpose(columns);
#pragma GCC unroll 8
  for (int j = 0; j < kWidth; j++) store(to[j], columns[j]);
}

template <class Format>
HEED_IN_LOOP void read_scales(const uint8_t* const* columns, PanelScales& to) {
  if constexpr (Format::kPacked) {
    Format::read_scales(columns, to);
  } else {
    constexpr int kVectors = kBlockDepth / Format::kPart / kWidth;
    vf scales[kVectors][kWidth], minima[kVectors][kWidth];
#pragma GCC unroll 8
    for (int c = 0; c < kWidth; c++) {
      const StepScales some = Format::scales(columns[c]);
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; i++) {
        scales[i][c] = some.scales[i];
        minima[i][c] = some.minima[i];
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < kVectors; i++) {
      transpose_parts(scales[i], to.scales + i * kWidth);
      if constexpr (Format::kMinima) transpose_parts(minima[i], to.minima + i * kWidth);
    }
  }
}

#endif

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
