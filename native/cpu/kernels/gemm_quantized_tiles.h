// Many rows of activations by a quantised weight, with the matrix unit (int8_tiles.h). Codes of 8 bits lie in memory as
// it wants them; those of 4 bits become bytes, a group at a time, for all rows. The integers are those of
// gemm_quantized_int8.h, and the floats are added in the same order, so that the bits are the same.
#pragma once
#include "cpu/kernels/gemm_quantized_digits.h"
#include "cpu/kernels/int8_tiles.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kMostGroup = 256;                            // inputs that share a scale
constexpr int64_t kSumRows = 256;                              // whose sums a task keeps in L1
constexpr int64_t kPairColumns = kTilePanels * kPanelColumns;  // of a pair of panels
static_assert(kSumRows % kRegisterRows == 0);

// Codes of one group of two panels, as bytes.
template <int bits>
struct GroupCodes {
  const uint8_t* panels[kTilePanels];
  alignas(64) uint8_t bytes[kTilePanels][kMostGroup / 4][kPanelBytes];

  GroupCodes(const QuantizedProduct& p, int64_t panel, int64_t group) {
    const int64_t words = p.weight.words_of_group();
    for (int v = 0; v < kTilePanels; v++) {
      const uint8_t* const from = p.panel_codes(min_of(panel + v, p.weight.panels() - 1)) + group * words * kPanelBytes;
      panels[v] = bits == 8 ? from : bytes[v][0];
      for (int64_t word = 0; bits == 4 && word < words; word++) {
        const __m512i both = _mm512_loadu_si512(from + word * kPanelBytes), low = _mm512_set1_epi8(15);
        _mm512_store_si512(bytes[v][2 * word], _mm512_and_si512(both, low));
        _mm512_store_si512(bytes[v][2 * word + 1], _mm512_and_si512(_mm512_srli_epi32(both, 4), low));
      }
    }
  }
};

// products = the integers of 16 rows by two panels, without what the sums begin with. The group's digits of the first
// row begin at `digits`; rows are `stride` bytes apart. kInputs are those of a tile.
template <int bits, int D, int kInputs>
HEED_TILES_TARGET HEED_IN_LOOP void multiply_group(const int8_t* digits, int64_t stride, int64_t group,
                                                   const GroupCodes<bits>& codes, Products<D>& products) {
  __asm__ volatile("" ::: "memory");
  clear_tiles<D>();
  for (int64_t k = 0; k < group; k += kInputs)
    multiply_tile_of_inputs<D>(digits + k, group, stride, codes.panels[0] + k / 4 * kPanelBytes,
                               codes.panels[1] + k / 4 * kPanelBytes);
  store_tiles<D>(products);
  __asm__ volatile("" ::: "memory");
}

// Adds the group's products of 16 rows from `row` on to sums[row][column].
template <int D>
HEED_IN_LOOP void add_group(const Digits<D>& digits, int64_t row, int64_t g, const __m512 (&scales)[kTilePanels],
                            const Products<D>& products, float (*sums)[kPairColumns]) {
  for (int r = 0; r < kRegisterRows; r++) {
    const int32_t* const begin = digits.begin(row + r) + g * D;
    const __m512i lower_begin = _mm512_set1_epi32(D == 1 ? begin[0] : begin[0] + begin[D > 1] * 256);
    const __m512 step = _mm512_set1_ps(digits.step(row + r)[g]);
#pragma GCC unroll 2
    for (int v = 0; v < kTilePanels; v++) {
      const auto dots = [&](int d) { return _mm512_load_si512(products[v][d][r]); };
      float* const at = sums[r] + v * kPanelColumns;
      const __m512 factor = _mm512_mul_ps(scales[v], step);
      __m512i lower = _mm512_add_epi32(dots(0), lower_begin);
      if constexpr (D > 1) lower = _mm512_add_epi32(_mm512_slli_epi32(dots(1), 8), lower);
      __m512 whole = _mm512_cvtepi32_ps(lower);
      if constexpr (D == 3)
        whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(dots(2), _mm512_set1_epi32(begin[2]))),
                                _mm512_set1_ps(65536), whole);
      _mm512_store_ps(at, _mm512_fmadd_ps(whole, factor, _mm512_load_ps(at)));
    }
  }
}

// Computes `rows` rows from `first` on, a multiple of 16 and at most kSumRows, by two panels. The matrix unit is 16
// rows ahead of the vectors, so that both work.
template <int bits, int D, int kInputs>
HEED_TILES_TARGET __attribute__((noinline)) void multiply_by_tiles(const QuantizedProduct& p, const Digits<D>& digits,
                                                                   const PanelRun& run, int64_t first, int64_t rows) {
  const QuantizedLayout& w = p.weight;
  const int64_t groups = w.groups(), group = w.group, stride = groups * D * group;
  const int64_t bytes = kTilePanels * w.words_of_group() * kPanelBytes;
  alignas(64) float sums[kSumRows][kPairColumns];
  alignas(64) Products<D> both[2];
  std::memset(sums, 0, static_cast<size_t>(rows) * sizeof *sums);
  shape_tiles<D, kInputs>();
  for (int64_t g = 0; g < groups; g++) {
    const GroupCodes<bits> codes(p, run.panel, g);
    const uint8_t* const next = p.panel_codes(run.next) + g * bytes;
    for (int64_t line = 0; line < bytes; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(next + line), _MM_HINT_T1);
    __m512 scales[kTilePanels];
    for (int v = 0; v < kTilePanels; v++)
      scales[v] = (__m512)load_f32(p.panel_scales(min_of(run.panel + v, w.panels() - 1)) + g * kPanelColumns);
    multiply_group<bits, D, kInputs>(digits.at(first, g), stride, group, codes, both[0]);
    for (int64_t r = 0; r < rows; r += kRegisterRows) {
      const int64_t now = r / kRegisterRows % 2, then = r + kRegisterRows;
      if (then < rows)
        multiply_group<bits, D, kInputs>(digits.at(first + then, g), stride, group, codes, both[1 - now]);
      add_group<D>(digits, first + r, g, scales, both[now], sums + r);
    }
  }
  release_tiles();
  for (int64_t r = 0; r < rows; r++)
    for (int v = 0; v < kTilePanels; v++)
      finish(p, first + r, (run.panel + v) * kPanelColumns, load(sums[r] + v * kPanelColumns));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
