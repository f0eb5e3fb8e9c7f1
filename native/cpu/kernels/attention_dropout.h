// Dropout of attention's probabilities, which backward draws again from Philox. Element ((b·H + h)·Tq + i)·Tk + j of
// dropout's draws decides on query i and key j of head h; a probability that is kept is divided by 1 - p.
#pragma once
#include "cpu/kernels/attention_tile.h"
#include "cpu/kernels/philox.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Returns the factor of the probabilities that are kept.
inline float dropout_scale(float p) { return p < 1 ? 1 / (1 - p) : 0; }

// Returns one bit per lane of a comparison's result.
inline uint32_t lane_bits(vi mask) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask));
#elif defined(__aarch64__)
  const uint32x4_t bits = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)mask, bits));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kWidth; i++) bits |= (static_cast<uint32_t>(mask[i]) & 1u) << i;
  return bits;
#endif
}

// A tile's mask: one bit per key and lane. Words come in the order of the keys and the tile is transposed, so the bits
// are drawn along the rows and applied down the columns.
struct DropoutMask {
  uint32_t keep[kBlockKeys / 32][kBlockQueries];

  // Lane i takes the elements first[i] + begin + [0, keys) that it sees.
  void draw(const Attention& a, const uint64_t* first, const BlockMask& block, int64_t lanes, int64_t begin,
            int64_t keys) {
    const vi threshold = set1i(static_cast<int32_t>(dropout_threshold(a.dropout_p)));
    uint32_t words[kBlockKeys] = {};
    __builtin_memset(keep, 0, sizeof keep);
    for (int64_t i = 0; i < lanes; i++) {
      const int64_t from = max_of<int64_t>(0, block.begin[i] - begin), to = min_of(keys, block.end[i] - begin);
      if (from >= to) continue;
      philox_words(words + from, to - from, a.seed, first[i] + static_cast<uint64_t>(begin + from), kDropoutDraws);
      for (int64_t j = 0; j < kBlockKeys; j += kWidth) {
        vu word;
        __builtin_memcpy(&word, words + j, sizeof word);
        keep[j / 32][i] |= lane_bits((vi)(word >> 8) >= threshold) << (j % 32);
      }
    }
  }

  // tile = kept ? tile / (1 - p) : 0
  void apply(const Attention& a, const TileMask& mask, float* tile) const {
    const vf factor = set1(dropout_scale(a.dropout_p));
    for (int64_t c = 0; c < mask.vectors; c++)
      for (int64_t j = mask.any[c].begin; j < mask.any[c].end; j++) {
        vi bits;
        __builtin_memcpy(&bits, keep[j / 32] + c * kWidth, sizeof bits);
        float* p = tile + j * kBlockQueries + c * kWidth;
        store(p, select((bits << (31 - j % 32)) < 0, load(p) * factor, vf{}));
      }
  }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
