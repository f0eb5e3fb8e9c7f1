// Decodes blocks of GGUF files (core/blocks.h) into bytes: unsigned codes and the scales of each 16 of them, so that
//
//   number = scale · (code - zero) + minimum.
//
// A step is 256 numbers of a row: one block or eight. BlockCodes<kind> has for each format what is constant (kZero;
// kMost, the largest code; kPart, the numbers that share a scale; kMinima, whether there are minima; the bytes of a
// step), the scales of a step (of kWidth columns at once if kPacked, block_scales.h), and its codes in vectors of 64 in
// the order of K. Scales and minima are the same floats as in blocks.h. AVX-512 and AVX2 have these functions.
//
// If the 64 codes of a vector come from whole bytes of the file, the format has these in kPieces pieces of 16 bytes,
// from which codes may be taken after bytes of several columns have changed their places: piece_codes(bytes, part) are
// codes of a piece, from word_of(piece, part) on, where a word is four of the 64 codes.
#pragma once
#include "cpu/kernels/block_bytes.h"
#include "cpu/kernels/block_scales.h"
#include "cpu/kernels/blocks.h"

#if defined(__AVX2__)

namespace heed::cpu::HEED_ISA {
namespace {

// Of the parts of a step: of 16 parts, or of the first 8.
struct StepScales {
  vf scales[16 / kWidth], minima[16 / kWidth] = {};
};

// Loads them from the numbers of 16 parts.
HEED_IN_LOOP StepScales load_scales(const float* scales, const float* minima) {
  StepScales to;
#pragma GCC unroll 2
  for (int i = 0; i < 16 / kWidth; i++) {
    to.scales[i] = load(scales + i * kWidth);
    if (minima) to.minima[i] = load(minima + i * kWidth);
  }
  return to;
}

// Formats with blocks of 32 numbers.
template <BlockKind kind>
struct ShortBlocks {
  static constexpr bool kMinima = false, kPacked = false;
  static constexpr int kPart = 32, kPieces = 0;
  static constexpr int64_t kStepBytes = 8 * block_shape(kind).bytes;

  static HEED_IN_LOOP const uint8_t* at(const uint8_t* from, int i) { return from + i * block_shape(kind).bytes; }

  // The f16 at the beginning of each block.
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    __m128i first, second;
    words_of_blocks<block_shape(kind).bytes>(from, first, second);
    return {{first_lanes(_mm256_cvtph_ps(first))}};
  }
  // The two f16 at the beginning of each block.
  static HEED_IN_LOOP StepScales scales_and_minima(const uint8_t* from) {
    __m128i first, second;
    words_of_blocks<block_shape(kind).bytes>(from, first, second);
    return {{first_lanes(_mm256_cvtph_ps(first))}, {first_lanes(_mm256_cvtph_ps(second))}};
  }
  static HEED_IN_LOOP Bytes half_bytes(const uint8_t* from, int i, int offset) {
    return half_bytes_of(at(from, 2 * i) + offset, at(from, 2 * i + 1) + offset);
  }
  // Adds the fifth bits, of which each block has 32.
  static HEED_IN_LOOP Bytes with_fifths(Bytes codes, const uint8_t* from, int i, int offset) {
    return with_fifths_of(
        codes, read_word<uint32_t>(at(from, 2 * i) + offset) | read_word<uint32_t>(at(from, 2 * i + 1) + offset) << 32);
  }
};

// Formats of ShortBlocks whose codes are half bytes, from `offset` on in a block.
template <BlockKind kind, int offset>
struct HalfBytes : ShortBlocks<kind> {
  static constexpr int kPieces = 2;
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) { return ShortBlocks<kind>::half_bytes(from, i, offset); }
  static HEED_IN_LOOP const uint8_t* piece(const uint8_t* from, int i, int piece) {
    return ShortBlocks<kind>::at(from, 2 * i + piece) + offset;
  }
  static constexpr int word_of(int piece, int part) { return 8 * piece + 4 * part; }
  static HEED_IN_LOOP Bytes piece_codes(Bytes piece, int part) { return half_bytes_at(piece, part); }
};

// A block of 256 numbers.
template <BlockKind kind>
struct LongBlock {
  static constexpr bool kMinima = false, kPacked = packs_scales(kind);
  static constexpr int kPart = 32, kPieces = 0;
  static constexpr int64_t kStepBytes = block_shape(kind).bytes;

  static HEED_IN_LOOP void read_scales(const uint8_t* const* columns, PanelScales& to) {
    read_packed_scales<kind>(columns, to);
  }

  // The 2 bits of numbers 64 i to 64 i + 63: 32 bytes have those of four rows of 32 numbers.
  static HEED_IN_LOOP Bytes pairs_of_bits(const uint8_t* from, int i) {
    const int shift = -4 * (i % 2);
    return bits_of(moved(twice32(from + i / 2 * 32), shift, shift - 2), 3);
  }
};

// A table's numbers of 16 codes, of which `zero` is subtracted.
template <const float (&table)[16], int zero>
HEED_IN_LOOP Bytes looked_up(Bytes codes) {
  struct Table {
    alignas(16) uint8_t of[16];
    constexpr Table() : of() {
      for (int i = 0; i < 16; i++) of[i] = static_cast<uint8_t>(static_cast<int>(table[i]) + zero);
    }
  };
  static constexpr Table bytes;
  return looked_up(bytes.of, codes);
}

template <BlockKind kind>
struct BlockCodes;

template <>
struct BlockCodes<BlockKind::q4_0> : HalfBytes<BlockKind::q4_0, 2> {
  static constexpr int kZero = 8, kMost = 15;
};

template <>
struct BlockCodes<BlockKind::q4_1> : HalfBytes<BlockKind::q4_1, 4> {
  static constexpr int kZero = 0, kMost = 15;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) { return scales_and_minima(from); }
};

template <>
struct BlockCodes<BlockKind::q5_0> : ShortBlocks<BlockKind::q5_0> {
  static constexpr int kZero = 16, kMost = 31;
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    return with_fifths(half_bytes(from, i, 6), from, i, 2);
  }
};

template <>
struct BlockCodes<BlockKind::q5_1> : ShortBlocks<BlockKind::q5_1> {
  static constexpr int kZero = 0, kMost = 31;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) { return scales_and_minima(from); }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    return with_fifths(half_bytes(from, i, 8), from, i, 4);
  }
};

template <>
struct BlockCodes<BlockKind::q8_0> : ShortBlocks<BlockKind::q8_0> {
  static constexpr int kZero = 128, kMost = 255, kPieces = 4;
  static HEED_IN_LOOP const uint8_t* piece(const uint8_t* from, int i, int piece) {
    return at(from, 2 * i + piece / 2) + 2 + piece % 2 * 16;
  }
  static constexpr int word_of(int piece, int) { return 4 * piece; }
  static HEED_IN_LOOP Bytes piece_codes(Bytes piece, int) { return flipped(piece, 128); }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    const __m256i first = load32(at(from, 2 * i) + 2), second = load32(at(from, 2 * i + 1) + 2);
    return flipped(joined(first, second), 128);
  }
};

template <>
struct BlockCodes<BlockKind::q2_k> : LongBlock<BlockKind::q2_k> {
  static constexpr int kZero = 0, kMost = 3, kPart = 16;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16], minima[16];
    q2_k_scales(from, some, minima);
    return load_scales(some, minima);
  }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) { return pairs_of_bits(from + 16, i); }
};

template <>
struct BlockCodes<BlockKind::q3_k> : LongBlock<BlockKind::q3_k> {
  static constexpr int kZero = 4, kMost = 7, kPart = 16;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16];
    q3_k_scales(from, some);
    return load_scales(some, nullptr);
  }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    // Bit r of a byte is the third bit of row r.
    return with_bits(pairs_of_bits(from + 32, i), moved(twice32(from), 2 - 2 * i, 1 - 2 * i), 4);
  }
};

template <>
struct BlockCodes<BlockKind::q4_k> : LongBlock<BlockKind::q4_k> {
  static constexpr int kZero = 0, kMost = 15, kPieces = 2;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP const uint8_t* piece(const uint8_t* from, int i, int piece) {
    return from + 16 + 32 * i + 16 * piece;
  }
  static constexpr int word_of(int piece, int part) { return 4 * piece + 8 * part; }
  static HEED_IN_LOOP Bytes piece_codes(Bytes piece, int part) { return half_bytes_at(piece, part); }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) { return half_bytes_of(from + 16 + 32 * i); }
};

template <>
struct BlockCodes<BlockKind::q5_k> : LongBlock<BlockKind::q5_k> {
  static constexpr int kZero = 0, kMost = 31;
  static constexpr bool kMinima = true;
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    // Bit p of a byte is the fifth bit of part p.
    const Bytes fifth = moved(twice32(from + 16), 4 - 2 * i, 3 - 2 * i);
    return with_bits(half_bytes_of(from + 48 + 32 * i), fifth, 16);
  }
};

template <>
struct BlockCodes<BlockKind::q6_k> : LongBlock<BlockKind::q6_k> {
  static constexpr int kZero = 32, kMost = 63, kPart = 16;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    alignas(64) float some[16];
    q6_k_scales(from, some);
    return load_scales(some, nullptr);
  }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    const Bytes low = load64(from + i / 2 * 64), four = bits_of(i % 2 ? moved(low, -4, -4) : low, 15);
    const int shift = 4 - 4 * (i % 2);  // of the high bits, to bits 4 and 5
    return with_bits(four, moved(twice32(from + 128 + i / 2 * 32), shift, shift - 2), 0x30);
  }
};

template <>
struct BlockCodes<BlockKind::iq4_nl> : HalfBytes<BlockKind::iq4_nl, 2> {
  static constexpr int kZero = 127, kMost = 240;
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    return looked_up<kNonlinear, kZero>(half_bytes(from, i, 2));
  }
  static HEED_IN_LOOP Bytes piece_codes(Bytes piece, int part) {
    return looked_up<kNonlinear, kZero>(half_bytes_at(piece, part));
  }
};

template <>
struct BlockCodes<BlockKind::iq4_xs> : LongBlock<BlockKind::iq4_xs> {
  static constexpr int kZero = 127, kMost = 240;
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
    return {{first_lanes(_mm256_mul_ps(_mm256_set1_ps(half_at(from)), factor))}};
  }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    const uint8_t* const two = from + 8 + 32 * i;
    return looked_up<kNonlinear, kZero>(half_bytes_of(two, two + 16));
  }
};

template <>
struct BlockCodes<BlockKind::mxfp4> : HalfBytes<BlockKind::mxfp4, 1> {
  static constexpr int kZero = 12, kMost = 24;
  static HEED_IN_LOOP StepScales scales(const uint8_t* from) {
    uint64_t exponents = 0;
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) exponents |= read_word<uint8_t>(at(from, i)) << (8 * i);
    const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(exponents));
    return {{mxfp4_scales(widened(bytes))}};
  }
  static HEED_IN_LOOP Bytes codes(const uint8_t* from, int i) {
    return looked_up<kE2M1, kZero>(half_bytes(from, i, 1));
  }
  static HEED_IN_LOOP Bytes piece_codes(Bytes piece, int part) {
    return looked_up<kE2M1, kZero>(half_bytes_at(piece, part));
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
#endif
