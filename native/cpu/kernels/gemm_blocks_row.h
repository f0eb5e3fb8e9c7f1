// One row of activations by a weight in blocks, with AVX512-VNNI. A column's numbers are consecutive in the file, so K
// lies in the lanes: a vector has 64 codes, and a lane sums the products of four of them with their digits. The lanes
// of sixteen columns are added so that each part's integers have the columns in their lanes.
#pragma once
#include "cpu/kernels/block_inputs.h"
#include "cpu/kernels/gemm_blocks_steps.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

// Products of a column with the row, four in a lane: with the first two digits, and with the third.
template <int D>
struct Dots {
  __m512i sums[D == 3 ? 2 : 1];
};

template <int D>
HEED_INT8_TARGET HEED_IN_LOOP Dots<D> dots_of(__m512i codes, const __m512i (&digits)[D]) {
  Dots<D> dots;
  __m512i rest = _mm512_setzero_si512();
  if constexpr (D > 1) rest = _mm512_slli_epi32(_mm512_dpbusd_epi32(rest, codes, digits[1]), 8);
  dots.sums[0] = _mm512_dpbusd_epi32(rest, codes, digits[0]);
  if constexpr (D == 3) dots.sums[1] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, digits[2]);
  return dots;
}

// Adds four lanes of each of four columns: element c of the result's 128 bits is column c's.
template <int D>
HEED_IN_LOOP Dots<D> add_lanes(const Dots<D> (&columns)[4]) {
  const auto& [a, b, c, d] = columns;
  Dots<D> all;
#pragma GCC unroll 2
  for (int i = 0; i < (D == 3 ? 2 : 1); i++) {
    const auto two = [](__m512i x, __m512i y) {
      return _mm512_add_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    };
    const __m512i x = two(a.sums[i], b.sums[i]), y = two(c.sums[i], d.sums[i]);
    all.sums[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
  }
  return all;
}

HEED_IN_LOOP __m512i even_lanes(__m512i a, __m512i b) { return _mm512_shuffle_i32x4(a, b, 0x88); }
HEED_IN_LOOP __m512i odd_lanes(__m512i a, __m512i b) { return _mm512_shuffle_i32x4(a, b, 0xdd); }

// parts[j] = the integers of part j of a chunk, with sixteen columns in the lanes. Each of a to d has four columns, 16
// inputs in 128 bits.
template <int kPart>
HEED_IN_LOOP void columns_in_lanes(__m512i a, __m512i b, __m512i c, __m512i d, __m512i (&parts)[64 / kPart]) {
  const __m512i ab[2] = {even_lanes(a, b), odd_lanes(a, b)}, cd[2] = {even_lanes(c, d), odd_lanes(c, d)};
  if constexpr (kPart == 16) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      parts[j] = even_lanes(ab[j], cd[j]);
      parts[j + 2] = odd_lanes(ab[j], cd[j]);
    }
  } else {
    const __m512i first = _mm512_add_epi32(ab[0], ab[1]), second = _mm512_add_epi32(cd[0], cd[1]);
    parts[0] = even_lanes(first, second);
    parts[1] = odd_lanes(first, second);
  }
}

// Returns the sums of a row by sixteen columns from `column` on.
template <class Format, int D>
HEED_INT8_TARGET __attribute__((noinline)) vf multiply_row(const BlockProduct& p, const InputRows<D>& inputs,
                                                           int64_t row, int64_t column, int64_t ahead) {
  constexpr int kPart = Format::kPart, kParts = kChunkInputs / kPart;  // of a chunk
  const InputStep<D>* in = inputs.row(row);
  TileSteps<kWidth> step(p, column, ahead);
  PanelScales scales;
  __m512 sum = _mm512_setzero_ps();
  for (; step.left > 0; step.go_on(Format::kStepBytes), in++) {
    step.prefetch_later_tile(Format::kStepBytes);
    read_scales<Format>(step.columns, scales);
#pragma GCC unroll 4
    for (int i = 0; i < kChunks; i++) {
      if (i * kChunkInputs >= step.left) break;
      __m512i digits[D];
#pragma GCC unroll 3
      for (int d = 0; d < D; d++) digits[d] = _mm512_load_si512(in->digits[i][d]);
      Dots<D> fours[4];
#pragma GCC unroll 4
      for (int c = 0; c < 4; c++) {
        Dots<D> dots[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) dots[j] = dots_of<D>(Format::codes(step.columns[4 * c + j], i), digits);
        fours[c] = add_lanes<D>(dots);
      }
      __m512i parts[D == 3 ? 2 : 1][kParts];
#pragma GCC unroll 2
      for (int s = 0; s < (D == 3 ? 2 : 1); s++)
        columns_in_lanes<kPart>(fours[0].sums[s], fours[1].sums[s], fours[2].sums[s], fours[3].sums[s], parts[s]);
#pragma GCC unroll 4
      for (int j = 0; j < kParts; j++) {
        const int part = i * kParts + j;
        if (part * kPart >= step.left) break;
        __m512i whole[D == 3 ? 2 : 1];
#pragma GCC unroll 2
        for (int s = 0; s < (D == 3 ? 2 : 1); s++)
          whole[s] =
              Format::kMinima ? parts[s][j] : _mm512_add_epi32(parts[s][j], _mm512_set1_epi32(in->begin[s][part]));
        const __m512 scale = _mm512_mul_ps(_mm512_load_ps(scales.scales[part]), _mm512_set1_ps(in->steps[part]));
        sum = _mm512_fmadd_ps(float_of<D>(whole), scale, sum);
        if constexpr (Format::kMinima)
          sum = _mm512_fmadd_ps(_mm512_load_ps(scales.minima[part]), _mm512_set1_ps(in->sums[part]), sum);
      }
    }
  }
  return (vf)sum;
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
