// The arithmetic of attention's tiles, in a transposed form: a tile of scores is kept as S^T [keys, queries] with
// queries along the lanes. Then keys and values are only ever read as scalars to broadcast, straight from their rows;
// maximum, sum and rescaling of the softmax run down the columns without a step across lanes; and every product of
// forward and backward is one function, `product`. Only the block of queries and its output are transposed.
#pragma once
#include "cpu/kernels/attention_mask.h"
#include "cpu/kernels/philox.h"  // interleave

namespace heed::cpu::HEED_ISA {
namespace {

// Accumulators of `product`: kRegisterRows · kRegisterVectors of 32 (AVX-512) or 16 registers, the rest for operands.
constexpr int kRegisterRows = 4;
#if defined(__AVX512F__)
constexpr int kRegisterVectors = 4;
#elif defined(__AVX2__)
constexpr int kRegisterVectors = 3;
#else
constexpr int kRegisterVectors = 2;
#endif

constexpr float kLog2E = 1.44269504088896341f;

// out[r, c] (+)= Σ_n a[r, n] · b[n, c], for R rows and C vectors of columns. The sum starts from 0 and out is added at
// the end: sums of sums round less than one long sum.
template <int R, int C>
__attribute__((noinline)) void register_product(const float* a, int64_t a_row, int64_t a_column, const float* b,
                                                int64_t ldb, int64_t depth, float* out, int64_t ldo, bool accumulate) {
  vf sum[R][C] = {};
  for (int64_t n = 0; n < depth; n++) {
    vf right[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) right[c] = load(b + n * ldb + c * kWidth);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf left = set1(a[r * a_row + n * a_column]);
#pragma GCC unroll 4
      for (int c = 0; c < C; c++) sum[r][c] = fma(left, right[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < C; c++) {
      float* p = out + r * ldo + c * kWidth;
      store(p, accumulate ? load(p) + sum[r][c] : sum[r][c]);
    }
}

template <int C>
inline void product_strip(int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_column, const float* b,
                          int64_t ldb, float* out, int64_t ldo, bool accumulate) {
  int64_t r = 0;
  for (; r + kRegisterRows <= rows; r += kRegisterRows)
    register_product<kRegisterRows, C>(a + r * a_row, a_row, a_column, b, ldb, depth, out + r * ldo, ldo, accumulate);
  a += r * a_row;
  out += r * ldo;
  if (rows - r == 3) register_product<3, C>(a, a_row, a_column, b, ldb, depth, out, ldo, accumulate);
  if (rows - r == 2) register_product<2, C>(a, a_row, a_column, b, ldb, depth, out, ldo, accumulate);
  if (rows - r == 1) register_product<1, C>(a, a_row, a_column, b, ldb, depth, out, ldo, accumulate);
}

// out[rows, vectors] (+)= a[rows, depth] · b[depth, vectors]; a by any strides, b and out in rows of whole vectors.
inline void product(int64_t rows, int64_t vectors, int64_t depth, const float* a, int64_t a_row, int64_t a_column,
                    const float* b, int64_t ldb, float* out, int64_t ldo, bool accumulate) {
  while (vectors > 0) {
    // Four vectors are better cut into 2 + 2 than 3 + 1 where registers hold three.
    const int64_t strip =
        vectors == kRegisterVectors + 1 ? (vectors + 1) / 2 : min_of<int64_t>(vectors, kRegisterVectors);
    if constexpr (kRegisterVectors >= 4)
      if (strip == 4) product_strip<4>(rows, depth, a, a_row, a_column, b, ldb, out, ldo, accumulate);
    if constexpr (kRegisterVectors >= 3)
      if (strip == 3) product_strip<3>(rows, depth, a, a_row, a_column, b, ldb, out, ldo, accumulate);
    if (strip == 2) product_strip<2>(rows, depth, a, a_row, a_column, b, ldb, out, ldo, accumulate);
    if (strip == 1) product_strip<1>(rows, depth, a, a_row, a_column, b, ldb, out, ldo, accumulate);
    vectors -= strip;
    b += strip * kWidth;
    out += strip * kWidth;
  }
}

// e^x for x below 88, to 2 ulp; 0 below -87.3 (as far as f32 goes with AVX-512), NaN stays NaN. It does less than vexp
// as a softmax needs no care for overflow. x = n ln 2 + r, and 1 + r · (…), minimax in the relative error, for e^r.
inline vf exp_nonpositive(vf x) {
#if defined(__AVX512F__)
  const vf clamped = vmax(set1(-150.0f), x);  // NaN if x is: vmax then returns the second argument
  const vf n =
      (vf)_mm512_roundscale_ps((__m512)(clamped * set1(kLog2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const vf lowest = set1(-87.3f), clamped = vmax(lowest, x);
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

inline vf interleave_low(vf a, vf b) { return (vf)interleave_low((vu)a, (vu)b); }
inline vf interleave_high(vf a, vf b) { return (vf)interleave_high((vu)a, (vu)b); }

// Transposes a square of kWidth vectors. Interleaving vectors i and i + kWidth/2 turns the bits of an element's place,
// (row, lane) as one number, by one to the left; log2 kWidth turns exchange row and lane.
inline void transpose(vf (&x)[kWidth]) {
  for (int turns = kWidth; turns > 1; turns /= 2) {
    vf y[kWidth];
#pragma GCC unroll 16
    for (int i = 0; i < kWidth / 2; i++) {
      y[2 * i] = interleave_low(x[i], x[i + kWidth / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; i++) x[i] = y[i];
  }
}

// out[D, kBlockQueries] = the n given rows of D, transposed, times factor; lanes of rows that are not there get 0.
inline void pack_transposed(float* out, const float* const* rows, int64_t n, int64_t D, float factor) {
  for (int64_t i = 0; i < n; i += kWidth)
    for (int64_t d = 0; d < D; d += kWidth) {
      const int64_t count = min_of<int64_t>(kWidth, D - d);
      vf x[kWidth];
      for (int w = 0; w < kWidth; w++) {
        if (i + w >= n)
          x[w] = vf{};
        else
          x[w] = (count == kWidth ? load(rows[i + w] + d) : load_n(rows[i + w] + d, count)) * set1(factor);
      }
      transpose(x);
      for (int64_t w = 0; w < count; w++) store(out + (d + w) * kBlockQueries + i, x[w]);
    }
}

// The n given rows of D = inp[D, kBlockQueries], transposed, column i times factor[i].
inline void unpack_transposed(float* const* rows, const float* inp, int64_t n, int64_t D, const float* factor) {
  for (int64_t i = 0; i < n; i += kWidth)
    for (int64_t d = 0; d < D; d += kWidth) {
      const int64_t count = min_of<int64_t>(kWidth, D - d);
      vf x[kWidth];
      for (int64_t w = 0; w < kWidth; w++)
        x[w] = w < count ? load(inp + (d + w) * kBlockQueries + i) * load(factor + i) : vf{};
      transpose(x);
      for (int64_t w = 0; w < kWidth && i + w < n; w++) {
        if (count == kWidth)
          store(rows[i + w] + d, x[w]);
        else
          store_n(rows[i + w] + d, x[w], count);
      }
    }
}

inline void prefetch_row(const float* row, int64_t D) {
  for (int64_t d = 0; d < D; d += 16) __builtin_prefetch(row + d);
}

// out[D] = inp[D] · factor; with `padded`, zeros follow up to a whole vector.
inline void copy_row(float* out, const float* inp, int64_t D, float factor, bool padded) {
  int64_t d = 0;
  for (; d + kWidth <= D; d += kWidth) store(out + d, load(inp + d) * set1(factor));
  if (d == D) return;
  const vf tail = load_n(inp + d, D - d) * set1(factor);
  if (padded)
    store(out + d, tail);
  else
    store_n(out + d, tail, D - d);
}

// out^T[keys, queries] = rows[keys, D] · block[D, queries]: the scores, and the gradient of the probabilities.
inline void scores_product(const TileMask& mask, int64_t D, const float* rows, int64_t ld, const float* block,
                           float* out) {
  mask.for_each_rectangle([&](int64_t c, int64_t vectors, int64_t begin, int64_t end) {
    product(end - begin, vectors, D, rows + begin * ld, ld, 1, block + c * kWidth, kBlockQueries,
            out + begin * kBlockQueries + c * kWidth, kBlockQueries, false);
  });
}

// out^T[D, queries] += rows[keys, D]^T · tile[keys, queries]: the output, and the gradient of the queries.
inline void queries_product(const TileMask& mask, int64_t D, const float* rows, int64_t ld, const float* tile,
                            float* out) {
  mask.for_each_rectangle([&](int64_t c, int64_t vectors, int64_t begin, int64_t end) {
    product(D, vectors, end - begin, rows + begin * ld, 1, ld, tile + begin * kBlockQueries + c * kWidth, kBlockQueries,
            out + c * kWidth, kBlockQueries, true);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
