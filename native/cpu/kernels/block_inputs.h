// The rows of activations of a product with a weight in blocks, cut into digits (digits.h), as gemm_blocks_row.h and
// gemm_blocks_panels.h read them.
#pragma once
#include "cpu/kernels/digits.h"
#include "cpu/kernels/gemm_blocks.h"

#if defined(HEED_DIGITS)
#include "cpu/kernels/block_codes.h"
#if !defined(HEED_INT8_DOT)
#include "cpu/kernels/pair_dots.h"
#endif

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kChunkInputs = 64, kChunks = kBlockDepth / kChunkInputs, kStepInputs = 32;

// 256 activations of a row in D digits, and what belongs to their parts: 8 of 32 activations, or 16 of 16 activations
// in formats that have a scale for each of these. AVX2 has two digits in one number of 16 bits (pair_dots.h).
template <int D>
struct alignas(64) InputStep {
  int8_t digits[kChunks][D][kChunkInputs];
  float steps[16];
  float sums[16];                     // of the activations, only for formats with minima
  int32_t begin[D == 3 ? 2 : 1][16];  // -zero · ΣX; with three digits, of the first two and of the third
};

// What is constant for a format: the zero of its codes, the numbers of a part, and whether it has minima (then the zero
// is 0).
struct CodeTraits {
  int zero, part;
  bool minima;
};

// The places of a product's rows in its workspace.
template <int D>
struct InputRows {
  int64_t rows, K;
  char* memory;

  int64_t steps() const { return ceil_div(K, kBlockDepth); }  // of a row
  InputStep<D>* row(int64_t i) const { return reinterpret_cast<InputStep<D>*>(memory) + i * steps(); }
  int64_t row_bytes() const { return steps() * static_cast<int64_t>(sizeof(InputStep<D>)); }
};

#if defined(HEED_INT8_DOT)

// Stores the digits of kWidth numbers, which begin at number `at` of a chunk.
template <int D>
HEED_IN_LOOP void put_digits(int8_t (&digits)[D][kChunkInputs], int64_t at, const vi (&cut)[D]) {
  for (int d = 0; d < D; d++) store_digits(digits[d] + at, cut[d]);
}

// Sums of 16 or 32 digits, from the sums of each four of a chunk.
HEED_IN_LOOP __m128i sums_of_parts(__m512i fours, int part) {
  const __m512i two = _mm512_add_epi32(fours, _mm512_shuffle_epi32(fours, _MM_PERM_CDAB));
  const __m512i four = _mm512_add_epi32(two, _mm512_shuffle_epi32(two, _MM_PERM_BADC));
  const __m128i sixteen = _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, four));
  return part == 16 ? sixteen : _mm_shuffle_epi32(_mm_add_epi32(sixteen, _mm_srli_si128(sixteen, 4)), 0x88);
}

// Adds up the numbers of each part of a chunk: by their first two digits, and by their third.
template <int D>
HEED_INT8_TARGET __attribute__((noinline)) void sum_parts(const int8_t (&digits)[D][kChunkInputs], int part,
                                                          int32_t (&lower)[4], int32_t (&third)[4]) {
  const __m512i one = _mm512_set1_epi8(1);
  __m128i sums[D];
  for (int d = 0; d < D; d++)
    sums[d] = sums_of_parts(_mm512_dpbusd_epi32(_mm512_setzero_si512(), one, _mm512_load_si512(digits[d])), part);
  _mm_store_si128(reinterpret_cast<__m128i*>(lower),
                  D == 1 ? sums[0] : _mm_add_epi32(sums[0], _mm_slli_epi32(sums[D > 1], 8)));
  if constexpr (D == 3) _mm_store_si128(reinterpret_cast<__m128i*>(third), sums[2]);
}

// Returns the float of a part's integers, the products of its codes with the first two digits and with the third.
template <int D>
HEED_IN_LOOP __m512 float_of(const __m512i (&sums)[D == 3 ? 2 : 1]) {
  const __m512 lower = _mm512_cvtepi32_ps(sums[0]);
  if constexpr (D < 3) return lower;
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[D == 3]), _mm512_set1_ps(65536), lower);
}

#else

template <int D>
HEED_IN_LOOP void put_digits(int8_t (&digits)[D][kChunkInputs], int64_t at, const vi (&cut)[D]) {
  if constexpr (D == 1) return store_digits(digits[0] + at, cut[0]);
  if constexpr (D == 2) store_pairs(digits[0] + at, digits[1] + at, cut[0] + (cut[1] << 8));
}

template <int D>
HEED_IN_LOOP void sum_parts(const int8_t (&digits)[D][kChunkInputs], int part, int32_t (&lower)[4], int32_t (&)[4]) {
  alignas(32) int32_t fours[kChunkInputs / 4];
  for (int half = 0; half < 2; half++)
    _mm256_store_si256(reinterpret_cast<__m256i*>(fours) + half,
                       dots_of_fours<D>(_mm256_set1_epi8(1), load_digits<D>(digits, 32 * half)));
  for (int& sum : lower) sum = 0;
  for (int i = 0; i < kChunkInputs / 4; i++) lower[4 * i / part] += fours[i];
}

#endif

// Cuts chunk i of a row, each 32 activations with a step of their own, and stores what belongs to its parts.
template <int D>
void cut_chunk(const BlockProduct& p, const CodeTraits& traits, const InputRows<D>& inputs, int64_t row, int64_t i) {
  InputStep<D>& to = inputs.row(row)[i / kChunks];
  int8_t(&digits)[D][kChunkInputs] = to.digits[i % kChunks];
  const int64_t K = p.weight.K, k = i * kChunkInputs;
  float steps[2];
  for (int64_t half = 0; half < 2; half++) {
    const int64_t at = k + half * kStepInputs, end = min_of(K, at + kStepInputs);
    steps[half] = cut_group<D>(p.a, row * K + at, row * K + end, kStepInputs, [&](int64_t j, const vi(&cut)[D]) {
      put_digits<D>(digits, half * kStepInputs + j, cut);
    });
  }
  alignas(16) int32_t lower[4], third[4] = {};
  sum_parts<D>(digits, traits.part, lower, third);
  const int64_t parts = kChunkInputs / traits.part, first = i % kChunks * parts;
  for (int64_t j = 0; j < parts; j++) {
    const float step = steps[j * traits.part / kStepInputs];
    to.steps[first + j] = step;
    to.sums[first + j] = traits.minima ? static_cast<float>(lower[j] + third[j] * 65536) * step : 0;
    to.begin[0][first + j] = -traits.zero * lower[j];
    if constexpr (D == 3) to.begin[1][first + j] = -traits.zero * third[j];
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
