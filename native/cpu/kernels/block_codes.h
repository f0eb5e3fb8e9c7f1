// Decodes blocks of GGUF files (core/blocks.h) into bytes: unsigned codes and the scales of each 16 of them, so that
//
//   number = scale · (code - zero) + minimum.
//
// A step is 256 numbers of a row: one block or eight. BlockCodes<kind> has for each format what is constant (kZero;
// kPart, the numbers that share a scale; kMinima, whether there are minima; the bytes of a step), the scales of a step
// (of sixteen columns at once if kPacked), and its codes in vectors of 64 in the order of K. Scales and minima are the
// same floats as in blocks.h. Only AVX-512 has these functions.
#pragma once
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/in_loop.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Of the parts of a step: of 16 parts, or of 8 in the lower halves.
struct StepScales {
  __m512 scales, minima = __m512{};
};

HEED_IN_LOOP __m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
HEED_IN_LOOP __m256i load32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
HEED_IN_LOOP __m512i twice32(const uint8_t* p) { return _mm512_broadcast_i64x4(load32(p)); }
HEED_IN_LOOP __m512i all_bytes(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
// Returns x, with the bits of y under the mask.
HEED_IN_LOOP __m512i with_bits(__m512i x, __m512i y, int mask) {
  return _mm512_ternarylogic_epi64(x, y, all_bytes(mask), 0xf8);
}
// Rotates the first 32 bytes left by `low` bits and the last 32 by `high`, in words of 64 bits.
HEED_IN_LOOP __m512i rotated(__m512i x, int low, int high) {
  low &= 63, high &= 63;
  return _mm512_rolv_epi64(x, _mm512_set_epi64(high, high, high, high, low, low, low, low));
}

// 64 codes of 4 bits, from two times 16 bytes or from 32.
HEED_IN_LOOP __m512i half_bytes_of(const uint8_t* first, const uint8_t* second) {
  const __m512i both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load16(first)), 0xff00, load16(second));
  return _mm512_and_si512(_mm512_srlv_epi64(both, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), all_bytes(15));
}
HEED_IN_LOOP __m512i half_bytes_of(const uint8_t* from) {
  return _mm512_and_si512(_mm512_srlv_epi64(twice32(from), _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0)), all_bytes(15));
}

// Formats with blocks of 32 numbers.
template <BlockKind kind>
struct ShortBlocks {
  static constexpr bool kMinima = false, kPacked = false;
  static constexpr int kPart = 32;
  static constexpr int64_t kStepBytes = 8 * block_shape(kind).bytes;

  static HEED_IN_LOOP const uint8_t* at(const uint8_t* from, int i) { return from + i * block_shape(kind).bytes; }

  template <class T>
  static HEED_IN_LOOP uint64_t word(const uint8_t* from, int i) {
    T bits;
    __builtin_memcpy(&bits, at(from, i), sizeof bits);
    uint64_t wide = bits;
    __asm__("" : "+r"(wide));
    return wide;
  }
  // The f16 at the beginning of each block. The words are put together outside vectors, which have enough to do.
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    const auto four = [&](int i) {
      return word<uint16_t>(from, i) | word<uint16_t>(from, i + 1) << 16 | word<uint16_t>(from, i + 2) << 32 |
             word<uint16_t>(from, i + 3) << 48;
    };
    const __m128i halves = _mm_set_epi64x(static_cast<int64_t>(four(4)), static_cast<int64_t>(four(0)));
    return {_mm512_castps256_ps512(_mm256_cvtph_ps(halves))};
  }
  // The two f16 at the beginning of each block.
  static HEED_IN_LOOP StepScales scales_and_minima(const uint8_t* from) {
    const auto two = [&](int i) {
      return static_cast<int64_t>(word<uint32_t>(from, i) | word<uint32_t>(from, i + 1) << 32);
    };
    const __m512 both = _mm512_cvtph_ps(_mm256_set_epi64x(two(6), two(4), two(2), two(0)));
    return {_mm512_maskz_compress_ps(0x5555, both), _mm512_maskz_compress_ps(0xaaaa, both)};
  }
  static HEED_IN_LOOP __m512i half_bytes(const uint8_t* from, int i, int offset) {
    return half_bytes_of(at(from, 2 * i) + offset, at(from, 2 * i + 1) + offset);
  }
  // Adds the fifth bits, of which each block has 32.
  static HEED_IN_LOOP __m512i with_fifths(__m512i codes, const uint8_t* from, int i, int offset) {
    const uint64_t bits = word<uint32_t>(from + offset, 2 * i) | word<uint32_t>(from + offset, 2 * i + 1) << 32;
    return _mm512_mask_add_epi8(codes, bits, codes, all_bytes(16));
  }
};

// A block of 256 numbers.
template <BlockKind kind>
struct LongBlock {
  static constexpr bool kMinima = false, kPacked = false;
  static constexpr int kPart = 32;
  static constexpr int64_t kStepBytes = block_shape(kind).bytes;

  // The 2 bits of numbers 64 i to 64 i + 63: 32 bytes have those of four rows of 32 numbers.
  static HEED_IN_LOOP __m512i pairs_of_bits(const uint8_t* from, int i) {
    const int shift = -4 * (i % 2);
    return _mm512_and_si512(rotated(twice32(from + i / 2 * 32), shift, shift - 2), all_bytes(3));
  }
};

// A block of 256 numbers whose scales and minima have 6 bits each, as part_scales_and_minima() has them. They are read
// for sixteen columns at once: with one column at a time they would take as long as the products.
template <BlockKind kind>
struct PackedScales : LongBlock<kind> {
  static constexpr bool kMinima = true, kPacked = true;

  // scales[part][c], minima[part][c] = those of column c.
  static HEED_IN_LOOP void read_scales(const uint8_t* const* columns, float (*scales)[16], float (*minima)[16]) {
    __m512i heads[4], bytes[4];  // of columns i, i + 4, i + 8 and i + 12: d, dmin, and 12 bytes of scales and minima
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const __m512i two = _mm512_inserti32x4(_mm512_castsi128_si512(load16(columns[i])), load16(columns[i + 4]), 1);
      const __m512i three = _mm512_inserti32x4(two, load16(columns[i + 8]), 2);
      heads[i] = _mm512_inserti32x4(three, load16(columns[i + 12]), 3);
      const auto each = [](int a, int b, int c, int d) { return _mm512_broadcast_i32x4(_mm_setr_epi32(a, b, c, d)); };
      const __m512i low =
          _mm512_srlv_epi32(_mm512_shuffle_epi32(heads[i], static_cast<_MM_PERM_ENUM>(0xed)), each(0, 0, 0, 4));
      const __m512i high = _mm512_srli_epi32(_mm512_shuffle_epi32(heads[i], static_cast<_MM_PERM_ENUM>(0xa5)), 2);
      bytes[i] = _mm512_or_si512(_mm512_and_si512(low, each(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)),
                                 _mm512_and_si512(high, each(0, 0x30303030, 0, 0x30303030)));
    }
    const __m512i words =
        _mm512_unpacklo_epi64(_mm512_unpacklo_epi32(heads[0], heads[1]), _mm512_unpacklo_epi32(heads[2], heads[3]));
    const __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    const __m512 dmin = -_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
    // Bytes of the same part come together, from all columns.
    put(_mm512_unpacklo_epi8(bytes[0], bytes[1]), _mm512_unpacklo_epi8(bytes[2], bytes[3]), d, scales);
    put(_mm512_unpackhi_epi8(bytes[0], bytes[1]), _mm512_unpackhi_epi8(bytes[2], bytes[3]), dmin, minima);
  }

 private:
  static HEED_IN_LOOP void put(__m512i a, __m512i b, __m512 factor, float (*to)[16]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    put_four(_mm512_permutexvar_epi32(order, _mm512_unpacklo_epi16(a, b)), factor, to);
    put_four(_mm512_permutexvar_epi32(order, _mm512_unpackhi_epi16(a, b)), factor, to + 4);
  }
  static HEED_IN_LOOP void put_four(__m512i parts, __m512 factor, float (*to)[16]) {
    put_one(_mm512_castsi512_si128(parts), factor, to[0]);
    put_one(_mm512_extracti32x4_epi32(parts, 1), factor, to[1]);
    put_one(_mm512_extracti32x4_epi32(parts, 2), factor, to[2]);
    put_one(_mm512_extracti32x4_epi32(parts, 3), factor, to[3]);
  }
  static HEED_IN_LOOP void put_one(__m128i bytes, __m512 factor, float* to) {
    _mm512_store_ps(to, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))));
  }
};

// A table's numbers of 16 codes, of which `zero` is subtracted.
template <const float (&table)[16], int zero>
HEED_IN_LOOP __m512i looked_up(__m512i codes) {
  struct Bytes {
    alignas(16) uint8_t of[16];
    constexpr Bytes() : of() {
      for (int i = 0; i < 16; i++) of[i] = static_cast<uint8_t>(static_cast<int>(table[i]) + zero);
    }
  };
  static constexpr Bytes bytes;
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load16(bytes.of)), codes);
}

template <BlockKind kind>
struct BlockCodes;

template <>
struct BlockCodes<BlockKind::q4_0> : ShortBlocks<BlockKind::q4_0> {
  static constexpr int kZero = 8;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) { return half_bytes(from, i, 2); }
};

template <>
struct BlockCodes<BlockKind::q4_1> : ShortBlocks<BlockKind::q4_1> {
  static constexpr int kZero = 0;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) { return scales_and_minima(from); }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) { return half_bytes(from, i, 4); }
};

template <>
struct BlockCodes<BlockKind::q5_0> : ShortBlocks<BlockKind::q5_0> {
  static constexpr int kZero = 16;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    return with_fifths(half_bytes(from, i, 6), from, i, 2);
  }
};

template <>
struct BlockCodes<BlockKind::q5_1> : ShortBlocks<BlockKind::q5_1> {
  static constexpr int kZero = 0;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) { return scales_and_minima(from); }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    return with_fifths(half_bytes(from, i, 8), from, i, 4);
  }
};

template <>
struct BlockCodes<BlockKind::q8_0> : ShortBlocks<BlockKind::q8_0> {
  static constexpr int kZero = 128;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    const __m256i first = load32(at(from, 2 * i) + 2), second = load32(at(from, 2 * i + 1) + 2);
    return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1), all_bytes(128));
  }
};

template <>
struct BlockCodes<BlockKind::q2_k> : LongBlock<BlockKind::q2_k> {
  static constexpr int kZero = 0, kPart = 16;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16], minima[16];
    q2_k_scales(from, some, minima);
    return {_mm512_load_ps(some), _mm512_load_ps(minima)};
  }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) { return pairs_of_bits(from + 16, i); }
};

template <>
struct BlockCodes<BlockKind::q3_k> : LongBlock<BlockKind::q3_k> {
  static constexpr int kZero = 4, kPart = 16;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16];
    q3_k_scales(from, some);
    return {_mm512_load_ps(some)};
  }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    // Bit r of a byte is the third bit of row r.
    return with_bits(pairs_of_bits(from + 32, i), rotated(twice32(from), 2 - 2 * i, 1 - 2 * i), 4);
  }
};

template <>
struct BlockCodes<BlockKind::q4_k> : PackedScales<BlockKind::q4_k> {
  static constexpr int kZero = 0;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) { return half_bytes_of(from + 16 + 32 * i); }
};

template <>
struct BlockCodes<BlockKind::q5_k> : PackedScales<BlockKind::q5_k> {
  static constexpr int kZero = 0;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    // Bit p of a byte is the fifth bit of part p.
    const __m512i fifth = rotated(twice32(from + 16), 4 - 2 * i, 3 - 2 * i);
    return with_bits(half_bytes_of(from + 48 + 32 * i), fifth, 16);
  }
};

template <>
struct BlockCodes<BlockKind::q6_k> : LongBlock<BlockKind::q6_k> {
  static constexpr int kZero = 32, kPart = 16;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16];
    q6_k_scales(from, some);
    return {_mm512_load_ps(some)};
  }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    const __m512i low = _mm512_loadu_si512(from + i / 2 * 64);
    const __m512i four = _mm512_and_si512(i % 2 ? _mm512_srli_epi64(low, 4) : low, all_bytes(15));
    const int shift = 4 - 4 * (i % 2);  // of the high bits, to bits 4 and 5
    return with_bits(four, rotated(twice32(from + 128 + i / 2 * 32), shift, shift - 2), 0x30);
  }
};

template <>
struct BlockCodes<BlockKind::iq4_nl> : ShortBlocks<BlockKind::iq4_nl> {
  static constexpr int kZero = 127;
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    return looked_up<kNonlinear, kZero>(half_bytes(from, i, 2));
  }
};

template <>
struct BlockCodes<BlockKind::iq4_xs> : LongBlock<BlockKind::iq4_xs> {
  static constexpr int kZero = 127;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    int32_t low;
    uint16_t high;
    __builtin_memcpy(&low, from + 4, sizeof low);
    __builtin_memcpy(&high, from + 2, sizeof high);
    const __m256i part = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    const __m256i four = _mm256_srlv_epi32(_mm256_set1_epi32(low), _mm256_slli_epi32(part, 2));
    const __m256i two = _mm256_srlv_epi32(_mm256_set1_epi32(high), _mm256_slli_epi32(part, 1));
    const __m256i six = _mm256_or_si256(_mm256_and_si256(four, _mm256_set1_epi32(15)),
                                        _mm256_slli_epi32(_mm256_and_si256(two, _mm256_set1_epi32(3)), 4));
    const __m256 factor = _mm256_cvtepi32_ps(_mm256_sub_epi32(six, _mm256_set1_epi32(32)));
    return {_mm512_castps256_ps512(_mm256_mul_ps(_mm256_set1_ps(half_at(from)), factor))};
  }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    const uint8_t* const two = from + 8 + 32 * i;
    return looked_up<kNonlinear, kZero>(half_bytes_of(two, two + 16));
  }
};

template <>
struct BlockCodes<BlockKind::mxfp4> : ShortBlocks<BlockKind::mxfp4> {
  static constexpr int kZero = 12;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    uint64_t exponents = 0;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) exponents |= word<uint8_t>(from, i) << (8 * i);
    const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(exponents));
    return {(__m512)mxfp4_scales((vi)_mm512_cvtepu8_epi32(bytes))};
  }
  static HEED_IN_LOOP __m512i codes(const uint8_t* from, int i) {
    return looked_up<kE2M1, kZero>(half_bytes(from, i, 1));
  }
};

// Calls f(BlockCodes<kind>{}).
template <class F>
inline void with_codes(BlockKind kind, const F& f) {
  switch (kind) {
#define BLOCK(name)     \
  case BlockKind::name: \
    return f(BlockCodes<BlockKind::name>{});
#include "core/kinds.def"
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
