// Attention of a few query rows, mostly for decoding one token. A key is used too seldom here for the transposed tiles
// to fill their lanes. So the lanes go along the head size, and the scores of kWidth keys are summed across lanes
// together. Keys and values are read in place, once for all rows, in the order in which a cache holds them: a step of
// keys for one group after the other. A single group's rows are short and far apart, and memory returns them slowly.
#pragma once
#include <cstring>

#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_scores.h"
#include "cpu/kernels/attention_tile.h"
#include "cpu/kernels/interleave.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kFewRows =
    kWidth / 2;  // the largest number of rows; more rows fill at least half of the transposed lanes
constexpr int64_t kFewRowsKeys = 256;  // the most keys in one call
constexpr int64_t kFewRowsStep = 32;

// Groups [first, first + count) of sequence b, and keys [begin, begin + keys).
struct FewRows {
  int64_t b, first, count, begin, keys;
};

inline int64_t few_rows_scratch(const Attention& a, int64_t groups) {
  const int64_t rows = groups * a.rows;
  return 2 * Scratch::rounded(rows * a.width) + Scratch::rounded(rows * kFewRowsKeys) + 2 * Scratch::rounded(rows) +
         2 * Scratch::rounded(kFewRowsStep * a.width);
}

// Rows of keys or values, `ld` elements apart.
struct StepRows {
  const char* first;
  int64_t ld;
};

// Returns n rows from key j on: where they lie, or copied to `copies` if they lie in different pages.
inline StepRows step_rows(const Attention& a, const TensorView& x, int64_t b, int64_t g, int64_t j, int64_t n,
                          float* copies) {
  if (!a.pages.table || a.pages.page(b, j) == a.pages.page(b, j + n - 1)) return {a.key_row(x, b, g, j), x.strides[1]};
  const int64_t bytes = a.D * static_cast<int64_t>(size_of(a.dtype));
  char* to = reinterpret_cast<char*>(copies);
  for (int64_t i = 0; i < n; i++) std::memcpy(to + i * bytes, a.key_row(x, b, g, j + i), static_cast<size_t>(bytes));
  return {to, a.D};
}

// Lane i = the sum of the lanes of x[i]. Each turn adds the halves of the vectors and packs two into one.
inline vf sum_lanes(vf* x) {
#pragma GCC unroll 4
  for (int n = kWidth / 2; n >= 1; n /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) x[i] = interleave_low(x[i], x[i + n]) + interleave_high(x[i], x[i + n]);
  return x[0];
}

// sums[r · kWidth + n] = the lanes of q[r] · k[n], not yet summed, for R rows of whole vectors and N keys of D
// elements.
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
  for (; d + kWidth <= D; d += kWidth) add(d, [](const T* p) { return read(p, kWidth); });
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
  constexpr int N = R > 2 && kWidth == 8 ? 2 : 4;  // R · N sums, which fit into 16 registers except with AVX-512
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

// Calls body(first, count) for runs of keys, counted from `begin`, that the block mask leaves visible to any row of the
// group. All runs but the last are whole vectors.
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

// Hides the scores of keys that the block mask hides from a row.
inline void hide_blocks(const Attention& a, int64_t b, int64_t g, int64_t r, int64_t begin, int64_t keys, float* row) {
  if (!a.blocks.mask) return;
  const uint8_t* visible = a.blocks_of_row(b, g, r);
  for (int64_t j = 0; j < keys; j++)
    if (!visible || !visible[(begin + j) / a.blocks.size]) row[j] = -INFINITY;
}

// p = e^(scores - max), in place, for the keys [begin, end), and 0 for the others.
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

// Prefetches the i-th of `count` shares of a step of keys, all groups of each key one after the other, into the L2
// cache: many more lines can be in transit to L2 than to L1.
inline void prefetch_step(const Attention& a, const FewRows& part, const TensorView& x, int64_t step, int64_t i) {
  const int64_t keys = min_of(kFewRowsStep, part.keys - step), bytes = a.D * static_cast<int64_t>(size_of(a.dtype));
  for (int64_t j = keys * i / part.count; j < keys * (i + 1) / part.count; j++)
    for (int64_t g = part.first; g < part.first + part.count; g++)
      for (int64_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(a.key_row(x, part.b, g, part.begin + step + j) + at, 0, 2);
}

// Calls body(g, i, step, count) for steps of keys, counted from the first, and in each step for the i-th group g of
// all. It prefetches the next step meanwhile.
template <class Body>
inline void for_each_step(const Attention& a, const FewRows& part, const TensorView& x, const Body& body) {
  for (int64_t step = 0; step < part.keys; step += kFewRowsStep)
    for (int64_t i = 0; i < part.count; i++) {
      if (step + kFewRowsStep < part.keys) prefetch_step(a, part, x, step + kFewRowsStep, i);
      body(part.first + i, i, step, min_of(kFewRowsStep, part.keys - step));
    }
}

// The scores of a group's rows and a step of keys.
inline void few_rows_products(const Attention& a, const StepRows& k, const float* q, int64_t keys, float* scores) {
  with_float_type(a.dtype, [&](auto element) {
    using T = decltype(element);
    for (int64_t r = 0; r < a.rows; r += 4) {
      const auto run = [&](auto kernel) {
        kernel(q + r * a.width, a.width, reinterpret_cast<const T*>(k.first), k.ld, keys, a.D,
               scores + r * kFewRowsKeys);
      };
      if (a.rows - r >= 4) run(few_rows_scores<4, T>);
      if (a.rows - r == 3) run(few_rows_scores<3, T>);
      if (a.rows - r == 2) run(few_rows_scores<2, T>);
      if (a.rows - r == 1) run(few_rows_scores<1, T>);
    }
  });
}

// Computes the weights of one row from its scores, in place.
inline void few_rows_weights(const Attention& a, const FewRows& part, int64_t g, int64_t r, float* row, float* m,
                             float* l) {
  const int64_t keys = part.keys;
  if (a.shapes_scores()) shape_row(a, part.b, g, r, part.begin, keys, row);
  hide_blocks(a, part.b, g, r, part.begin, keys, row);
  const KeySpan seen = a.keys(part.b, r / a.G);
  few_rows_softmax(row, min_of(keys, max_of<int64_t>(0, seen.begin - part.begin)),
                   min_of(keys, max_of<int64_t>(0, seen.end - part.begin)), keys, m, l);
  if (a.dropout_p == 0) return;
  uint32_t words[kFewRowsKeys];
  philox_words(words, keys, a.seed, a.first_draw(part.b, g, r) + static_cast<uint64_t>(part.begin), kDropoutDraws);
  for (int64_t j = 0; j < keys; j++)
    row[j] = words[j] >> 8 >= dropout_threshold(a.dropout_p) ? row[j] * dropout_scale(a.dropout_p) : 0;
}

// Computes o[rows, width], m and l of all rows of all groups, one after the other; o is not divided by l.
inline void attend_few_rows(const Attention& a, const FewRows& part, float* o, float* m, float* l, Scratch scratch) {
  const int64_t rows = part.count * a.rows;
  float* q = scratch.take(rows * a.width);
  float* p = scratch.take(rows * kFewRowsKeys);
  float* copied = scratch.take(kFewRowsStep * a.width);
  float* across_pages = scratch.take(kFewRowsStep * a.width);
  for (int64_t i = 0; i < rows; i++)
    read_row(q + i * a.width, a.query_row(a.q, part.b, part.first + i / a.rows, i % a.rows), a.dtype, a.D, a.scale);
  __builtin_memset(o, 0, static_cast<size_t>(rows * a.width) * 4);

  for_each_step(a, part, a.k, [&](int64_t g, int64_t i, int64_t step, int64_t count) {
    for_each_run(a, part.b, g, part.begin + step, count, [&](int64_t first, int64_t n) {
      few_rows_products(a, step_rows(a, a.k, part.b, g, part.begin + step + first, n, across_pages),
                        q + i * a.rows * a.width, n, p + i * a.rows * kFewRowsKeys + step + first);
    });
  });
  for (int64_t i = 0; i < rows; i++)
    few_rows_weights(a, part, part.first + i / a.rows, i % a.rows, p + i * kFewRowsKeys, m + i, l + i);
  for_each_step(a, part, a.v, [&](int64_t g, int64_t i, int64_t step, int64_t count) {
    for_each_run(a, part.b, g, part.begin + step, count, [&](int64_t first, int64_t n) {
      const StepRows v = step_rows(a, a.v, part.b, g, part.begin + step + first, n, across_pages);
      WordRows values{reinterpret_cast<const float*>(v.first), v.ld};
      if (a.width != a.D || a.dtype != DType::f32) {
        for (int64_t j = 0; j < n; j++)
          read_row(copied + j * a.width, v.first + j * v.ld * static_cast<int64_t>(size_of(a.dtype)), a.dtype, a.D, 1);
        values = {copied, a.width};
      }
      product(a.rows, a.width / kWidth, n, p + i * a.rows * kFewRowsKeys + step + first, kFewRowsKeys, 1, values.words,
              values.ld, o + i * a.rows * a.width, a.width, true);
    });
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
