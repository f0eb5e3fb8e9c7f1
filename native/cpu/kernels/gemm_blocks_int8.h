// The product with a weight in blocks by AVX512-VNNI. Digits of the activations (digits.h), of 32 that share a step,
// are multiplied by the codes of the blocks (block_codes.h) exactly.
//
// A column's numbers are consecutive in the file, so K lies in the lanes: a vector has 64 codes, and a lane sums the
// products of four of them with their digits. What the codes exceed the weights by, `zero`, is corrected exactly in
// each lane, by -zero · ΣX, which is computed once for a row of activations. The integer of a lane becomes a float, is
// multiplied by step · scale of its part of 16 numbers, and is added to the lane's sum. The minima of a format are
// multiplied by the sums of the parts' activations. Lanes are added at the end.
//
// Sums of four products of 24 bits with a weight of up to 6 fit into 32 bits. For formats of 8 bits, the third digit's
// sum is a number of its own.
//
// One row is multiplied by codes in registers. For more rows, the codes of a step are decoded into L1. Both ways do the
// same with the same numbers.
//
// An element that is infinite or NaN is computed again in f32, because only then do infinite scales and activations
// meet their signs and zeros one by one.
#pragma once
#include "cpu/kernels/digits.h"
#include "cpu/kernels/gemm_blocks.h"

#if defined(HEED_INT8_DOT)
#include "cpu/kernels/block_codes.h"

namespace heed::cpu::HEED_ISA {
namespace {

// 64 activations of a row: D digits of each, and where the sums of lanes begin.
template <int D>
struct alignas(64) InputChunk {
  int8_t digits[D][64];
  int32_t begin[D == 3 ? 2 : 1][16];  // -zero · ΣX; in formats of 8 bits, of the first two digits and of the third
};
// What belongs to the parts of 16 activations of a step of 256.
struct alignas(64) InputParts {
  float steps[16];
  float sums[16];  // of the activations, only for formats with minima
};
constexpr int64_t kChunkInputs = 64, kChunks = kBlockDepth / kChunkInputs;

// What is constant for a format: the zero of its codes, whether it has minima (then the zero is 0), and whether its
// weights have 8 bits.
struct CodeTraits {
  int zero;
  bool minima, bytes;
};

// The places of a product's rows in its workspace.
template <int D>
struct InputRows {
  int64_t rows, K;
  char* memory;

  int64_t chunks() const { return ceil_div(K, kChunkInputs); }  // of a row
  int64_t steps() const { return ceil_div(K, kBlockDepth); }
  InputChunk<D>* row(int64_t i) const { return reinterpret_cast<InputChunk<D>*>(memory) + i * chunks(); }
  InputParts* parts(int64_t i) const { return reinterpret_cast<InputParts*>(row(rows)) + i * steps(); }
  int64_t row_bytes() const {
    return chunks() * static_cast<int64_t>(sizeof(InputChunk<D>)) + steps() * static_cast<int64_t>(sizeof(InputParts));
  }
};

// Cuts a chunk of a row, and stores what belongs to its four parts.
template <int D>
HEED_INT8_TARGET void cut_chunk(const BlockProduct& p, const CodeTraits& traits, const InputRows<D>& inputs,
                                int64_t row, int64_t i) {
  InputChunk<D>& chunk = inputs.row(row)[i];
  InputParts& parts = inputs.parts(row)[i / kChunks];
  const int64_t K = p.weight.K, k = i * kChunkInputs, part = i % kChunks * 4;
  float group[2];
  for (int64_t half = 0; half < 2; half++) {
    const int64_t at = k + half * 32, first = row * K + at, end = row * K + min_of(K, at + 32);
    group[half] = cut_group<D>(p.a, first, end, 32, [&](int64_t j, const vi(&cut)[D]) {
      for (int d = 0; d < D; d++) store_digits(chunk.digits[d] + half * 32 + j, cut[d]);
    });
  }
  const __m128 steps = _mm_setr_ps(group[0], group[0], group[1], group[1]);
  _mm_store_ps(parts.steps + part, steps);
  const __m512i one = _mm512_set1_epi8(1), zero = _mm512_set1_epi32(-traits.zero);
  __m512i sum[D];  // of four digits
  for (int d = 0; d < D; d++)
    sum[d] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), one, _mm512_load_si512(chunk.digits[d]));
  const __m512i lower = _mm512_add_epi32(sum[0], _mm512_slli_epi32(sum[1], 8));
  const __m512i all = D == 3 ? _mm512_add_epi32(lower, _mm512_slli_epi32(sum[D - 1], 16)) : lower;
  _mm512_store_si512(chunk.begin[0], _mm512_mullo_epi32(traits.bytes ? lower : all, zero));
  if constexpr (D == 3) _mm512_store_si512(chunk.begin[1], _mm512_mullo_epi32(sum[2], zero));
  if (traits.minima) {
    const __m512i two = _mm512_add_epi32(all, _mm512_shuffle_epi32(all, _MM_PERM_CDAB));
    const __m512i four = _mm512_add_epi32(two, _mm512_shuffle_epi32(two, _MM_PERM_BADC));
    const __m128i whole = _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, four));
    _mm_store_ps(parts.sums + part, _mm_mul_ps(_mm_cvtepi32_ps(whole), steps));
  }
  // A row may end within a step.
  if (i + 1 == inputs.chunks())
    for (int64_t after = part + 4; after < 16; after++) parts.steps[after] = parts.sums[after] = 0;
}

// Returns the products of a chunk with 64 codes, four in a lane. Formats with minima have no zero to correct.
template <int D, bool kBytes, bool kMinima>
HEED_INT8_TARGET HEED_IN_LOOP __m512 dots(__m512i codes, const __m512i (&digits)[D], const InputChunk<D>& in) {
  const __m512i zero = _mm512_setzero_si512();
  if constexpr (D == 3 && kBytes) {
    const __m512i first = _mm512_dpbusd_epi32(_mm512_load_si512(in.begin[0]), codes, digits[0]);
    const __m512i third = _mm512_dpbusd_epi32(_mm512_load_si512(in.begin[1]), codes, digits[2]);
    const __m512i second = _mm512_slli_epi32(_mm512_dpbusd_epi32(zero, codes, digits[1]), 8);
    const __m512 lower = _mm512_cvtepi32_ps(_mm512_add_epi32(first, second));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(third), _mm512_set1_ps(65536), lower);
  } else {
    __m512i rest = zero;
    if constexpr (D == 3) rest = _mm512_slli_epi32(_mm512_dpbusd_epi32(rest, codes, digits[2]), 8);
    rest = _mm512_slli_epi32(_mm512_dpbusd_epi32(rest, codes, digits[1]), 8);
    if constexpr (kMinima) return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(rest, codes, digits[0]));
    const __m512i first = _mm512_dpbusd_epi32(_mm512_load_si512(in.begin[0]), codes, digits[0]);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(first, rest));
  }
}
template <int D>
HEED_IN_LOOP void load_digits(__m512i (&digits)[D], const InputChunk<D>& in) {
#pragma GCC unroll 3
  for (int d = 0; d < D; d++) digits[d] = _mm512_load_si512(in.digits[d]);
}

// Spreads the numbers of the parts of chunk i, each over the four lanes that sum the products of a part.
HEED_IN_LOOP __m512 over_lanes(__m512 parts, int i) {
  const __m512i first = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  return _mm512_permutexvar_ps(_mm512_add_epi32(first, _mm512_set1_epi32(4 * i)), parts);
}

// Goes through the steps of a tile's columns.
struct TileSteps {
  const BlockLayout& weight;
  const uint8_t* columns[kColumns];  // the blocks of the current step
  int64_t left;                      // numbers of a column from it on
  const uint8_t* next;               // bytes of a later tile, which are prefetched meanwhile
  uint8_t padded[kColumns][8 * 34];

  TileSteps(const BlockProduct& p, int64_t column, int64_t ahead)
      : weight(p.weight), left(p.weight.K), next(column_at(p, column) + ahead) {
    for (int64_t c = 0; c < kColumns; c++) columns[c] = column_at(p, column + c);
    if (left < kBlockDepth) pad();
  }
  int64_t chunks() const { return min_of(kChunks, ceil_div(left, kChunkInputs)); }
  // Prefetches as many bytes as the current step has, in the order in which they lie in memory.
  HEED_IN_LOOP void prefetch_later_tile(int64_t bytes) {
    prefetch(next, kColumns * bytes);
    next += kColumns * bytes;
  }
  // Goes to the next step. The current one has `bytes`.
  HEED_IN_LOOP void go_on(int64_t bytes) {
#pragma GCC unroll 4
    for (int64_t c = 0; c < kColumns; c++) columns[c] += bytes;
    left -= kBlockDepth;
    if (left < kBlockDepth) pad();
  }

 private:
  // If K ends within a step, zeros stand for the blocks that are missing.
  __attribute__((noinline)) void pad() {
    if (left <= 0) return;
    const size_t bytes = static_cast<size_t>(weight.at(left));
    std::memset(padded, 0, sizeof padded);
    for (int64_t c = 0; c < kColumns; c++) {
      std::memcpy(padded[c], columns[c], bytes);
      columns[c] = padded[c];
    }
  }
};

// sums[c] = the products, in lanes, of a row with four columns.
template <class Format, int D>
HEED_INT8_TARGET __attribute__((noinline)) void multiply_row(const BlockProduct& p, const InputRows<D>& inputs,
                                                             int64_t row, int64_t column, int64_t ahead, float* sums) {
  __m512 sum[kColumns];
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; c++) sum[c] = _mm512_setzero_ps();
  const InputChunk<D>* in = inputs.row(row);
  const InputParts* parts = inputs.parts(row);
  TileSteps step(p, column, ahead);
  for (; step.left > 0; step.go_on(Format::kStepBytes), in += kChunks, parts++) {
    step.prefetch_later_tile(Format::kStepBytes);
    __m512 scales[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) {
      const StepScales some = Format::scales(step.columns[c]);
      scales[c] = _mm512_mul_ps(some.scales, _mm512_load_ps(parts->steps));
      if constexpr (Format::kMinima) sum[c] = _mm512_fmadd_ps(some.minima, _mm512_load_ps(parts->sums), sum[c]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kChunks; i++) {
      if (i * kChunkInputs >= step.left) break;
      __m512i digits[D];
      load_digits<D>(digits, in[i]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; c++) {
        const __m512 products =
            dots<D, Format::kBytes, Format::kMinima>(Format::codes(step.columns[c], i), digits, in[i]);
        sum[c] = _mm512_fmadd_ps(products, over_lanes(scales[c], i), sum[c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; c++) _mm512_store_ps(sums + c * kWidth, sum[c]);
}

// A step of a column, decoded.
struct ColumnCodes {
  alignas(64) uint8_t codes[kBlockDepth];
  alignas(64) float scales[16], minima[16];
};

template <class Format>
void decode_step(const TileSteps& step, ColumnCodes* to) {
  for (int64_t c = 0; c < kColumns; c++) {
    const StepScales some = Format::scales(step.columns[c]);
    _mm512_store_ps(to[c].scales, some.scales);
    if constexpr (Format::kMinima) _mm512_store_ps(to[c].minima, some.minima);
#pragma GCC unroll 4
    for (int i = 0; i < kChunks; i++)
      if (i * kChunkInputs < step.left) _mm512_store_si512(to[c].codes + 64 * i, Format::codes(step.columns[c], i));
  }
}

// Adds to sums[r][c], in lanes, the products of a step of R rows with four columns.
template <int D, bool kBytes, bool kMinima, int R>
HEED_INT8_TARGET __attribute__((noinline)) void multiply_step(const InputRows<D>& inputs, int64_t row, int64_t k,
                                                              const ColumnCodes* columns, int64_t chunks, float* sums) {
  const InputChunk<D>* in[R];
  const InputParts* parts[R];
  __m512 sum[R][kColumns];
  alignas(64) float scales[R][kColumns][16];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    in[r] = inputs.row(row + r) + k / kChunkInputs;
    parts[r] = inputs.parts(row + r) + k / kBlockDepth;
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) {
      const __m512 steps = _mm512_load_ps(parts[r]->steps);
      _mm512_store_ps(scales[r][c], _mm512_mul_ps(_mm512_load_ps(columns[c].scales), steps));
      sum[r][c] = _mm512_load_ps(sums + (r * kColumns + c) * kWidth);
      if constexpr (kMinima)
        sum[r][c] = _mm512_fmadd_ps(_mm512_load_ps(columns[c].minima), _mm512_load_ps(parts[r]->sums), sum[r][c]);
    }
  }
  for (int64_t i = 0; i < chunks; i++) {
    __m512i codes[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) codes[c] = _mm512_load_si512(columns[c].codes + 64 * i);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      __m512i digits[D];
      load_digits<D>(digits, in[r][i]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; c++)
        sum[r][c] = _mm512_fmadd_ps(dots<D, kBytes, kMinima>(codes[c], digits, in[r][i]),
                                    over_lanes(_mm512_load_ps(scales[r][c]), static_cast<int>(i)), sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) _mm512_store_ps(sums + (r * kColumns + c) * kWidth, sum[r][c]);
}

// What a format has of its own.
template <int D>
struct BlockMethod {
  CodeTraits traits;
  int64_t step_bytes;
  void (*multiply_row)(const BlockProduct& p, const InputRows<D>& inputs, int64_t row, int64_t column, int64_t ahead,
                       float* sums);
  void (*decode_step)(const TileSteps& step, ColumnCodes* to);
  void (*multiply_step[3])(const InputRows<D>& inputs, int64_t row, int64_t k, const ColumnCodes* columns,
                           int64_t chunks, float* sums);  // of 1, 2 and 4 rows

  explicit BlockMethod(BlockKind kind) {
    with_codes(kind, [&](auto format) {
      using Format = decltype(format);
      constexpr bool bytes = D == 3 && Format::kBytes;
      traits = {Format::kZero, Format::kMinima, Format::kBytes};
      step_bytes = Format::kStepBytes;
      multiply_row = &HEED_ISA::multiply_row<Format, D>;
      decode_step = &HEED_ISA::decode_step<Format>;
      multiply_step[0] = &HEED_ISA::multiply_step<D, bytes, Format::kMinima, 1>;
      multiply_step[1] = &HEED_ISA::multiply_step<D, bytes, Format::kMinima, 2>;
      multiply_step[2] = &HEED_ISA::multiply_step<D, bytes, Format::kMinima, 4>;
    });
  }
};

// The same for many rows from `first` on.
template <int D>
inline void multiply_rows(const BlockProduct& p, const BlockMethod<D>& method, const InputRows<D>& inputs,
                          int64_t first, int64_t count, int64_t column, int64_t ahead, float* sums) {
  ColumnCodes columns[kColumns];
  std::memset(sums, 0, static_cast<size_t>(count * kColumns * kWidth) * sizeof(float));
  TileSteps step(p, column, ahead);
  for (int64_t k = 0; step.left > 0; step.go_on(method.step_bytes), k += kBlockDepth) {
    step.prefetch_later_tile(method.step_bytes);
    method.decode_step(step, columns);
    int64_t r = 0;
    for (const int rows : {4, 2, 1})
      for (; r + rows <= count; r += rows)
        method.multiply_step[rows / 2](inputs, first + r, k, columns, step.chunks(), sums + r * kColumns * kWidth);
  }
}

// Returns an element's sum over K in f32.
inline float sum_of_floats(const BlockProduct& p, int64_t row, int64_t column) {
  const BlockLayout& w = p.weight;
  const Decoder decoder = decoder_of(w.kind);
  alignas(64) float numbers[kBlockDepth];
  vf sum{};
  for (int64_t k = 0; k < w.K; k += kBlockDepth) {
    const int64_t n = min_of<int64_t>(kBlockDepth, w.K - k);
    decoder(column_at(p, column) + w.at(k), n / w.numbers(), numbers);
    for (int64_t j = 0; j < n; j += kWidth)
      sum = fma(load_floats(p.a, row * w.K + k + j, n - j), load(numbers + j), sum);
  }
  return hsum(sum);
}

inline void finish_row(const BlockProduct& p, int64_t row, int64_t column, const float* sums) {
  vf sum = sums_of_lanes(sums);
  for (int64_t c = 0; c < min_of(kColumns, p.weight.N - column); c++)
    if (!std::isfinite(sum[c])) sum[c] = sum_of_floats(p, row, column + c);
  finish(p, row, column, sum, kColumns);
}

template <int D>
inline void multiply_digits(const BlockProduct& p, char* memory) {
  const InputRows<D> inputs{p.rows, p.weight.K, memory};
  const BlockMethod<D> method(p.weight.kind);
  const int64_t chunks = inputs.chunks();
  parallel_for(p.rows * chunks, 128, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) cut_chunk(p, method.traits, inputs, i / chunks, i % chunks);
  });
  over_runs(p, 4, inputs.row_bytes(), [&](int64_t first, int64_t count, int64_t column, int64_t ahead) {
    alignas(64) float sums[kMostRows * kColumns * kWidth];
    if (count == 1)
      method.multiply_row(p, inputs, first, column, ahead, sums);
    else
      multiply_rows(p, method, inputs, first, count, column, ahead, sums);
    for (int64_t r = 0; r < count; r++) finish_row(p, first + r, column, sums + r * kColumns * kWidth);
  });
}

// f32 takes three digits, bf16 and f16 take two.
inline int64_t digit_bytes(const BlockProduct& p) {
  return p.rows * (p.a.dtype == DType::f32 ? InputRows<3>{p.rows, p.weight.K, nullptr}.row_bytes()
                                           : InputRows<2>{p.rows, p.weight.K, nullptr}.row_bytes());
}
inline void multiply_bytes(const BlockProduct& p, void* memory) {
  p.a.dtype == DType::f32 ? multiply_digits<3>(p, static_cast<char*>(memory))
                          : multiply_digits<2>(p, static_cast<char*>(memory));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
