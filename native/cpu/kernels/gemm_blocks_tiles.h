// Sixteen rows of activations by panels of codes, with the matrix unit (int8_tiles.h). Digits and codes lie in memory
// as it wants them (block_inputs.h, gemm_blocks_panels.h). The integers are those of multiply_step, and so are the bits
// of the sums.
#pragma once
#include "cpu/kernels/gemm_blocks_panels.h"
#include "cpu/kernels/int8_tiles.h"

#if defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

template <int D, int kPart>
HEED_TILES_TARGET HEED_IN_LOOP void multiply_part(const InputStep<D>* in, int64_t stride, const CodePanel* panels,
                                                  int64_t part, Products<D>& products) {
  constexpr int kWords = kPart / 4;
  const int64_t at = part * kPart, chunk = at / kChunkInputs, first = at % kChunkInputs;
  __asm__ volatile("" ::: "memory");
  clear_tiles<D>();
  multiply_tile_of_inputs<D>(in->digits[chunk][0] + first, kChunkInputs, stride, panels[0].codes[part * kWords],
                             panels[1].codes[part * kWords]);
  store_tiles<D>(products);
  __asm__ volatile("" ::: "memory");
}

// Adds the products of a step of 16 rows to sums[row][column], as multiply_step does. The matrix unit is a part ahead
// of the vectors, so that both work.
template <int D, int kPart, bool kMinima>
HEED_TILES_TARGET __attribute__((noinline)) void multiply_tiles(const InputStep<D>* in, int64_t stride,
                                                                const CodePanel* panels, int64_t parts,
                                                                float (*sums)[kTileColumns]) {
  alignas(64) Products<D> both[2];
  multiply_part<D, kPart>(in, stride, panels, 0, both[0]);
  for (int64_t part = 0; part < parts; part++) {
    if (part + 1 < parts) multiply_part<D, kPart>(in, stride, panels, part + 1, both[(part + 1) % 2]);
    const Products<D>& products = both[part % 2];
    for (int r = 0; r < kRegisterRows; r++) {
      const InputStep<D>& row = *reinterpret_cast<const InputStep<D>*>(reinterpret_cast<const char*>(in) + r * stride);
#pragma GCC unroll 2
      for (int v = 0; v < kPanels; v++) {
        __m512i whole[D == 3 ? 2 : 1] = {_mm512_load_si512(products[v][0][r])};
        if constexpr (D > 1)
          whole[0] = _mm512_add_epi32(whole[0], _mm512_slli_epi32(_mm512_load_si512(products[v][D > 1][r]), 8));
        if constexpr (D == 3) whole[1] = _mm512_load_si512(products[v][2][r]);
        if constexpr (!kMinima) {
          whole[0] = _mm512_add_epi32(whole[0], _mm512_set1_epi32(row.begin[0][part]));
          if constexpr (D == 3) whole[1] = _mm512_add_epi32(whole[1], _mm512_set1_epi32(row.begin[1][part]));
        }
        add_part<D, kMinima>(row, panels[v].scales, part, whole, sums[r] + 16 * v);
      }
    }
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
