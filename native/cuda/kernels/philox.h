// Philox4x32-10, a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11),
// laid out as in cpu/kernels/philox.h, so that both devices draw the same words.
//
// key = the seed (low word first); counter = block index (words 0 and 1, low first), stream (words 2 and 3). Element e
// of a tensor takes word e % 4 of block e / 4. The stream stands for the purpose of the draw (core/random.h).
#pragma once
#include <cmath>
#include <cstdint>

#include "core/random.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

// Dropout keeps an element if uniform01(word) >= p, or in whole numbers, if word >> 8 >= dropout_threshold(p).
inline uint32_t dropout_threshold(float p) { return static_cast<uint32_t>(std::ceil(p * 16777216.0f)); }

#if HEED_DEVICE_CODE

struct PhiloxBlock {
  uint32_t word[4];
};

__device__ __forceinline__ PhiloxBlock philox(uint64_t seed, uint64_t block, uint64_t stream) {
  constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
  constexpr uint32_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;  // the key's increments
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  PhiloxBlock x{{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                 static_cast<uint32_t>(stream >> 32)}};
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint32_t low0 = kM0 * x.word[0], high0 = __umulhi(kM0, x.word[0]);
    const uint32_t low1 = kM1 * x.word[2], high1 = __umulhi(kM1, x.word[2]);
    x = {{high1 ^ x.word[1] ^ k0, low1, high0 ^ x.word[3] ^ k1, low0}};
    k0 += kW0;
    k1 += kW1;
  }
  return x;
}

// Returns the word of one element. If its neighbours are needed too, draw their block once instead.
__device__ __forceinline__ uint32_t philox_word(uint64_t seed, uint64_t element, uint64_t stream) {
  const PhiloxBlock block = philox(seed, element / 4, stream);
  const uint32_t low = element & 1 ? block.word[1] : block.word[0];
  const uint32_t high = element & 1 ? block.word[3] : block.word[2];
  return element & 2 ? high : low;
}

// Returns a number in [0, 1) in steps of 2^-24, all of which f32 can represent.
__device__ __forceinline__ float uniform01(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

#endif

}  // namespace heed::cuda
