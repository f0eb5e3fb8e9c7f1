// The product with a weight in blocks by AVX512-VNNI or AVX2. Digits of the activations (digits.h), of 32 that share a
// step, are multiplied by the codes of the blocks (block_codes.h) exactly.
//
// An element is defined by its parts, the 16 or 32 numbers that share a scale. The products of a part's codes with the
// first two digits of its activations, and with the third, are two exact integers, which are one float together. What
// the codes exceed the weights by, `zero`, is corrected in the integers, by -zero · ΣX, which is computed once for a
// row. The float times step · scale is added to the element, part after part in the order of K, and then the part's
// minimum times the sum of its activations. Whether lanes hold K or columns makes no difference to the bits: one row is
// multiplied by codes as they lie in the file (gemm_blocks_row.h), more rows by panels (gemm_blocks_panels.h), sixteen
// by the matrix unit if there is one (gemm_blocks_tiles.h). AVX2 has both ways in gemm_blocks_pairs.h, with the same
// bits. It multiplies numbers of 16 bits as fast as bytes by codes of 8 bits, so that these have two digits at least;
// three digits would be no faster than f32.
//
// An element that is infinite or NaN is computed again in f32, because only then do infinite scales and activations
// meet their signs and zeros one by one.
#pragma once
#include "cpu/isa.h"
#include "cpu/kernels/gemm_blocks_pairs.h"
#include "cpu/kernels/gemm_blocks_tiles.h"

#if defined(HEED_DIGITS)

namespace heed::cpu::HEED_ISA {
namespace {

// Returns how many digits the activations of a product in so many bits are cut into, or 0 if f32 is as fast.
inline int64_t digits_of(const BlockProduct& p, int64_t bits) {
  const int64_t digits = digits_of(p.a, bits);
#if defined(HEED_INT8_DOT)
  return int8_dot() ? digits : 0;
#else
  bool fits = false;
  with_codes(p.weight.kind, [&](auto format) { fits = multiplies<decltype(format), 1>(); });
  return digits == 3 ? 0 : fits ? digits : 2;
#endif
}

// What a format has of its own.
template <int D>
struct BlockMethod {
  using MultiplyStep = void (*)(const InputStep<D>* in, int64_t stride, const CodePanel* panels, int64_t parts,
                                float (*sums)[kTileColumns]);

  CodeTraits traits;
  int64_t step_bytes;
  vf (*multiply_row)(const BlockProduct& p, const InputRows<D>& inputs, int64_t row, int64_t column, int64_t ahead);
  void (*fill_panels)(const TileSteps<kTileColumns>& step, CodePanel* panels);
  MultiplyStep multiply_steps[4];         // of 1, 2, 4 and 8 rows
  MultiplyStep multiply_tiles = nullptr;  // of 16 rows; null if the machine has no matrix unit
  void (*shape_tiles)() = nullptr;

  explicit BlockMethod(BlockKind kind) {
    with_codes(kind, [&](auto format) {
      using Format = decltype(format);
      if constexpr (multiplies<Format, D>()) {
        traits = {Format::kZero, Format::kPart, Format::kMinima};
        step_bytes = Format::kStepBytes;
        multiply_row = &HEED_ISA::multiply_row<Format, D>;
        fill_panels = &HEED_ISA::fill_panels<Format, D>;
        multiply_steps[0] = step_of<Format, D, 1>;
        multiply_steps[1] = step_of<Format, D, 2>;
        multiply_steps[2] = step_of<Format, D, 4>;
        multiply_steps[3] = step_of<Format, D, kStepRows<D>>;
#if defined(HEED_INT8_DOT)
        multiply_tiles = int8_tiles() ? &HEED_ISA::multiply_tiles<D, Format::kPart, Format::kMinima> : nullptr;
        shape_tiles = &HEED_ISA::shape_tiles<D, Format::kPart>;
#endif
      }
    });
  }
};

inline bool all_finite(vf x) {
  const vf zeros = x - x;  // NaN if a number is not finite
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)zeros, _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xffff;
#else
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)zeros, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xff;
#endif
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

inline void finish_columns(const BlockProduct& p, int64_t row, int64_t column, vf sum) {
  if (!all_finite(sum))
    for (int64_t c = 0; c < min_of<int64_t>(kWidth, p.weight.N - column); c++)
      if (!std::isfinite(sum[c])) sum[c] = sum_of_floats(p, row, column + c);
  finish(p, row, column, sum);
}

// Prefetches what finish_columns() reads and writes for a tile's columns of a row.
inline void prefetch_outputs(const BlockProduct& p, int64_t row, int64_t column) {
  const int64_t n = min_of(kTileColumns, p.weight.N - column), at = row * p.weight.N + column;
  const auto lines = [&](const TensorView& x, auto write) {
    const int64_t size = static_cast<int64_t>(size_of(x.dtype));
    const char* const begin = x.ptr<char>() + at * size;
    for (int64_t byte = 0; byte < n * size; byte += 64) __builtin_prefetch(begin + byte, write.value);
  };
  if (p.residual.data) lines(p.residual, std::integral_constant<int, 0>{});
  lines(p.out, std::integral_constant<int, 1>{});
}

// Computes `count` rows from `first` on by the columns of one tile. A few rows are finished as soon as their sums are
// complete, and what they read and write was prefetched while the rows before them were multiplied: the rows of a tile
// lie so far apart in memory that each would miss the cache, and together they would push each other out of it.
template <int D>
inline void multiply_rows(const BlockProduct& p, const BlockMethod<D>& method, const InputRows<D>& inputs,
                          int64_t first, int64_t count, int64_t column, int64_t ahead, float (*sums)[kTileColumns]) {
  CodePanel panels[kPanels];
  const bool tiles = method.multiply_tiles && count >= kRegisterRows;
  if (tiles) method.shape_tiles();
  std::memset(sums, 0, static_cast<size_t>(count) * sizeof *sums);
  const auto finish_rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      for (int64_t c = 0; c < kTileColumns && column + c < p.weight.N; c += kWidth)
        finish_columns(p, first + r, column + c, load(sums[r] + c));
  };
  if (p.weight.K == 0) finish_rows(0, count);
  TileSteps<kTileColumns> step(p, column, ahead);
  for (int64_t i = 0; step.left > 0; step.go_on(method.step_bytes), i++) {
    step.prefetch_later_tile(method.step_bytes);
    method.fill_panels(step, panels);
    const bool last = step.left <= kBlockDepth;
    const int64_t parts = min_of<int64_t>(kBlockDepth, step.left) / method.traits.part;
    int64_t r = 0;
    const auto multiply_some = [&](typename BlockMethod<D>::MultiplyStep multiply, int64_t rows) {
      for (; r + rows <= count; r += rows) {
        if (last)
          for (int64_t next = r + rows; next < min_of(r + 2 * rows, count); next++)
            prefetch_outputs(p, first + next, column);
        multiply(inputs.row(first + r) + i, inputs.row_bytes(), panels, parts, sums + r);
        if (last) finish_rows(r, r + rows);
      }
    };
    if (tiles) multiply_some(method.multiply_tiles, kRegisterRows);
    for (int size = kStepRows<D> == 8 ? 3 : 2; size >= 0; size--)
      multiply_some(method.multiply_steps[size], int64_t{1} << size);
  }
  if (tiles) release_tiles();
}

template <int D>
inline void multiply_digits(const BlockProduct& p, char* memory) {
  const InputRows<D> inputs{p.rows, p.weight.K, memory};
  const BlockMethod<D> method(p.weight.kind);
  const int64_t chunks = ceil_div(p.weight.K, kChunkInputs);
  parallel_for(p.rows * chunks, 128, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) cut_chunk(p, method.traits, inputs, i / chunks, i % chunks);
  });
  if (p.rows == 1)
    return over_runs(p, kWidth, 1, 1, inputs.row_bytes(), [&](int64_t, int64_t, int64_t column, int64_t ahead) {
      finish_columns(p, 0, column, method.multiply_row(p, inputs, 0, column, ahead));
    });
  constexpr int64_t kMostRows = 256;
  over_runs(p, kTileColumns, 8, kMostRows, inputs.row_bytes(),
            [&](int64_t first, int64_t count, int64_t column, int64_t ahead) {
              alignas(64) float sums[kMostRows][kTileColumns];
              multiply_rows(p, method, inputs, first, count, column, ahead, sums);
            });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
