// Many rows of activations by a weight in blocks, with AVX512-VNNI. The codes of a step of 32 columns become panels in
// L1, once for all rows: four bytes of a column in each of 16 lanes. Then a lane sums the products of its column, and
// nothing is added across lanes.
#pragma once
#include "cpu/kernels/gemm_blocks_row.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kPanels = 2;  // of 16 columns, in a tile
constexpr int64_t kTileColumns = kPanels * kWidth;
template <int D>
constexpr int kStepRows = D == 1 ? 8 : 4;  // that are multiplied at once: as many as registers have room for

// Any number of digits may be multiplied by the codes of any format.
template <class Format, int D>
constexpr bool multiplies() {
  return true;
}

// A step of sixteen columns.
struct alignas(64) CodePanel {
  uint8_t codes[kBlockDepth / 4][64];
  PanelScales scales;
};

// Stores chunk i of sixteen columns with the columns in the lanes. The bytes of a format with pieces change their
// places before codes are taken out of them, so that they are fewer.
template <class Format>
HEED_IN_LOOP void fill_chunk(const uint8_t* const* columns, int i, uint8_t (*to)[64]) {
  if constexpr (Format::kPieces > 0) {
#pragma GCC unroll 4
    for (int piece = 0; piece < Format::kPieces; piece++) {
      Bytes words[4];
      turn_pieces(columns, [&](const uint8_t* from) { return Format::piece(from, i, piece); }, words);
#pragma GCC unroll 4
      for (int w = 0; w < 4; w++)
#pragma GCC unroll 2
        for (int part = 0; part < 4 / Format::kPieces; part++)
          _mm512_store_si512(to[Format::word_of(piece, part) + w], Format::piece_codes(words[w], part));
    }
  } else {
    vf words[16];
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) words[c] = (vf)Format::codes(columns[c], i);
    transpose(words);
#pragma GCC unroll 16
    for (int w = 0; w < 16; w++) _mm512_store_ps(to[w], (__m512)words[w]);
  }
}

template <class Format, int>
void fill_panels(const TileSteps<kTileColumns>& step, CodePanel* panels) {
  for (int v = 0; v < kPanels; v++) {
    const uint8_t* const* columns = step.columns + 16 * v;
    read_scales<Format>(columns, panels[v].scales);
#pragma GCC unroll 4
    for (int i = 0; i < kChunks; i++) {
      if (i * kChunkInputs >= step.left) break;
      fill_chunk<Format>(columns, i, panels[v].codes + 16 * i);
    }
  }
}

// Adds a part of a row to the sums of sixteen columns: its exact integers are `whole`.
template <int D, bool kMinima>
HEED_IN_LOOP void add_part(const InputStep<D>& row, const PanelScales& panel, int64_t part,
                           const __m512i (&whole)[D == 3 ? 2 : 1], float* sums) {
  const __m512 factor = _mm512_mul_ps(_mm512_load_ps(panel.scales[part]), _mm512_set1_ps(row.steps[part]));
  __m512 sum = _mm512_fmadd_ps(float_of<D>(whole), factor, _mm512_load_ps(sums));
  if constexpr (kMinima) sum = _mm512_fmadd_ps(_mm512_load_ps(panel.minima[part]), _mm512_set1_ps(row.sums[part]), sum);
  _mm512_store_ps(sums, sum);
}

// Adds the products of a step of R rows, which begin at `in` and are `stride` bytes apart, to sums[row][column].
template <int D, int kPart, bool kMinima, int R>
HEED_INT8_TARGET __attribute__((noinline)) void multiply_step(const InputStep<D>* in, int64_t stride,
                                                              const CodePanel* panels, int64_t parts,
                                                              float (*sums)[kTileColumns]) {
  constexpr int kWords = kPart / 4;
  const auto row = [&](int r) {
    return reinterpret_cast<const InputStep<D>*>(reinterpret_cast<const char*>(in) + r * stride);
  };
  for (int64_t part = 0; part < parts; part++) {
    __m512i dots[R][kPanels][D];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < kPanels; v++)
#pragma GCC unroll 3
        for (int d = 0; d < D; d++)
          dots[r][v][d] = kMinima || d == 1 ? _mm512_setzero_si512() : _mm512_set1_epi32(row(r)->begin[d / 2][part]);
    const int64_t at = part * kPart, chunk = at / kChunkInputs, first = at % kChunkInputs;
#pragma GCC unroll 8
    for (int word = 0; word < kWords; word++) {
      __m512i codes[kPanels];
#pragma GCC unroll 2
      for (int v = 0; v < kPanels; v++) codes[v] = _mm512_load_si512(panels[v].codes[part * kWords + word]);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
#pragma GCC unroll 3
        for (int d = 0; d < D; d++) {
          int32_t four;
          __builtin_memcpy(&four, row(r)->digits[chunk][d] + first + 4 * word, sizeof four);
          const __m512i digits = _mm512_set1_epi32(four);
#pragma GCC unroll 2
          for (int v = 0; v < kPanels; v++) dots[r][v][d] = _mm512_dpbusd_epi32(dots[r][v][d], codes[v], digits);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kPanels; v++)
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        __m512i whole[D == 3 ? 2 : 1] = {dots[r][v][0]};
        if constexpr (D > 1) whole[0] = _mm512_add_epi32(whole[0], _mm512_slli_epi32(dots[r][v][1], 8));
        if constexpr (D == 3) whole[1] = dots[r][v][2];
        add_part<D, kMinima>(*row(r), panels[v].scales, part, whole, sums[r] + 16 * v);
      }
  }
}

template <class Format, int D, int R>
constexpr auto step_of = &multiply_step<D, Format::kPart, Format::kMinima, R>;

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
