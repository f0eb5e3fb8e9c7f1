// The part of a tile that the block mask leaves visible: one bit per key and lane. Tiles of which nothing is left are
// neither computed nor read, and tiles of which everything is left ignore the mask.
#pragma once
#include "cpu/kernels/attention_mask.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct TileBlocks {
  bool any = true, all = true;
  uint32_t bits[kBlockKeys / 32][kBlockQueries];

  // Rows [first, first + n) of a group and keys [begin, begin + keys); the remaining lanes repeat the last row.
  TileBlocks(const Attention& a, int64_t b, int64_t g, int64_t first, int64_t n, int64_t begin, int64_t keys) {
    if (!a.blocks.mask) return;
    static_assert(kBlockKeys == 64, "a lane's bits are one word");
    const uint64_t full = ~uint64_t{0} >> (64 - keys);
    const uint8_t* last = nullptr;
    uint64_t word = 0;
    any = false;
    for (int64_t i = 0; i < ceil_div(n, kWidth) * kWidth; i++) {
      const uint8_t* row = a.blocks_of_row(b, g, first + min_of(i, n - 1));
      if (i == 0 || row != last) word = row ? row_bits(a.blocks.size, row, begin, keys) : 0;
      last = row;
      bits[0][i] = static_cast<uint32_t>(word);
      bits[1][i] = static_cast<uint32_t>(word >> 32);
      any = any || word != 0;
      all = all && word == full;
    }
  }

  // Returns the mask of vector c's lanes.
  vi sees(int64_t c, int64_t j) const {
    vi word;
    __builtin_memcpy(&word, bits[j / 32] + c * kWidth, sizeof word);
    return (word << static_cast<int>(31 - j % 32)) < 0;
  }

 private:
  static uint64_t row_bits(int64_t size, const uint8_t* row, int64_t begin, int64_t keys) {
    uint64_t word = 0;
    for (int64_t j = 0, block = begin / size; j < keys; block++) {
      const int64_t next = min_of(keys, (block + 1) * size - begin);
      if (row[block]) word |= ~uint64_t{0} >> (64 - (next - j)) << j;
      j = next;
    }
    return word;
  }
};

// With a mask, tiles lie on whole multiples of their size, so that they fit its blocks; otherwise on multiples of
// `step`.
inline int64_t first_tile(const Attention& a, int64_t begin, int64_t step) {
  return begin - begin % (a.blocks.mask ? kBlockKeys : step);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
