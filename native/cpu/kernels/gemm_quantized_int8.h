// The product with a quantised weight by AVX512-VNNI. Digits of the activations (gemm_quantized_digits.h) are
// multiplied by the codes exactly. The codes exceed the weights by `zero`, which is also corrected exactly: sums begin
// at -zero · Σd. Sixteen rows are multiplied by the matrix unit if there is one (gemm_quantized_tiles.h).
#pragma once
#include "cpu/kernels/gemm_quantized_tiles.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

// Computes R rows from i on by P panels. If `ahead`, it also asks for the codes and scales of the next P panels, in the
// order of memory: a panel is too short for the machine's own prefetcher.
template <int bits, int D, int R, int P, bool ahead>
HEED_INT8_TARGET __attribute__((noinline)) void multiply_tile(const QuantizedProduct& p, const Digits<D>& digits,
                                                              const PanelRun& run, int64_t i) {
  const QuantizedLayout& w = p.weight;
  const int64_t words = w.words_of_group(), groups = w.groups(), group = w.group;
  const uint8_t* codes[P];
  const bf16* scales[P];
  for (int v = 0; v < P; v++) {
    const int64_t here = min_of(run.panel + v, w.panels() - 1);  // a missing panel at the end is the last one again
    codes[v] = p.panel_codes(here);
    scales[v] = p.panel_scales(here);
  }
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t row_stride = groups * D * group;
  const int8_t* x = digits.at(i, 0);
  __m512 sum[R][P];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < P; v++) sum[r][v] = _mm512_setzero_ps();
  const char* next_codes = reinterpret_cast<const char*>(p.panel_codes(run.next));
  const char* next_scales = reinterpret_cast<const char*>(p.panel_scales(run.next));
  for (int64_t g = 0; g < groups; g++, x += D * group) {
    if constexpr (ahead) {
      constexpr int kBytes = P * kPanelColumns * static_cast<int>(sizeof(bf16));
      for (int at = 0; at < kBytes; at += 64) _mm_prefetch(next_scales + at, _MM_HINT_T1);
      next_scales += kBytes;
    }
    __m512i dots[R][P][D];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 3
      for (int d = 0; d < D; d++) {
        const __m512i begin = _mm512_set1_epi32(digits.begin(i + r)[g * D + d]);
#pragma GCC unroll 4
        for (int v = 0; v < P; v++) dots[r][v][d] = begin;
      }
    for (int64_t word = 0; word < words; word++) {
      constexpr int kHalves = 8 / bits;
      __m512i bytes[P][kHalves];
#pragma GCC unroll 4
      for (int v = 0; v < P; v++) {
        const __m512i read = _mm512_loadu_si512(codes[v]);
        if constexpr (ahead) _mm_prefetch(next_codes + v * kPanelBytes, _MM_HINT_T1);
        codes[v] += kPanelBytes;
        if constexpr (bits == 8) {
          bytes[v][0] = read;
        } else {
          bytes[v][0] = _mm512_and_si512(read, low);
          bytes[v][1] = _mm512_and_si512(_mm512_srli_epi32(read, 4), low);
        }
      }
      next_codes += P * kPanelBytes;
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; h++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 3
          for (int d = 0; d < D; d++) {
            int32_t four;
            __builtin_memcpy(&four, x + r * row_stride + d * group + (word * kHalves + h) * 4, 4);
            const __m512i digit = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int v = 0; v < P; v++) dots[r][v][d] = _mm512_dpbusd_epi32(dots[r][v][d], bytes[v][h], digit);
          }
    }
    __m512 scale[P];
#pragma GCC unroll 4
    for (int v = 0; v < P; v++) scale[v] = (__m512)load_f32(scales[v] + g * kPanelColumns);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const __m512 step = _mm512_set1_ps(digits.step(i + r)[g]);
#pragma GCC unroll 4
      for (int v = 0; v < P; v++) {
        __m512i lower = dots[r][v][0];
        if constexpr (D > 1) lower = _mm512_add_epi32(_mm512_slli_epi32(dots[r][v][1], 8), lower);
        __m512 whole = _mm512_cvtepi32_ps(lower);
        if constexpr (D == 3)
          whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r][v][D - 1]), _mm512_set1_ps(65536), whole);
        sum[r][v] = _mm512_fmadd_ps(whole, _mm512_mul_ps(scale[v], step), sum[r][v]);
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < P; v++) finish(p, i + r, (run.panel + v) * kPanelColumns, (vf)sum[r][v]);
}

template <int bits, int D>
inline void multiply_digits(const QuantizedProduct& p, char* memory) {
  const Digits<D> digits{p.weight, p.rows, memory};
  const int64_t groups = p.weight.groups();
  parallel_for(p.rows * groups, max_of<int64_t>(1, 8192 / p.weight.group), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) cut_group_of_row<bits, D>(p, digits, g / groups, g % groups);
  });
  // One row is bound by memory. With few instructions, panels come fastest as one stream, which the machine prefetches
  // by itself; with more, if four share them and the next four are asked for.
  constexpr int kAtOnce = bits == 8 && D < 3 ? 1 : 4;
  constexpr bool kAhead = kAtOnce > 1;
  const auto tiles = !int8_tiles()         ? nullptr
                     : p.weight.group < 64 ? &multiply_by_tiles<bits, D, 32>
                                           : &multiply_by_tiles<bits, D, 64>;
  over_panels(p, p.weight.padded() * D, p.rows == 1 ? kAtOnce : 2, [&](const PanelRun& run) {
    int64_t i = run.first_row;
    const int64_t end = i + run.rows;
    if (run.panels == kAtOnce) return multiply_tile<bits, D, 1, kAtOnce, kAhead>(p, digits, run, i);
    if (tiles)
      for (; i + kRegisterRows <= end;) {
        const int64_t rows = min_of(kSumRows, (end - i) / kRegisterRows * kRegisterRows);
        tiles(p, digits, run, i, rows);
        i += rows;
      }
    if constexpr (D == 1) {
      if (i + 8 <= end) multiply_tile<bits, D, 8, 2, true>(p, digits, run, i), i += 8;
      for (; i + 8 <= end; i += 8) multiply_tile<bits, D, 8, 2, false>(p, digits, run, i);
    }
    if (i + 4 <= end) multiply_tile<bits, D, 4, 2, true>(p, digits, run, i), i += 4;
    for (; i + 4 <= end; i += 4) multiply_tile<bits, D, 4, 2, false>(p, digits, run, i);
    if (i + 2 <= end) multiply_tile<bits, D, 2, 2, true>(p, digits, run, i), i += 2;
    if (i < end) multiply_tile<bits, D, 1, 2, true>(p, digits, run, i);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
