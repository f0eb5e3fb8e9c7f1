// Philox4x32-10, a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11).
// Ten rounds turn a 128-bit counter and a 64-bit key into four 32-bit words, so that any element's word can be computed
// again without a state, in any order and on any device.
//
// key = the seed (low word first); counter = block index (words 0 and 1, low first), stream (words 2 and 3). Element e
// of a tensor takes word e % 4 of block e / 4. The stream stands for the purpose of the draw (core/random.h).
#pragma once
#include <cmath>
#include <cstdint>

#include "core/random.h"
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

typedef uint64_t vu64 __attribute__((vector_size(kWidth * 4)));

constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // the key's increments

struct PhiloxBlock {
  uint32_t word[4];
};

inline PhiloxBlock philox(uint64_t seed, uint64_t block, uint64_t stream) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  PhiloxBlock x{{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                 static_cast<uint32_t>(stream >> 32)}};
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxM0) * x.word[0];
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxM1) * x.word[2];
    x = {{static_cast<uint32_t>(p1 >> 32) ^ x.word[1] ^ k0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ x.word[3] ^ k1, static_cast<uint32_t>(p0)}};
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  return x;
}

inline uint32_t philox_word(uint64_t seed, uint64_t element, uint64_t stream) {
  return philox(seed, element / 4, stream).word[element % 4];
}

// Returns a number in [0, 1) in steps of 2^-24, all of which f32 can represent.
inline float uniform01(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
inline vf uniform01(vu words) { return __builtin_convertvector((vi)(words >> 8), vf) * set1(0x1p-24f); }

// Dropout keeps an element if uniform01(word) >= p, or in whole numbers, if word >> 8 >= dropout_threshold(p).
inline uint32_t dropout_threshold(float p) { return static_cast<uint32_t>(std::ceil(p * 0x1p24f)); }

// Returns the products of the even 32-bit lanes, 64 bits wide.
inline vu64 multiply_even(vu a, uint32_t b) {
  const vu m = b - vu{};
#if defined(__AVX512F__)
  return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)m);
#elif defined(__AVX2__)
  return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)m);
#elif defined(__SSE2__)
  return (vu64)_mm_mul_epu32((__m128i)a, (__m128i)m);
#elif defined(__aarch64__)
  return (vu64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)m));
#else
  const vu64 low = 0xffffffffu - vu64{};
  return ((vu64)a & low) * ((vu64)m & low);
#endif
}

inline void multiply_wide(vu a, uint32_t b, vu& low, vu& high) {
  const vu64 even = multiply_even(a, b), odd = multiply_even((vu)((vu64)a >> 32), b);
  const vu64 lower = 0xffffffffu - vu64{};
  low = (vu)((even & lower) | (odd << 32));
  high = (vu)((even >> 32) | (odd & ~lower));
}

// Lane i of x[w] is word w of block + i.
inline void philox_lanes(uint64_t seed, uint64_t block, uint64_t stream, vu (&x)[4]) {
  vu lane{};
  for (int i = 0; i < kWidth; i++) lane[i] = static_cast<uint32_t>(i);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  x[0] = static_cast<uint32_t>(block) + lane;
  x[1] = static_cast<uint32_t>(block >> 32) - (vu)(x[0] < lane);  // the carry is a mask of -1
  x[2] = static_cast<uint32_t>(stream) - vu{};
  x[3] = static_cast<uint32_t>(stream >> 32) - vu{};
  for (int round = 0; round < 10; round++) {
    vu low0, high0, low1, high1;
    multiply_wide(x[0], kPhiloxM0, low0, high0);
    multiply_wide(x[2], kPhiloxM1, low1, high1);
    x[0] = high1 ^ x[1] ^ k0;
    x[1] = low1;
    x[2] = high0 ^ x[3] ^ k1;
    x[3] = low0;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
}

// Returns the words of kWidth blocks in the order of their elements: the 4 · kWidth words of elements 4·block, 4·block
// + 1, …
inline void philox_fill(uint64_t seed, uint64_t block, uint64_t stream, vu (&out)[4]) {
  vu x[4];
  philox_lanes(seed, block, stream, x);
  const vu a = interleave_low(x[0], x[2]), b = interleave_low(x[1], x[3]);
  const vu c = interleave_high(x[0], x[2]), d = interleave_high(x[1], x[3]);
  out[0] = interleave_low(a, b);
  out[1] = interleave_high(a, b);
  out[2] = interleave_low(c, d);
  out[3] = interleave_high(c, d);
}

// Writes the words of elements [first, first + n).
inline void philox_words(uint32_t* out, int64_t n, uint64_t seed, uint64_t first, uint64_t stream) {
  constexpr int64_t kWords = 4 * kWidth;
  int64_t skip = static_cast<int64_t>(first % 4);
  for (uint64_t block = first / 4; n > 0; block += kWidth) {
    vu words[4];
    philox_fill(seed, block, stream, words);
    const int64_t count = n < kWords - skip ? n : kWords - skip;
    if (count == kWords)
      __builtin_memcpy(out, words, sizeof words);
    else
      __builtin_memcpy(out, reinterpret_cast<const uint32_t*>(words) + skip, static_cast<size_t>(count) * 4);
    out += count;
    n -= count;
    skip = 0;
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
