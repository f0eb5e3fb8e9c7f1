// Scales and minima that are small integers in blocks of 256 numbers, times the block's f16. They are read for kWidth
// columns at once: with one column at a time they would take as long as the products.
#pragma once
#include "cpu/kernels/block_bytes.h"
#include "cpu/kernels/blocks.h"

#if defined(__AVX2__)

namespace heed::cpu::HEED_ISA {
namespace {

// The scales and minima of a step of kWidth columns: those of a part have the columns in their lanes.
struct alignas(64) PanelScales {
  float scales[16][kWidth], minima[16][kWidth];
};

#if defined(__AVX512F__)

// Returns true if read_packed_scales() has the format: those with 6 bits, as part_scales_and_minima() has them.
constexpr bool packs_scales(BlockKind kind) { return kind == BlockKind::q4_k || kind == BlockKind::q5_k; }

HEED_IN_LOOP void put_one(__m128i bytes, __m512 factor, float* to) {
  _mm512_store_ps(to, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))));
}
HEED_IN_LOOP void put_four(__m512i parts, __m512 factor, float (*to)[16]) {
  put_one(_mm512_castsi512_si128(parts), factor, to[0]);
  put_one(_mm512_extracti32x4_epi32(parts, 1), factor, to[1]);
  put_one(_mm512_extracti32x4_epi32(parts, 2), factor, to[2]);
  put_one(_mm512_extracti32x4_epi32(parts, 3), factor, to[3]);
}
HEED_IN_LOOP void put(__m512i a, __m512i b, __m512 factor, float (*to)[16]) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  put_four(_mm512_permutexvar_epi32(order, _mm512_unpacklo_epi16(a, b)), factor, to);
  put_four(_mm512_permutexvar_epi32(order, _mm512_unpackhi_epi16(a, b)), factor, to + 4);
}

template <BlockKind>
HEED_IN_LOOP void read_packed_scales(const uint8_t* const* columns, PanelScales& to) {
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
  put(_mm512_unpacklo_epi8(bytes[0], bytes[1]), _mm512_unpacklo_epi8(bytes[2], bytes[3]), d, to.scales);
  put(_mm512_unpackhi_epi8(bytes[0], bytes[1]), _mm512_unpackhi_epi8(bytes[2], bytes[3]), dmin, to.minima);
}

#else

constexpr bool packs_scales(BlockKind kind) {
  return kind == BlockKind::q2_k || kind == BlockKind::q3_k || kind == BlockKind::q4_k || kind == BlockKind::q5_k ||
         kind == BlockKind::q6_k;
}

// Sixteen bytes of each of eight columns: of[i] has byte i of all of them. `unpack` makes them from the 16 bytes at
// `offset`, for two columns at a time.
struct PartBytes {
  alignas(32) uint8_t of[16][kWidth];

  template <class Unpack>
  HEED_IN_LOOP PartBytes(const uint8_t* const* columns, int offset, const Unpack& unpack) {
    __m256i both[4];  // columns i and i + 4
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const __m256i first = _mm256_castsi128_si256(load16(columns[i] + offset));
      both[i] = unpack(_mm256_inserti128_si256(first, load16(columns[i + 4] + offset), 1));
    }
    put(_mm256_unpacklo_epi8(both[0], both[1]), _mm256_unpacklo_epi8(both[2], both[3]), of);
    put(_mm256_unpackhi_epi8(both[0], both[1]), _mm256_unpackhi_epi8(both[2], both[3]), of + 8);
  }

 private:
  static HEED_IN_LOOP void put(__m256i a, __m256i b, uint8_t (*to)[kWidth]) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi16(a, b), order));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 4),
                       _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi16(a, b), order));
  }
};

// Widens the two f16 of each word.
HEED_IN_LOOP void halves_of(__m256i words, __m256& first, __m256& second) {
  // Four first ones and four second ones in each half; then all first ones and all second ones.
  const __m256i fours =
      _mm256_packus_epi32(_mm256_and_si256(words, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32(words, 16));
  const __m256i halves = _mm256_permute4x64_epi64(fours, 0xd8);
  first = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
  second = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
}

// The two f16 at `offset` of each of eight columns.
struct ColumnHalves {
  vf first, second;

  HEED_IN_LOOP ColumnHalves(const uint8_t* const* columns, int offset) {
    alignas(32) int32_t words[kWidth];
#pragma GCC unroll 8
    for (int c = 0; c < kWidth; c++) __builtin_memcpy(words + c, columns[c] + offset, sizeof *words);
    __m256 low, high;
    halves_of(_mm256_load_si256(reinterpret_cast<const __m256i*>(words)), low, high);
    first = (vf)low, second = (vf)high;
  }
};

HEED_IN_LOOP __m256i each_column(int a, int b, int c, int d) { return _mm256_setr_epi32(a, b, c, d, a, b, c, d); }

// As part_scales_and_minima() does.
HEED_IN_LOOP __m256i unpacked_six_bits(__m256i heads) {
  const __m256i low = _mm256_srlv_epi32(_mm256_shuffle_epi32(heads, 0xed), each_column(0, 0, 0, 4));
  const __m256i high = _mm256_srli_epi32(_mm256_shuffle_epi32(heads, 0xa5), 2);
  return _mm256_or_si256(_mm256_and_si256(low, each_column(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)),
                         _mm256_and_si256(high, each_column(0, 0x30303030, 0, 0x30303030)));
}
// As q3_k_scales() does, from the last 12 of 14 bytes.
HEED_IN_LOOP __m256i unpacked_q3_k(__m256i ends) {
  const __m256i packed = _mm256_shuffle_epi8(
      ends, _mm256_broadcastsi128_si256(_mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1)));
  const __m256i low = _mm256_srlv_epi32(_mm256_shuffle_epi32(packed, 0x44), each_column(0, 0, 4, 4));
  const __m256i high = _mm256_srlv_epi32(_mm256_shuffle_epi32(packed, 0xaa), each_column(0, 2, 4, 6));
  const __m256i six =
      _mm256_or_si256(_mm256_and_si256(low, all_bytes(15)), _mm256_slli_epi32(_mm256_and_si256(high, all_bytes(3)), 4));
  return _mm256_sub_epi8(six, all_bytes(32));
}

template <BlockKind kind>
HEED_IN_LOOP void read_packed_scales(const uint8_t* const* columns, PanelScales& to) {
  const auto as_they_are = [](__m256i bytes) { return bytes; };
  if constexpr (kind == BlockKind::q4_k || kind == BlockKind::q5_k) {
    const PartBytes bytes(columns, 0, unpacked_six_bits);
    const ColumnHalves d(columns, 0);
    const vf dmin = -d.second;
#pragma GCC unroll 8
    for (int part = 0; part < 8; part++) {
      store(to.scales[part], d.first * floats(bytes_at(bytes.of[part])));
      store(to.minima[part], dmin * floats(bytes_at(bytes.of[8 + part])));
    }
  } else if constexpr (kind == BlockKind::q2_k) {
    const PartBytes bytes(columns, 0, as_they_are);
    const ColumnHalves d(columns, 80);
    const vf dmin = -d.second;
#pragma GCC unroll 16
    for (int part = 0; part < 16; part++) {
      const vi both = bytes_at(bytes.of[part]);
      store(to.scales[part], d.first * floats(both & 15));
      store(to.minima[part], dmin * floats(both >> 4));
    }
  } else {
    constexpr bool q3 = kind == BlockKind::q3_k;
    const PartBytes bytes = [&] {
      if constexpr (q3) return PartBytes(columns, 94, unpacked_q3_k);
      return PartBytes(columns, 192, as_they_are);
    }();
    const vf d = ColumnHalves(columns, q3 ? 106 : 206).second;
#pragma GCC unroll 16
    for (int part = 0; part < 16; part++) store(to.scales[part], d * floats(signed_bytes_at(bytes.of[part])));
  }
}

#endif

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
