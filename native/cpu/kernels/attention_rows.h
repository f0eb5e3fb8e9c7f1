// Attention of a few query rows, the decoding of one token above all: a key is used too seldom for the transposed tiles
// to fill their lanes, so here the lanes of scores are keys, read across (across.h), and those of the output go along
// the head size. Sums are those of the tiles, term by term. Keys and values are read in place, once for all rows, in
// the order in which a cache holds them: a step of keys for one group after the other. A group's own rows are short and
// far apart, which memory answers slowly.
#pragma once
#include "cpu/kernels/across.h"
#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_scores.h"
#include "cpu/kernels/attention_softmax.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kFewRows = kWidth / 2;  // up to here; more fill at least half of the transposed lanes
constexpr int64_t kFewRowsStep = 32;
constexpr int64_t kScoresStride = kSplitKeys + kWidth;  // of a row: whole vectors may reach beyond the split
static_assert(kBlockKeys % kFewRowsStep == 0 && kFewRowsStep % kWidth == 0);

// Groups [first, first + count) of sequence b, and keys of the split that begins at key `split`.
struct FewRows {
  int64_t b, first, count, split;
  KeySpan keys;
};

inline int64_t few_rows_scratch(const Attention& a, int64_t groups) {
  const int64_t rows = groups * a.rows;
  return 3 * Scratch::rounded(rows * a.width) + Scratch::rounded(rows * kScoresStride) + 2 * Scratch::rounded(rows) +
         Scratch::rounded(rows * (kSplitKeys / kBlockKeys)) + Scratch::rounded(kFewRowsStep * a.width);
}

// scores[R, kScoresStride] = q[R, ldq] · k[keys, D]^T, q in words; writes whole vectors.
template <class Words, int R, class T>
__attribute__((noinline)) void few_rows_scores(const float* q, int64_t ldq, const T* k, int64_t ldk, int64_t keys,
                                               int64_t D, float factor, float* scores) {
  using Keys = Across<T, Words::kTerms>;
  const auto x = [=](int r, int64_t d) { return q[r * ldq + d / Words::kTerms]; };
  for_each_group<R>(k, ldk, keys, [&](auto groups, int64_t j, const auto& row) {
    constexpr int G = decltype(groups)::value;
    vs sum[G][R] = {};
    Keys::chains(0, D, x, row, nullptr, sum,
                 [](vs left, vs right, vs to) { return Words::multiply_add(left, right, to); });
    for (int g = 0; g < G; g++)
      for (int r = 0; r < R; r++)
        store_as(scores + r * kScoresStride + j + g * kShort, Words::scale_sum(sum[g][r], factor));
  });
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

// The weights of a row, p = e^(scores - m) in place, tile by tile as online_softmax has it; `alpha` of each tile is
// what the sums before it are to be multiplied by.
inline void few_rows_softmax(const FewRows& part, KeySpan seen, float* p, float* m, float* l, float* alpha) {
  const int64_t begin = max_of(part.keys.begin, seen.begin) - part.split;
  const int64_t end = min_of(part.keys.end, seen.end) - part.split;
  const int64_t last = ceil_div(part.keys.end - part.split, kBlockKeys) * kBlockKeys;
  for (int64_t j = 0; j < min_of(begin, last); j++) p[j] = -INFINITY;
  for (int64_t j = max_of<int64_t>(end, 0); j < last; j++) p[j] = -INFINITY;
  vf in_use = set1(-INFINITY), sum{};
  for (int64_t tile = 0; tile < last; tile += kBlockKeys, p += kBlockKeys) {
    vf highest = set1(-INFINITY);
    for (int64_t j = 0; j < kBlockKeys; j += kWidth) highest = vmax(highest, load(p + j));
    const vf next = next_maximum(in_use, set1(hmax(highest))), base = base_of(next);
    const vf factor = exp_nonpositive(in_use - base);
    for (int64_t j = 0; j < kBlockKeys; j += kWidth) store(p + j, exp_nonpositive(load(p + j) - base));
    typedef float Chains __attribute__((vector_size(kChains * 4)));
    Chains chains{};
    for (int64_t j = 0; j < kBlockKeys; j += kChains) chains += load_as<Chains>(p + j);
    float chain[kChains];
    __builtin_memcpy(chain, &chains, sizeof chain);
    sum = add_tile(sum, factor, set1(join_chains(chain)));
    in_use = next;
    alpha[tile / kBlockKeys] = factor[0];
  }
  *m = in_use[0];
  *l = sum[0];
}

// A step of keys: [begin, end) of those of the part.
inline KeySpan step_of(const FewRows& part, int64_t begin) {
  return {max_of(begin, part.keys.begin), min_of(begin + kFewRowsStep, part.keys.end)};
}

// Asks for the i-th of `count` shares of a step of keys, all groups of each after the other, into the L2 cache: many
// more lines can be on their way there than to the L1.
inline void prefetch_step(const Attention& a, const FewRows& part, const TensorView& x, KeySpan step, int64_t i) {
  const int64_t keys = step.end - step.begin, bytes = a.D * a.key_size, apart = x.strides[2] * a.key_size;
  for (int64_t j = keys * i / part.count; j < keys * (i + 1) / part.count; j++) {
    const char* row = a.key_row(x, part.b, part.first, step.begin + j);
    for (int64_t g = 0; g < part.count; g++, row += apart)
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

// body(g, i, step) for steps of keys and of each the i-th group g of all; the next step is asked for meanwhile. Steps
// begin at whole multiples of their length.
template <class Body>
inline void for_each_step(const Attention& a, const FewRows& part, const TensorView& x, const Body& body) {
  const int64_t first = part.keys.begin / kFewRowsStep * kFewRowsStep;
  for (int64_t begin = first; begin < part.keys.end; begin += kFewRowsStep)
    for (int64_t i = 0; i < part.count; i++) {
      if (begin + kFewRowsStep < part.keys.end) prefetch_step(a, part, x, step_of(part, begin + kFewRowsStep), i);
      body(part.first + i, i, step_of(part, begin));
    }
}

// Whether n keys from key j on lie in one page, or in no pages at all.
inline bool in_one_page(const Attention& a, int64_t b, int64_t j, int64_t n) {
  return !a.pages.table || a.pages.page(b, j) == a.pages.page(b, j + n - 1);
}

// The scores of a group's rows and n keys from `first` on. Keys in different pages are brought together first, and
// codes become numbers.
template <class Words>
inline void few_rows_products(const Attention& a, int64_t b, int64_t g, int64_t first, int64_t n, const float* q,
                              int64_t ldq, float* copied, float* scores) {
  with_float_type(a.key_dtype, [&](auto element) {
    using T = decltype(element);
    const auto key = [&](int64_t j) { return reinterpret_cast<const T*>(a.key_row(a.k.view, b, g, first + j)); };
    const T* keys = key(0);
    int64_t ldk = a.k.view.strides[1];
    if (a.coded() || !in_one_page(a, b, first, n)) {
      T* const to = reinterpret_cast<T*>(copied);
      for (int64_t j = 0; j < n; j++)
        if (a.coded())
          a.coded_row(a.k, b, g, first + j).decode(to + j * a.width, a.D);
        else
          __builtin_memcpy(to + j * a.width, key(j), static_cast<size_t>(a.D) * sizeof(T));
      keys = to;
      ldk = a.width;
    }
    if constexpr (Words::kTerms == 1 || sizeof(T) == 2)
      for (int64_t r = 0; r < a.rows; r += 4) {
        const auto run = [&](auto kernel) {
          kernel(q + r * ldq, ldq, keys, ldk, n, a.D, a.scale, scores + r * kScoresStride);
        };
        if (a.rows - r >= 4) run(few_rows_scores<Words, 4, T>);
        if (a.rows - r == 3) run(few_rows_scores<Words, 3, T>);
        if (a.rows - r == 2) run(few_rows_scores<Words, 2, T>);
        if (a.rows - r == 1) run(few_rows_scores<Words, 1, T>);
      }
  });
}

// The weights of one row from its scores, in place; as words across the keys, in the first half of the row.
template <class Words>
inline void few_rows_weights(const Attention& a, const FewRows& part, int64_t g, int64_t r, float* row, float* m,
                             float* l, float* alpha) {
  const int64_t begin = part.keys.begin, keys = part.keys.end - begin;
  float* const scores = row + (begin - part.split);
  if (a.shapes_scores()) shape_row(a, part.b, g, r, begin, keys, scores);
  hide_blocks(a, part.b, g, r, begin, keys, scores);
  few_rows_softmax(part, a.keys(part.b, r / a.G), row, m, l, alpha);
  if (a.dropout_p > 0) {
    uint32_t words[kSplitKeys];
    philox_words(words, keys, a.seed, a.first_draw(part.b, g, r) + static_cast<uint64_t>(begin), kDropoutDraws);
    for (int64_t j = 0; j < keys; j++)
      scores[j] = words[j] >> 8 >= dropout_threshold(a.dropout_p) ? scores[j] * dropout_scale(a.dropout_p) : 0;
  }
  if constexpr (Words::kTerms == 2)
    for (int64_t j = 0; j < kSplitKeys; j += 2 * kWidth)
      store(row + j / 2, Words::round(load(row + j), load(row + j + kWidth)));
}

// The values of n keys from `first` on as words across them, in place where they are that.
template <class Words>
inline WordRows few_rows_values(const Attention& a, const FewRows& part, int64_t g, int64_t first, int64_t n,
                                float* copied) {
  const bool words = Words::kTerms == 1 && a.width == a.D && a.key_dtype == DType::f32 && !a.coded();
  if (words && in_one_page(a, part.b, first, n))
    return {reinterpret_cast<const float*>(a.key_row(a.v.view, part.b, g, first)), a.v.view.strides[1]};
  with_key_rows(a, a.v, part.b, g, part.keys, first,
                [&](const auto& row) { pack_across<Words>(copied, n, a.key_dtype, a.D, row); });
  return {copied, a.width};
}

// o[rows, width], m and l of all rows of all groups, one after the other; o is not divided by l.
template <class Words>
inline void attend_few_rows(const Attention& a, const FewRows& part, float* o, float* m, float* l, Scratch scratch) {
  constexpr int64_t kTiles = kSplitKeys / kBlockKeys;
  const int64_t rows = part.count * a.rows, ldq = padded_words<Words>(a.D), size = a.rows * a.width;
  float* q = scratch.take(rows * a.width);
  float* room = scratch.take(rows * a.width);  // of a tile's sums
  float* p = scratch.take(rows * kScoresStride);
  float* alpha = scratch.take(rows * kTiles);
  float* copied = scratch.take(kFewRowsStep * a.width);
  for (int64_t i = 0; i < rows; i++) {
    const char* const row = a.query_row(a.q, part.b, part.first + i / a.rows, i % a.rows);
    for (int64_t d = 0; d < ldq; d += kWidth)
      store(q + i * ldq + d, Words::scale_words(read_words<Words>(row, a.dtype, d, a.D), a.scale));
  }
  __builtin_memset(o, 0, static_cast<size_t>(rows * a.width) * 4);

  for_each_step(a, part, a.k.view, [&](int64_t g, int64_t i, KeySpan step) {
    for_each_run(a, part.b, g, step.begin, step.end - step.begin, [&](int64_t first, int64_t n) {
      few_rows_products<Words>(a, part.b, g, step.begin + first, n, q + i * a.rows * ldq, ldq, copied,
                               p + i * a.rows * kScoresStride + (step.begin + first - part.split));
    });
  });
  for (int64_t i = 0; i < rows; i++)
    few_rows_weights<Words>(a, part, part.first + i / a.rows, i % a.rows, p + i * kScoresStride, m + i, l + i,
                            alpha + i * kTiles);
  for_each_step(a, part, a.v.view, [&](int64_t g, int64_t i, KeySpan step) {
    float* const sums = room + i * size;
    const bool begins = step.begin == part.keys.begin || step.begin % kBlockKeys == 0;
    if (begins) __builtin_memset(sums, 0, static_cast<size_t>(size) * 4);
    const int64_t even = step.begin / Words::kTerms * Words::kTerms;
    for_each_run(a, part.b, g, even, step.end - even, [&](int64_t first, int64_t n) {
      const WordRows v = few_rows_values<Words>(a, part, g, even + first, n, copied);
      product<Words>(a.rows, a.width / kWidth, words_of<Words>(n),
                     p + i * a.rows * kScoresStride + (even + first - part.split) / Words::kTerms, kScoresStride, 1,
                     v.words, v.ld, sums, a.width, Sums::continued);
    });
    if (step.end != part.keys.end && step.end % kBlockKeys != 0) return;
    const int64_t tile = (step.end - 1 - part.split) / kBlockKeys;
    for (int64_t r = 0; r < a.rows; r++) {
      const vf factor = set1(alpha[(i * a.rows + r) * kTiles + tile]);
      float* const row = o + i * size + r * a.width;
      for (int64_t d = 0; d < a.width; d += kWidth)
        store(row + d, load(row + d) * factor + load(sums + r * a.width + d));
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
