// Attention of a few query rows, the decoding of one token above all: a key is used too seldom for the transposed tiles
// to fill their lanes, so here the lanes go along the head size, and the scores of kWidth keys are summed across lanes
// together. Keys and values are read in place, once for all rows.
#pragma once
#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_scores.h"
#include "cpu/kernels/attention_tile.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kFewRows = kWidth / 2;  // up to here; more fill at least half of the transposed lanes
constexpr int64_t kFewRowsKeys = 256;     // at most, in one call

// Values that are no whole vectors of f32 are copied.
inline bool copies_values(const Attention& a) { return a.width != a.D || a.dtype != DType::f32; }

inline int64_t few_rows_scratch(const Attention& a) {
  return 2 * Scratch::rounded(a.rows * a.width) + Scratch::rounded(a.rows * kFewRowsKeys) +
         (copies_values(a) ? Scratch::rounded(kFewRowsKeys * a.width) : 0);
}

// Lane i = the sum of the lanes of x[i]. Each turn adds the halves of the vectors and packs two into one.
inline vf sum_lanes(vf* x) {
#pragma GCC unroll 4
  for (int n = kWidth / 2; n >= 1; n /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) x[i] = interleave_low(x[i], x[i + n]) + interleave_high(x[i], x[i + n]);
  return x[0];
}

// sums[r · kWidth + n] = the lanes of q[r] · k[n], not yet summed, for R rows of whole vectors and N keys of D.
template <int R, int N, class T>
inline void dot_products(const float* q, int64_t ldq, const T* k, int64_t ldk, int64_t D, vf* sums) {
  vf sum[R][N] = {};
  const auto add = [&](int64_t d, auto load_key) {
    vf key[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) key[n] = load_key(k + n * ldk + d);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf query = load(q + r * ldq + d);
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) sum[r][n] = fma(query, key[n], sum[r][n]);
    }
  };
  int64_t d = 0;
  for (; d + kWidth <= D; d += kWidth) add(d, [](const T* p) { return load(p); });
  if (d < D) add(d, [&](const T* p) { return read(p, D - d); });
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) sums[r * kWidth + n] = sum[r][n];
}

// scores[R, kFewRowsKeys] = q[R, width] · k[keys, D]^T; writes whole vectors.
template <int R, class T>
__attribute__((noinline)) void few_rows_scores(const float* q, int64_t width, const T* k, int64_t ldk, int64_t keys,
                                               int64_t D, float* scores) {
  constexpr int N = R > 2 && kWidth == 8 ? 2 : 4;  // R · N sums, within 16 registers but with AVX-512
  for (int64_t j = 0; j < keys; j += kWidth) {
    const int64_t count = min_of<int64_t>(kWidth, keys - j);
    vf sums[R * kWidth];
    if (count < kWidth) __builtin_memset(sums, 0, sizeof sums);
    int64_t n = 0;
    for (; n + N <= count; n += N) dot_products<R, N>(q, width, k + (j + n) * ldk, ldk, D, sums + n);
    for (; n < count; n++) dot_products<R, 1>(q, width, k + (j + n) * ldk, ldk, D, sums + n);
    for (int r = 0; r < R; r++) store(scores + r * kFewRowsKeys + j, sum_lanes(sums + r * kWidth));
  }
}

// body(first, count): runs of keys, counted from `begin`, that the mask of blocks leaves to any row of the group; whole
// vectors, but for the last.
template <class Body>
inline void for_each_run(const Attention& a, int64_t b, int64_t g, int64_t begin, int64_t keys, const Body& body) {
  if (!a.blocks.mask) return body(0, keys);
  const auto seen = [&](int64_t j) {
    const int64_t last = min_of(j + kWidth, keys) - 1;
    for (int64_t r = 0; r < a.rows; r++) {
      const uint8_t* row = a.blocks_of_row(b, g, r);
      for (int64_t n = (begin + j) / a.blocks.size; row && n <= (begin + last) / a.blocks.size; n++)
        if (row[n]) return true;
    }
    return false;
  };
  for (int64_t j = 0; j < keys; j += kWidth) {
    const int64_t first = j;
    while (j < keys && seen(j)) j += kWidth;
    if (j > first) body(first, min_of(j, keys) - first);
  }
}

// Scores of keys that the mask of blocks hides from a row.
inline void hide_blocks(const Attention& a, int64_t b, int64_t g, int64_t r, int64_t begin, int64_t keys, float* row) {
  if (!a.blocks.mask) return;
  const uint8_t* visible = a.blocks_of_row(b, g, r);
  for (int64_t j = 0; j < keys; j++)
    if (!visible || !visible[(begin + j) / a.blocks.size]) row[j] = -INFINITY;
}

// p[keys] = e^(scores - max), in place, of the keys [begin, end), 0 of the others.
inline void few_rows_softmax(float* p, int64_t begin, int64_t end, int64_t keys, float* m, float* l) {
  for (int64_t j = 0; j < begin; j++) p[j] = -INFINITY;
  for (int64_t j = max_of(begin, end); j < ceil_div(keys, kWidth) * kWidth; j++) p[j] = -INFINITY;
  vf max = set1(-INFINITY), sum{};
  for (int64_t j = 0; j < keys; j += kWidth) max = vmax(max, load(p + j));
  *m = hmax(max);
  const vf base = set1(*m == -INFINITY ? 0 : *m);
  for (int64_t j = 0; j < keys; j += kWidth) {
    const vf x = exp_nonpositive(load(p + j) - base);
    store(p + j, x);
    sum += x;
  }
  *l = hsum(sum);
}

// o[rows, width], m and l of all rows of a group for keys [begin, begin + keys), o not divided by l.
inline void attend_few_rows(const Attention& a, int64_t b, int64_t g, int64_t begin, int64_t keys, float* o, float* m,
                            float* l, Scratch scratch) {
  float* q = scratch.take(a.rows * a.width);
  float* p = scratch.take(a.rows * kFewRowsKeys);
  for (int64_t r = 0; r < a.rows; r++) read_row(q + r * a.width, a.query_row(a.q, b, g, r), a.dtype, a.D, a.scale);
  with_float_type(a.dtype, [&](auto element) {
    using T = decltype(element);
    const T* k = reinterpret_cast<const T*>(a.key_row(a.k, b, g, begin));
    for (int64_t r = 0; r < a.rows; r += 4) {
      const auto scores = [&](auto kernel) {
        for_each_run(a, b, g, begin, keys, [&](int64_t first, int64_t count) {
          kernel(q + r * a.width, a.width, k + first * a.k.strides[1], a.k.strides[1], count, a.D,
                 p + r * kFewRowsKeys + first);
        });
      };
      if (a.rows - r >= 4) scores(few_rows_scores<4, T>);
      if (a.rows - r == 3) scores(few_rows_scores<3, T>);
      if (a.rows - r == 2) scores(few_rows_scores<2, T>);
      if (a.rows - r == 1) scores(few_rows_scores<1, T>);
    }
  });
  for (int64_t r = 0; r < a.rows; r++) {
    float* row = p + r * kFewRowsKeys;
    if (a.shapes_scores()) shape_row(a, b, g, r, begin, keys, row);
    hide_blocks(a, b, g, r, begin, keys, row);
    const KeySpan seen = a.keys(b, r / a.G);
    few_rows_softmax(row, min_of(keys, max_of<int64_t>(0, seen.begin - begin)),
                     min_of(keys, max_of<int64_t>(0, seen.end - begin)), keys, m + r, l + r);
    if (a.dropout_p == 0) continue;
    uint32_t words[kFewRowsKeys];
    philox_words(words, keys, a.seed, a.first_draw(b, g, r) + static_cast<uint64_t>(begin), 0);
    for (int64_t j = 0; j < keys; j++)
      row[j] = words[j] >> 8 >= dropout_threshold(a.dropout_p) ? row[j] * dropout_scale(a.dropout_p) : 0;
  }

  float* copied = copies_values(a) ? scratch.take(kFewRowsKeys * a.width) : nullptr;
  bool added = false;
  for_each_run(a, b, g, begin, keys, [&](int64_t first, int64_t count) {
    const float* v = copied;
    int64_t ldv = a.width;
    if (copied) {
      for (int64_t j = 0; j < count; j++)
        read_row(copied + j * a.width, a.key_row(a.v, b, g, begin + first + j), a.dtype, a.D, 1);
    } else {
      v = reinterpret_cast<const float*>(a.key_row(a.v, b, g, begin + first));
      ldv = a.v.strides[1];
    }
    product(a.rows, a.width / kWidth, count, p + first, kFewRowsKeys, 1, v, ldv, o, a.width, added);
    added = true;
  });
  if (!added) __builtin_memset(o, 0, static_cast<size_t>(a.rows * a.width) * 4);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
