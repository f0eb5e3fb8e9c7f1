// Vectors of 64 bytes, in which block_codes.h decodes codes: a register of AVX-512, or two of AVX2.
#pragma once
#include "cpu/kernels/in_loop.h"
#include "cpu/kernels/kernel.h"

#if defined(__AVX2__)

namespace heed::cpu::HEED_ISA {
namespace {

HEED_IN_LOOP __m128i load16(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
HEED_IN_LOOP __m256i load32(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// Reads bits in a way that the compiler does not make vectors of.
template <class T>
HEED_IN_LOOP uint64_t read_word(const uint8_t* p) {
  T bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  uint64_t wide = bits;
  __asm__("" : "+r"(wide));
  return wide;
}

#if defined(__AVX512F__)

using Bytes = __m512i;

HEED_IN_LOOP Bytes joined(__m256i first, __m256i second) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}
HEED_IN_LOOP Bytes load64(const uint8_t* p) { return _mm512_loadu_si512(p); }
HEED_IN_LOOP Bytes twice32(const uint8_t* p) { return _mm512_broadcast_i64x4(load32(p)); }
HEED_IN_LOOP Bytes all_bytes(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
HEED_IN_LOOP Bytes bits_of(Bytes x, int mask) { return _mm512_and_si512(x, all_bytes(mask)); }
HEED_IN_LOOP Bytes flipped(Bytes x, int mask) { return _mm512_xor_si512(x, all_bytes(mask)); }
// Returns x, with the bits of y under the mask.
HEED_IN_LOOP Bytes with_bits(Bytes x, Bytes y, int mask) {
  return _mm512_ternarylogic_epi64(x, y, all_bytes(mask), 0xf8);
}
// Moves the bits of the first 32 bytes up by `low` and those of the last 32 by `high`, or down if it is negative. Bits
// that leave their byte are for the caller to mask.
HEED_IN_LOOP Bytes moved(Bytes x, int low, int high) {
  low &= 63, high &= 63;
  return _mm512_rolv_epi64(x, _mm512_set_epi64(high, high, high, high, low, low, low, low));
}
// The lower halves of bytes (0) or the upper ones (1).
HEED_IN_LOOP Bytes half_bytes_at(Bytes x, int upper) { return bits_of(_mm512_srli_epi64(x, 4 * upper), 15); }
// Adds 16 to the bytes whose bit is set.
HEED_IN_LOOP Bytes with_fifths_of(Bytes codes, uint64_t bits) {
  return _mm512_mask_add_epi8(codes, bits, codes, all_bytes(16));
}
HEED_IN_LOOP Bytes looked_up(const uint8_t* table, Bytes codes) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load16(table)), codes);
}
// 64 codes of 4 bits, from two times 16 bytes or from 32.
HEED_IN_LOOP Bytes half_bytes_of(const uint8_t* first, const uint8_t* second) {
  const __m512i both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load16(first)), 0xff00, load16(second));
  return bits_of(_mm512_srlv_epi64(both, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), 15);
}
HEED_IN_LOOP Bytes half_bytes_of(const uint8_t* from) {
  return bits_of(_mm512_srlv_epi64(twice32(from), _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0)), 15);
}

// Turns 16 bytes of each of sixteen columns: lane c of words[w] gets bytes 4 w to 4 w + 3 of column c. piece(column) is
// where a column has them.
template <class Piece>
HEED_IN_LOOP void turn_pieces(const uint8_t* const* columns, const Piece& piece, Bytes (&words)[4]) {
  __m512i fours[4];  // of columns i, i + 4, i + 8 and i + 12
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    fours[i] = _mm512_castsi128_si512(load16(piece(columns[i])));
    fours[i] = _mm512_inserti32x4(fours[i], load16(piece(columns[i + 4])), 1);
    fours[i] = _mm512_inserti32x4(fours[i], load16(piece(columns[i + 8])), 2);
    fours[i] = _mm512_inserti32x4(fours[i], load16(piece(columns[i + 12])), 3);
  }
  const __m512i low[2] = {_mm512_unpacklo_epi32(fours[0], fours[1]), _mm512_unpacklo_epi32(fours[2], fours[3])};
  const __m512i high[2] = {_mm512_unpackhi_epi32(fours[0], fours[1]), _mm512_unpackhi_epi32(fours[2], fours[3])};
  words[0] = _mm512_unpacklo_epi64(low[0], low[1]);
  words[1] = _mm512_unpackhi_epi64(low[0], low[1]);
  words[2] = _mm512_unpacklo_epi64(high[0], high[1]);
  words[3] = _mm512_unpackhi_epi64(high[0], high[1]);
}

// Takes words of 16 bits out of 128 bytes: word i < n of the result is at byte i · stride + `first`, and word 4 + i two
// bytes further on.
template <int first, int stride, int n>
HEED_IN_LOOP __m128i words_of(const uint8_t* from) {
  struct Places {
    alignas(16) int16_t of[8];
    constexpr Places() : of() {
      for (int i = 0; i < n; i++) {
        of[i] = (first + i * stride) / 2;
        if (n == 4) of[4 + i] = of[i] + 1;
      }
    }
  };
  static constexpr Places places;
  static_assert(first + (n - 1) * stride + (n == 4 ? 4 : 2) <= 128 && first % 2 == 0 && stride % 2 == 0,
                "the words are in the bytes");
  const __m512i chosen = _mm512_castsi128_si512(_mm_load_si128(reinterpret_cast<const __m128i*>(places.of)));
  return _mm512_castsi512_si128(_mm512_permutex2var_epi16(load64(from), chosen, load64(from + 64)));
}
// The first words of 16 bits of eight blocks of so many bytes, and the second ones, which are not read if the first
// ones lie together in 128 bytes: such blocks have no second number.
template <int bytes>
HEED_IN_LOOP void words_of_blocks(const uint8_t* from, __m128i& first, __m128i& second) {
  if constexpr (7 * bytes + 2 <= 128) {
    first = words_of<0, bytes, 8>(from);
    second = _mm_setzero_si128();
  } else {
    // The second 128 bytes end within the blocks.
    constexpr int begin = 4 * bytes < 8 * bytes - 128 ? 4 * bytes : 8 * bytes - 128;
    const __m128i low = words_of<0, bytes, 4>(from), high = words_of<4 * bytes - begin, bytes, 4>(from + begin);
    first = _mm_unpacklo_epi64(low, high);
    second = _mm_unpackhi_epi64(low, high);
  }
}

// Eight floats, in the lower half of a vector that is wider, and bytes as integers.
HEED_IN_LOOP vf first_lanes(__m256 x) { return (vf)_mm512_castps256_ps512(x); }
HEED_IN_LOOP vi widened(__m128i bytes) { return (vi)_mm512_cvtepu8_epi32(bytes); }

#else

struct Bytes {
  __m256i of[2];
};

HEED_IN_LOOP Bytes joined(__m256i first, __m256i second) { return {{first, second}}; }
HEED_IN_LOOP Bytes load64(const uint8_t* p) { return {{load32(p), load32(p + 32)}}; }
HEED_IN_LOOP Bytes twice32(const uint8_t* p) { return {{load32(p), load32(p)}}; }
HEED_IN_LOOP __m256i all_bytes(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
HEED_IN_LOOP Bytes bits_of(const Bytes& x, int mask) {
  return {{_mm256_and_si256(x.of[0], all_bytes(mask)), _mm256_and_si256(x.of[1], all_bytes(mask))}};
}
HEED_IN_LOOP Bytes flipped(const Bytes& x, int mask) {
  return {{_mm256_xor_si256(x.of[0], all_bytes(mask)), _mm256_xor_si256(x.of[1], all_bytes(mask))}};
}
HEED_IN_LOOP Bytes with_bits(const Bytes& x, const Bytes& y, int mask) {
  const Bytes bits = bits_of(y, mask);
  return {{_mm256_or_si256(x.of[0], bits.of[0]), _mm256_or_si256(x.of[1], bits.of[1])}};
}
HEED_IN_LOOP __m256i moved(__m256i x, int by) { return by < 0 ? _mm256_srli_epi64(x, -by) : _mm256_slli_epi64(x, by); }
HEED_IN_LOOP Bytes moved(const Bytes& x, int low, int high) { return {{moved(x.of[0], low), moved(x.of[1], high)}}; }
HEED_IN_LOOP Bytes half_bytes_at(const Bytes& x, int upper) { return bits_of(moved(x, -4 * upper, -4 * upper), 15); }
HEED_IN_LOOP __m256i with_fifths_of(__m256i codes, uint32_t bits) {
  // Each byte gets the byte with its bit, and all bits but its own are set: what is all ones has the bit.
  const __m256i eight = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i own = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int32_t>(bits)), eight);
  const __m256i others = _mm256_set1_epi64x(0x7fbfdfeff7fbfdfe);
  const __m256i set = _mm256_cmpeq_epi8(_mm256_or_si256(own, others), _mm256_set1_epi8(-1));
  return _mm256_or_si256(codes, _mm256_and_si256(set, all_bytes(16)));
}
HEED_IN_LOOP Bytes with_fifths_of(const Bytes& codes, uint64_t bits) {
  return {{with_fifths_of(codes.of[0], static_cast<uint32_t>(bits)),
           with_fifths_of(codes.of[1], static_cast<uint32_t>(bits >> 32))}};
}
HEED_IN_LOOP Bytes looked_up(const uint8_t* table, const Bytes& codes) {
  const __m256i numbers = _mm256_broadcastsi128_si256(load16(table));
  return {{_mm256_shuffle_epi8(numbers, codes.of[0]), _mm256_shuffle_epi8(numbers, codes.of[1])}};
}
HEED_IN_LOOP __m256i half_bytes_of_16(const uint8_t* from) {
  return _mm256_srlv_epi64(_mm256_broadcastsi128_si256(load16(from)), _mm256_set_epi64x(4, 4, 0, 0));
}
HEED_IN_LOOP Bytes half_bytes_of(const uint8_t* first, const uint8_t* second) {
  return bits_of({{half_bytes_of_16(first), half_bytes_of_16(second)}}, 15);
}
HEED_IN_LOOP Bytes half_bytes_of(const uint8_t* from) { return bits_of(moved(twice32(from), 0, -4), 15); }

template <int bytes>
HEED_IN_LOOP void words_of_blocks(const uint8_t* from, __m128i& first, __m128i& second) {
  // They are put together outside vectors, which have enough to do.
  uint64_t low[2] = {}, high[2] = {};
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    low[i / 4] |= read_word<uint16_t>(from + i * bytes) << (i % 4 * 16);
    high[i / 4] |= read_word<uint16_t>(from + i * bytes + 2) << (i % 4 * 16);
  }
  first = _mm_set_epi64x(static_cast<int64_t>(low[1]), static_cast<int64_t>(low[0]));
  second = _mm_set_epi64x(static_cast<int64_t>(high[1]), static_cast<int64_t>(high[0]));
}

HEED_IN_LOOP vf first_lanes(__m256 x) { return (vf)x; }
HEED_IN_LOOP vi widened(__m128i bytes) { return (vi)_mm256_cvtepu8_epi32(bytes); }

#endif

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
