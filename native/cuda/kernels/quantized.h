// Quantised weights as the kernels of a CUDA device read them; core/quantized.h describes the layout.
#pragma once
#include "core/quantized.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

struct QuantizedWeight {
  uint8_t* codes;
  uint16_t* scales;  // bf16
  int64_t K, N, panels, groups;
  int words_of_group, group;
  int64_t panel_words, panel_scales;  // of a panel
};

#if HEED_DEVICE_CODE

template <int bits>
struct QuantizedCodes {
  static constexpr int kPerWord = 32 / bits;
  static constexpr uint32_t kZeros = bits == 8 ? 0x80808080u : 0x88888888u;
  // Returns the bit position of code j in a word.
  __device__ __forceinline__ static constexpr int shift(int j) { return bits == 8 ? 8 * j : 8 * (j % 4) + 4 * (j / 4); }
  // Returns weight j of a word, without its scale.
  __device__ __forceinline__ static float weight(uint32_t word, int j) {
    return static_cast<float>(static_cast<int32_t>((word ^ kZeros) << (32 - bits - shift(j))) >> (32 - bits));
  }
};

__device__ __forceinline__ float scale_of(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

#else

inline QuantizedWeight quantized_weight(const QuantizedLayout& layout, In codes, In scales) {
  return {codes.ptr<uint8_t>(),
          scales.ptr<uint16_t>(),
          layout.K,
          layout.N,
          layout.panels(),
          layout.groups(),
          static_cast<int>(layout.words_of_group()),
          static_cast<int>(layout.group),
          layout.words() * kPanelColumns,
          layout.groups() * kPanelColumns};
}

#endif

}  // namespace heed::cuda
