// Decodes blocks of GGUF files (core/blocks.h) into f32: one function for each format, which takes consecutive blocks
// of a row. Integers are widened to vectors, and products with scales are in the order of the formulas, so that
// infinite scales and zeros give what the formulas give.
#pragma once
#include "core/blocks.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

using Decoder = void (*)(const uint8_t* from, int64_t blocks, float* to);

// Widens kWidth bytes. The instructions are named because compilers take __builtin_convertvector of bytes apart into
// single lanes.
inline vi bytes_at(const uint8_t* p) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#elif defined(__x86_64__)
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  const __m128i zero = _mm_setzero_si128(), words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
  return (vi)_mm_unpacklo_epi16(words, zero);
#else
  return widen(load_as<vu8>(p));
#endif
}
inline vi signed_bytes_at(const uint8_t* p) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  return bytes_at(p) << 24 >> 24;
#endif
}
inline vf floats(vi x) { return __builtin_convertvector(x, vf); }

inline float half_at(const uint8_t* p) {
  uint16_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  return decode(f16{}, vu16{bits})[0];
#endif
}

inline vi lanes() {
  vi x;
  for (int i = 0; i < kWidth; i++) x[i] = i;
  return x;
}

// Numbers of the 16 codes of iq4_nl and iq4_xs, and of mxfp4.
alignas(64) constexpr float kNonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
alignas(64) constexpr float kE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Returns table[code], for codes of 4 bits.
inline vf lookup(const float* table, vi code) {
#if defined(__AVX512F__)
  return (vf)_mm512_permutexvar_ps((__m512i)code, _mm512_load_ps(table));
#elif defined(__AVX2__)
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_load_ps(table), (__m256i)code);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_load_ps(table + 8), (__m256i)code);
  return (vf)_mm256_blendv_ps(low, high, (__m256)(code << 28));
#else
  vf x;
  for (int i = 0; i < kWidth; i++) x[i] = table[code[i]];
  return x;
#endif
}

// Calls put(i, codes) for vectors of the 2n codes of n bytes: the low halves are codes 0 to n - 1, the high halves the
// others.
template <class Put>
inline void half_bytes(const uint8_t* from, int n, const Put& put) {
#pragma GCC unroll 4
  for (int i = 0; i < n; i += kWidth) {
    const vi bytes = bytes_at(from + i);
    put(i, bytes & 15);
    put(n + i, bytes >> 4);
  }
}

// Returns the bits from bit i of `word` on, one a lane, as 16 or 0.
inline vi fifth_bits(uint32_t word, int i) { return ((set1i(static_cast<int32_t>(word)) >> (lanes() + i)) & 1) << 4; }

template <int kBytes, class One>
inline void each_block(const uint8_t* from, int64_t blocks, float* to, int numbers, const One& one) {
  for (int64_t i = 0; i < blocks; i++) one(from + i * kBytes, to + i * numbers);
}

void decode_q4_0(const uint8_t* from, int64_t blocks, float* to) {
  each_block<18>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block));
    half_bytes(block + 2, 16, [&](int i, vi q) { store(out + i, d * floats(q - 8)); });
  });
}

void decode_q4_1(const uint8_t* from, int64_t blocks, float* to) {
  each_block<20>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block)), m = set1(half_at(block + 2));
    half_bytes(block + 4, 16, [&](int i, vi q) { store(out + i, fma(d, floats(q), m)); });
  });
}

void decode_q5_0(const uint8_t* from, int64_t blocks, float* to) {
  each_block<22>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block));
    uint32_t fifth;
    __builtin_memcpy(&fifth, block + 2, sizeof fifth);
    half_bytes(block + 6, 16, [&](int i, vi q) { store(out + i, d * floats((q | fifth_bits(fifth, i)) - 16)); });
  });
}

void decode_q5_1(const uint8_t* from, int64_t blocks, float* to) {
  each_block<24>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block)), m = set1(half_at(block + 2));
    uint32_t fifth;
    __builtin_memcpy(&fifth, block + 4, sizeof fifth);
    half_bytes(block + 8, 16, [&](int i, vi q) { store(out + i, fma(d, floats(q | fifth_bits(fifth, i)), m)); });
  });
}

void decode_q8_0(const uint8_t* from, int64_t blocks, float* to) {
  each_block<34>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block));
#pragma GCC unroll 8
    for (int i = 0; i < 32; i += kWidth) store(out + i, d * floats(signed_bytes_at(block + 2 + i)));
  });
}

// Calls put(number, part, codes) for vectors of the codes of 2 bits of a q2_k or q3_k, or the high bits of a q6_k: 32
// bytes have those of four rows of 32 numbers. A part is 16 numbers.
template <class Put>
inline void pairs_of_bits(const uint8_t* from, const Put& put) {
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 32; i += kWidth) {
      const vi bytes = bytes_at(from + 32 * half + i);
#pragma GCC unroll 4
      for (int row = 0; row < 4; row++) {
        const int at = 128 * half + 32 * row + i;
        put(at, at / 16, bytes >> (2 * row) & 3);
      }
    }
}

// Scales of the 16 parts of a block, and numbers that are added to theirs.
inline void q2_k_scales(const uint8_t* block, float* scales, float* minima) {
  const vf d = set1(half_at(block + 80)), dmin = set1(half_at(block + 82));
  for (int i = 0; i < 16; i += kWidth) {
    const vi both = bytes_at(block + i);
    store(scales + i, d * floats(both & 15));
    store(minima + i, -(dmin * floats(both >> 4)));
  }
}

void decode_q2_k(const uint8_t* from, int64_t blocks, float* to) {
  each_block<84>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    alignas(64) float scales[16], minima[16];
    q2_k_scales(block, scales, minima);
    pairs_of_bits(block + 16, [&](int at, int part, vi q) {
      store(out + at, fma(set1(scales[part]), floats(q), set1(minima[part])));
    });
  });
}

inline void q3_k_scales(const uint8_t* block, float* scales) {
  const vf d = set1(half_at(block + 108));
  // Four scales at a time are bytes of a word: their low half bytes, and pairs of high bits.
  uint32_t packed[3], whole[4];
  __builtin_memcpy(packed, block + 96, sizeof packed);
  for (int i = 0; i < 4; i++)
    whole[i] = (packed[i % 2] >> (i < 2 ? 0 : 4) & 0x0f0f0f0f) | (packed[2] >> (2 * i) & 0x03030303) << 4;
  for (int i = 0; i < 16; i += kWidth)
    store(scales + i, d * floats(bytes_at(reinterpret_cast<const uint8_t*>(whole) + i) - 32));
}

void decode_q3_k(const uint8_t* from, int64_t blocks, float* to) {
  each_block<110>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    alignas(64) float scales[16];
    q3_k_scales(block, scales);
    pairs_of_bits(block + 32, [&](int at, int part, vi q) {
      const vi third = bytes_at(block + at % 32) >> (at / 32) & 1;
      store(out + at, set1(scales[part]) * floats((q | third << 2) - 4));
    });
  });
}

// Scales of 8 parts of 32 numbers and then what is added to theirs, the minima below zero. Both have 6 bits each in 12
// bytes. The first four of each have bytes of their own, whose two spare bits are the high bits of the last four.
inline void part_scales_and_minima(const uint8_t* block, float* to) {
  alignas(16) uint8_t bytes[16];
#if defined(__AVX2__)
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 4));
  const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(packed, _MM_SHUFFLE(2, 1, 2, 0)), _mm_set_epi32(4, 0, 0, 0));
  const __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(packed, _MM_SHUFFLE(1, 1, 0, 0)), 2);
  const __m128i all = _mm_or_si128(_mm_and_si128(low, _mm_set_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f)),
                                   _mm_and_si128(high, _mm_set_epi32(0x30303030, 0, 0x30303030, 0)));
  _mm_store_si128(reinterpret_cast<__m128i*>(bytes), all);
#else
  uint32_t packed[3];
  __builtin_memcpy(packed, block + 4, sizeof packed);
  const auto high = [](uint32_t word) { return word >> 2 & 0x30303030; };
  const uint32_t words[4] = {packed[0] & 0x3f3f3f3f, (packed[2] & 0x0f0f0f0f) | high(packed[0]), packed[1] & 0x3f3f3f3f,
                             (packed[2] >> 4 & 0x0f0f0f0f) | high(packed[1])};
  __builtin_memcpy(bytes, words, sizeof bytes);
#endif
  const vf d = set1(half_at(block)), dmin = set1(-half_at(block + 2));
  for (int i = 0; i < 16; i += kWidth) store(to + i, select(lanes() + i < 8, d, dmin) * floats(bytes_at(bytes + i)));
}

struct PartScales {
  alignas(64) float numbers[16];

  explicit PartScales(const uint8_t* block) { part_scales_and_minima(block, numbers); }
  vf number(int part, vi q) const { return fma(set1(numbers[part]), floats(q), set1(numbers[8 + part])); }
};

void decode_q4_k(const uint8_t* from, int64_t blocks, float* to) {
  each_block<144>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    const PartScales parts(block);
    for (int pair = 0; pair < 4; pair++)
      half_bytes(block + 16 + 32 * pair, 32,
                 [&](int i, vi q) { store(out + 64 * pair + i, parts.number(2 * pair + (i >= 32), q)); });
  });
}

void decode_q5_k(const uint8_t* from, int64_t blocks, float* to) {
  each_block<176>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    const PartScales parts(block);
    for (int pair = 0; pair < 4; pair++)
      half_bytes(block + 48 + 32 * pair, 32, [&](int i, vi q) {
        const int part = 2 * pair + (i >= 32);
        const vi fifth = (bytes_at(block + 16 + i % 32) >> part & 1) << 4;
        store(out + 64 * pair + i, parts.number(part, q | fifth));
      });
  });
}

inline void q6_k_scales(const uint8_t* block, float* scales) {
  const vf d = set1(half_at(block + 208));
  for (int i = 0; i < 16; i += kWidth) store(scales + i, d * floats(signed_bytes_at(block + 192 + i)));
}

void decode_q6_k(const uint8_t* from, int64_t blocks, float* to) {
  each_block<210>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    alignas(64) float scales[16];
    q6_k_scales(block, scales);
    pairs_of_bits(block + 128, [&](int at, int part, vi high) {
      // Rows 0 and 1 of each half are the low halves of 64 bytes, rows 2 and 3 the high halves.
      const vi low = bytes_at(block + at / 128 * 64 + at % 64) >> (at % 128 < 64 ? 0 : 4) & 15;
      store(out + at, set1(scales[part]) * floats((low | high << 4) - 32));
    });
  });
}

void decode_iq4_nl(const uint8_t* from, int64_t blocks, float* to) {
  each_block<18>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = set1(half_at(block));
    half_bytes(block + 2, 16, [&](int i, vi q) { store(out + i, d * lookup(kNonlinear, q)); });
  });
}

void decode_iq4_xs(const uint8_t* from, int64_t blocks, float* to) {
  each_block<136>(from, blocks, to, 256, [](const uint8_t* block, float* out) {
    const float d = half_at(block);
    const int high = block[2] | block[3] << 8;
    for (int part = 0; part < 8; part++) {
      const int low = block[4 + part / 2] >> (4 * (part % 2)) & 15;
      const vf scale = set1(d * static_cast<float>((low | (high >> (2 * part) & 3) << 4) - 32));
      half_bytes(block + 8 + 16 * part, 16,
                 [&](int i, vi q) { store(out + 32 * part + i, scale * lookup(kNonlinear, q)); });
    }
  });
}

// Returns 2^(e - 128): half of the scale, because the table has twice the numbers. The two least are subnormal.
inline vf mxfp4_scales(vi e) { return (vf)select(e < 2, set1i(0x00200000) << e, (e - 1) << 23); }

void decode_mxfp4(const uint8_t* from, int64_t blocks, float* to) {
  each_block<17>(from, blocks, to, 32, [](const uint8_t* block, float* out) {
    const vf d = mxfp4_scales(set1i(block[0]));
    half_bytes(block + 1, 16, [&](int i, vi q) { store(out + i, d * lookup(kE2M1, q)); });
  });
}

inline Decoder decoder_of(BlockKind kind) {
  switch (kind) {
#define BLOCK(name)     \
  case BlockKind::name: \
    return decode_##name;
#include "core/kinds.def"
  }
  return nullptr;
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
