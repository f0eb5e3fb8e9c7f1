// Sixteen rows of activations by panels of codes, with the matrix unit of Intel's servers (AMX-INT8). A tile register
// has 16 rows of up to 64 bytes; one instruction multiplies 16 rows of digits by the codes of 16 columns and adds in 32
// bits. Digits and codes lie in memory as it wants them (block_inputs.h, gemm_blocks_panels.h). The integers are those
// of multiply_step, and so are the bits of the sums.
#pragma once
#include "cpu/kernels/gemm_blocks_panels.h"

#if defined(HEED_INT8_DOT)
#define HEED_TILES_TARGET __attribute__((target("amx-tile,amx-int8")))

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kRegisterRows = 16;

// The shapes of the eight tile registers, as LDTILECFG reads them.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Gives this thread's tile registers their shapes. The first have sums. With three digits, register 6 has digits and 7
// codes; else 4 and 5 have digits and 6 and 7 codes.
template <int D, int kPart>
HEED_TILES_TARGET inline void shape_tiles() {
  TileShapes shapes;
  constexpr int kFirstCodes = D == 3 ? 7 : 6, kFirstDigits = D == 3 ? 6 : 4;
  for (int i = 0; i < 8; i++) {
    shapes.rows[i] = i >= kFirstCodes ? kPart / 4 : kRegisterRows;
    shapes.bytes[i] = i >= kFirstDigits && i < kFirstCodes ? kPart : 64;
  }
  // The intrinsic of gcc 12.2 says that it reads 8 bytes, so that the stores of the others would be left out.
  __asm__ volatile("" : : "m"(shapes));
  _tile_loadconfig(&shapes);
}

// The integers of a part of 16 rows, [panel][digit][row][column].
template <int D>
using Products = int32_t[kPanels][D][kRegisterRows][16];

template <int D, int kPart>
HEED_TILES_TARGET HEED_IN_LOOP void multiply_part(const InputStep<D>* in, int64_t stride, const CodePanel* panels,
                                                  int64_t part, Products<D>& products) {
  constexpr int kWords = kPart / 4;
  const int64_t at = part * kPart, chunk = at / kChunkInputs, first = at % kChunkInputs;
  const uint8_t *const left = panels[0].codes[part * kWords], *const right = panels[1].codes[part * kWords];
  const auto digits = [&](int d) { return in->digits[chunk][d] + first; };
  __asm__ volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (D > 1) {
    _tile_zero(2);
    _tile_zero(3);
  }
  if constexpr (D == 3) {
    _tile_zero(4);
    _tile_zero(5);
    _tile_loadd(7, left, 64);
    _tile_loadd(6, digits(0), stride);
    _tile_dpbsud(0, 6, 7);
    _tile_loadd(6, digits(1), stride);
    _tile_dpbsud(1, 6, 7);
    _tile_loadd(6, digits(2), stride);
    _tile_dpbsud(2, 6, 7);
    _tile_loadd(7, right, 64);
    _tile_dpbsud(5, 6, 7);
    _tile_loadd(6, digits(1), stride);
    _tile_dpbsud(4, 6, 7);
    _tile_loadd(6, digits(0), stride);
    _tile_dpbsud(3, 6, 7);
    _tile_stored(0, products[0][0], 64);
    _tile_stored(1, products[0][1], 64);
    _tile_stored(2, products[0][2], 64);
    _tile_stored(3, products[1][0], 64);
    _tile_stored(4, products[1][1], 64);
    _tile_stored(5, products[1][2], 64);
  } else {
    _tile_loadd(4, digits(0), stride);
    _tile_loadd(6, left, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, right, 64);
    _tile_dpbsud(1, 4, 7);
    if constexpr (D == 2) {
      _tile_loadd(5, digits(1), stride);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
      _tile_stored(2, products[0][D - 1], 64);
      _tile_stored(3, products[1][D - 1], 64);
    }
    _tile_stored(0, products[0][0], 64);
    _tile_stored(1, products[1][0], 64);
  }
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

// Frees the registers, so that the system need not save them.
HEED_TILES_TARGET inline void release_tiles() { _tile_release(); }

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
