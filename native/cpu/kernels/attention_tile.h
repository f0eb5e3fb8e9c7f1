// The arithmetic of attention's tiles in a transposed form: a tile of scores is kept as S^T [keys, queries], with
// queries along the lanes. Then keys and values are only read as scalars to broadcast, straight from their rows.
// Maximum, sum and rescaling of the softmax run down the columns without a step across lanes, and every product of
// forward and backward is one function, `product`. Only the block of queries and its output are transposed.
#pragma once
#include "cpu/kernels/attention_keys.h"
#include "cpu/kernels/transpose.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Accumulators of `product`: kRegisterRows · kRegisterVectors of the 32 (AVX-512, NEON) or 16 registers; the rest hold
// operands.
constexpr int kRegisterRows = 4;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRegisterVectors = 4;
#elif defined(__AVX2__)
constexpr int kRegisterVectors = 3;
#else
constexpr int kRegisterVectors = 2;
#endif

constexpr float kLog2E = 1.44269504088896341f;

// What becomes of a product's sums. They are written, by a factor as Words takes it; or added to what is there, so that
// they begin at 0: sums of sums round less than one long sum; or they go on from it, term by term, as if earlier terms
// and these were one product.
enum class Sums { written, added, continued };

// out[r, c] = Σ_n a[r, n] · b[n, c] for R rows and C vectors of columns.
template <class Words, int R, int C>
__attribute__((noinline, aligned(64))) void register_product(const float* a, int64_t a_row, int64_t a_column,
                                                             const float* b, int64_t ldb, int64_t depth, float* out,
                                                             int64_t ldo, Sums sums, float factor) {
  vf sum[R][C] = {};
  if (sums == Sums::continued)
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int c = 0; c < C; c++) sum[r][c] = load(out + r * ldo + c * kWidth);
  for (int64_t n = 0; n < depth; n++) {
    vf right[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) right[c] = load(b + n * ldb + c * kWidth);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf left = Words::broadcast(a + r * a_row + n * a_column);
#pragma GCC unroll 4
      for (int c = 0; c < C; c++) sum[r][c] = Words::multiply_add(left, right[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) {
      float* p = out + r * ldo + c * kWidth;
      if (sums == Sums::added)
        store(p, load(p) + sum[r][c]);
      else
        store(p, sums == Sums::written ? Words::scale_sum(sum[r][c], factor) : sum[r][c]);
    }
}

template <class Words, int C>
inline void product_strip(int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_column, const float* b,
                          int64_t ldb, float* out, int64_t ldo, Sums sums, float factor) {
  const auto rows_from = [&](int64_t r, auto kernel) {
    kernel(a + r * a_row, a_row, a_column, b, ldb, depth, out + r * ldo, ldo, sums, factor);
  };
  int64_t r = 0;
  for (; r + kRegisterRows <= rows; r += kRegisterRows) rows_from(r, register_product<Words, kRegisterRows, C>);
  if (rows - r == 3) rows_from(r, register_product<Words, 3, C>);
  if (rows - r == 2) rows_from(r, register_product<Words, 2, C>);
  if (rows - r == 1) rows_from(r, register_product<Words, 1, C>);
}

// out[rows, vectors] (+)= a[rows, depth] · b[depth, vectors], with depth in words. a has any strides; b and out are
// rows of whole vectors.
template <class Words = F32Words>
inline void product(int64_t rows, int64_t vectors, int64_t depth, const float* a, int64_t a_row, int64_t a_column,
                    const float* b, int64_t ldb, float* out, int64_t ldo, Sums sums, float factor = 1) {
  while (vectors > 0) {
    // If registers hold three vectors, four are better cut into 2 + 2 than into 3 + 1.
    const int64_t strip =
        vectors == kRegisterVectors + 1 ? (vectors + 1) / 2 : min_of<int64_t>(vectors, kRegisterVectors);
    const auto run = [&](auto kernel) { kernel(rows, depth, a, a_row, a_column, b, ldb, out, ldo, sums, factor); };
    if constexpr (kRegisterVectors >= 4)
      if (strip == 4) run(product_strip<Words, 4>);
    if constexpr (kRegisterVectors >= 3)
      if (strip == 3) run(product_strip<Words, 3>);
    if (strip == 2) run(product_strip<Words, 2>);
    if (strip == 1) run(product_strip<Words, 1>);
    vectors -= strip;
    b += strip * kWidth;
    out += strip * kWidth;
  }
}

// e^x for x below 88, to 2 ulp, where subnormal numbers are flushed. It is 0 if e^x is below the smallest normal
// number, and a NaN stays NaN. It does less than vexp, because a softmax needs no care for overflow. x = n ln 2 + r,
// and e^r is 1 + r · (…), minimax in the relative error.
inline vf exp_nonpositive(vf x) {
#if defined(__AVX512F__)
  const vf clamped =
      (vf)_mm512_max_ps((__m512)set1(-150.0f), (__m512)x);  // the second argument, so that the result is NaN if x is
  const vf n =
      (vf)_mm512_roundscale_ps((__m512)(clamped * set1(kLog2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const vf lowest = set1(-87.33654f), clamped = vmax(lowest, x);
  const vf n = round_even(clamped * set1(kLog2E));
#endif
  vf r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440e-4f), r);
  vf p = set1(1.38436444e-3f);
  p = fma(p, r, set1(8.37416388e-3f));
  p = fma(p, r, set1(4.16680016e-2f));
  p = fma(p, r, set1(0.166664317f));
  p = fma(p, r, set1(0.49999994f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const vi exponent = (__builtin_convertvector(n, vi) + set1i(127)) << 23;
  return select(x < lowest, vf{}, p * (vf)exponent);
#endif
}

// out[words, kBlockQueries] = the n given rows of D elements, as words, transposed. Lanes of rows that do not exist get
// 0.
template <class Words>
inline void pack_transposed(float* out, const char* const* rows, int64_t n, DType dtype, int64_t D, float factor) {
  for (int64_t i = 0; i < n; i += kWidth)
    for (int64_t d = 0; d < words_of<Words>(D); d += kWidth) {
      vf x[kWidth];
      for (int w = 0; w < kWidth; w++) {
        x[w] = i + w < n ? Words::scale_words(read_words<Words>(rows[i + w], dtype, d, D), factor) : vf{};
      }
      transpose(x);
      const int64_t count = min_of<int64_t>(kWidth, words_of<Words>(D) - d);
      for (int64_t w = 0; w < count; w++) store(out + (d + w) * kBlockQueries + i, x[w]);
    }
}

// The n given rows of D elements = inp[D, kBlockQueries], transposed, with column i times factor[i].
inline void unpack_transposed(char* const* rows, DType dtype, const float* inp, int64_t n, int64_t D,
                              const float* factor) {
  for (int64_t i = 0; i < n; i += kWidth)
    for (int64_t d = 0; d < D; d += kWidth) {
      const int64_t count = min_of<int64_t>(kWidth, D - d);
      vf x[kWidth];
      for (int64_t w = 0; w < kWidth; w++)
        x[w] = w < count ? load(inp + (d + w) * kBlockQueries + i) * load(factor + i) : vf{};
      transpose(x);
      with_float_type(dtype, [&](auto element) {
        for (int64_t w = 0; w < kWidth && i + w < n; w++)
          write(reinterpret_cast<decltype(element)*>(rows[i + w]) + d, x[w], count);
      });
    }
}

// out[D] = inp[D] · factor, for any float types; with `padded`, zeros follow up to a whole vector.
template <class To, class From>
inline void copy_row(To* out, const From* inp, int64_t D, float factor, bool padded) {
  for (int64_t d = 0; d < D; d += kWidth) write(out + d, read(inp + d, D - d) * set1(factor), padded ? kWidth : D - d);
}
inline void read_row(float* out, const char* row, DType dtype, int64_t D, float factor) {
  with_float_type(
      dtype, [&](auto element) { copy_row(out, reinterpret_cast<const decltype(element)*>(row), D, factor, true); });
}
inline void write_row(char* row, DType dtype, const float* inp, int64_t D, float factor) {
  with_float_type(dtype,
                  [&](auto element) { copy_row(reinterpret_cast<decltype(element)*>(row), inp, D, factor, false); });
}

// out^T[keys, queries] = factor · rows[keys, D] · block[D, queries]. These are the scores, and the gradient of the
// probabilities.
template <class Words>
inline void scores_product(const TileMask& mask, int64_t D, const WordRows& rows, const float* block, float* out,
                           float factor) {
  mask.for_each_rectangle([&](int64_t c, int64_t vectors, int64_t begin, int64_t end) {
    product<Words>(end - begin, vectors, words_of<Words>(D), rows.words + begin * rows.ld, rows.ld, 1,
                   block + c * kWidth, kBlockQueries, out + begin * kBlockQueries + c * kWidth, kBlockQueries,
                   Sums::written, factor);
  });
}

// out^T[D, queries] += rows[keys, D]^T · tile[keys, queries], both as words across the keys: the output, and the
// gradient of the queries. With Sums::continued the rectangles of a tile are one sum.
template <class Words>
inline void queries_product(const TileMask& mask, int64_t D, const WordRows& rows, const float* tile, float* out,
                            Sums sums = Sums::added) {
  mask.for_each_rectangle([&](int64_t c, int64_t vectors, int64_t begin, int64_t end) {
    const int64_t first = begin / Words::kTerms;
    product<Words>(D, vectors, (end - begin) / Words::kTerms, rows.words + first * rows.ld, 1, rows.ld,
                   tile + first * kBlockQueries + c * kWidth, kBlockQueries, out + c * kWidth, kBlockQueries, sums);
  });
}

// Rounds a tile of f32 to words of two across the keys, in the first half of `out`, which may be the tile.
template <class Words>
inline void round_across_keys(const TileMask& mask, const float* tile, float* out) {
  for (int64_t c = 0; c < mask.vectors; c++)
    for (int64_t j = mask.any[c].begin; j < mask.any[c].end; j += 2) {
      const float* p = tile + j * kBlockQueries + c * kWidth;
      store(out + j / 2 * kBlockQueries + c * kWidth, Words::round_pairs(load(p), load(p + kBlockQueries)));
    }
}

// Rounds a tile of f32 in place to words of two across the queries, in the first half of each row.
template <class Words>
inline void round_across_queries(const TileMask& mask, float* tile) {
  for (int64_t c = 0; c < mask.vectors; c++)
    for (int64_t j = mask.any[c].begin; j < mask.any[c].end; j += 2) {
      float *p = tile + j * kBlockQueries, *next = p + kBlockQueries;
      const vf both = Words::round(load(p + c * kWidth), load(next + c * kWidth));
      const int64_t half = c * kWidth / 2;
      __builtin_memcpy(p + half, &both, sizeof both / 2);
      __builtin_memcpy(next + half, reinterpret_cast<const char*>(&both) + sizeof both / 2, sizeof both / 2);
    }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
