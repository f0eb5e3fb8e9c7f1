// The matrix unit of Intel's servers (AMX-INT8). A tile register has up to 16 rows of 64 bytes. One instruction
// multiplies 16 rows of signed digits by the unsigned codes of 16 columns, as AVX512-VNNI does four at a time, and adds
// in 32 bits: the integers are the same. A tile of codes has a row for each four inputs, with four bytes of each
// column.
#pragma once
#include "cpu/kernels/digits.h"
#include "cpu/kernels/in_loop.h"

#if defined(HEED_INT8_DOT)
#define HEED_TILES_TARGET __attribute__((target("amx-tile,amx-int8")))

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kRegisterRows = 16, kTilePanels = 2;  // panels of 16 columns that share the tiles of digits

// The shapes of the eight tile registers, as LDTILECFG reads them.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Gives this thread's tile registers their shapes, for products over kInputs inputs, at most 64. The first registers
// have sums. With three digits, register 6 has digits and 7 codes; else 4 and 5 have digits and 6 and 7 codes.
template <int D, int kInputs>
HEED_TILES_TARGET inline void shape_tiles() {
  TileShapes shapes;
  constexpr int kFirstCodes = D == 3 ? 7 : 6, kFirstDigits = D == 3 ? 6 : 4;
  for (int i = 0; i < 8; i++) {
    shapes.rows[i] = i >= kFirstCodes ? kInputs / 4 : kRegisterRows;
    shapes.bytes[i] = i >= kFirstDigits && i < kFirstCodes ? kInputs : 64;
  }
  // The intrinsic of gcc 12.2 says that it reads 8 bytes, so that the stores of the others would be left out.
  __asm__ volatile("" : : "m"(shapes));
  _tile_loadconfig(&shapes);
}

// Frees the registers, so that the system need not save them.
HEED_TILES_TARGET inline void release_tiles() { _tile_release(); }

// The integers of 16 rows, [panel][digit][row][column].
template <int D>
using Products = int32_t[kTilePanels][D][kRegisterRows][16];

template <int D>
HEED_TILES_TARGET HEED_IN_LOOP void clear_tiles() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (D > 1) {
    _tile_zero(2);
    _tile_zero(3);
  }
  if constexpr (D == 3) {
    _tile_zero(4);
    _tile_zero(5);
  }
}

// Adds the products of the inputs of a tile with the codes of two panels. The rows of digits d begin at `digits` +
// d · `apart`, and are `stride` bytes apart.
template <int D>
HEED_TILES_TARGET HEED_IN_LOOP void multiply_tile_of_inputs(const int8_t* digits, int64_t apart, int64_t stride,
                                                            const uint8_t* left, const uint8_t* right) {
  if constexpr (D == 3) {
    _tile_loadd(7, left, 64);
    _tile_loadd(6, digits, stride);
    _tile_dpbsud(0, 6, 7);
    _tile_loadd(6, digits + apart, stride);
    _tile_dpbsud(1, 6, 7);
    _tile_loadd(6, digits + 2 * apart, stride);
    _tile_dpbsud(2, 6, 7);
    _tile_loadd(7, right, 64);
    _tile_dpbsud(5, 6, 7);
    _tile_loadd(6, digits + apart, stride);
    _tile_dpbsud(4, 6, 7);
    _tile_loadd(6, digits, stride);
    _tile_dpbsud(3, 6, 7);
  } else {
    _tile_loadd(4, digits, stride);
    _tile_loadd(6, left, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, right, 64);
    _tile_dpbsud(1, 4, 7);
    if constexpr (D == 2) {
      _tile_loadd(5, digits + apart, stride);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
}

template <int D>
HEED_TILES_TARGET HEED_IN_LOOP void store_tiles(Products<D>& to) {
  if constexpr (D == 3) {
    _tile_stored(0, to[0][0], 64);
    _tile_stored(1, to[0][1], 64);
    _tile_stored(2, to[0][2], 64);
    _tile_stored(3, to[1][0], 64);
    _tile_stored(4, to[1][1], 64);
    _tile_stored(5, to[1][2], 64);
  } else {
    _tile_stored(0, to[0][0], 64);
    _tile_stored(1, to[1][0], 64);
    if constexpr (D == 2) {
      _tile_stored(2, to[0][D - 1], 64);
      _tile_stored(3, to[1][D - 1], 64);
    }
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
