// attention_backward: P is the softmax of the scores, recomputed tile by tile as exp(scores - lse), and delta =
// rowsum(dout ∘ out) (FlashAttention-2, Dao 2023):
//   dP = dout v^T,  dS = P ∘ (dP - delta),  dq = scale · dS k,  dk = scale · dS^T q,  dv = P^T dout.
// With a softcap, dS is multiplied by the cap's derivative, 1 - tanh²(s / softcap). With dropout, dv uses the dropped
// P, dP is dropped in the same way, and the mask is drawn again. dq, dk and dv are written (=).
//
// One pass over the pairs of a query block and a key tile takes five products. It is parallel over groups of heads that
// share keys. If there are too few groups for the threads, two passes run one after the other instead: one over blocks
// of keys for dk and dv (four products), and one over blocks of queries for dq (three products). Every sum has the same
// terms in the same order in both cases. So the choice, which depends on the number of threads, does not affect the
// results.
#include "cpu/kernels/attention_blocks.h"
#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_scores.h"
#include "cpu/kernels/attention_tile.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// Keys of a task of the pass for dk and dv: a query block is packed once for all of them.
constexpr int64_t kTaskKeys = 2 * kBlockKeys;

struct Backward {
  Attention a;
  TensorView dq, dk, dv, dout, out;
  const float* lse;
  bool bf16_words;
  float *k_words, *k_across, *v_words;  // PackedKeys; k_across is k_words if words are f32
};

// The part of the problem that a task covers, and the gradients that it writes.
struct Task {
  int64_t b, g;
  int64_t first_row, end_row;
  int64_t first_key, end_key;
  bool queries, keys;
};

int64_t task_scratch(const Attention& a, int64_t keys) {
  return 3 * Scratch::rounded(a.D * kBlockQueries) + 2 * Scratch::rounded(kBlockQueries * a.width) +
         3 * Scratch::rounded(kBlockKeys * kBlockQueries) + 2 * Scratch::rounded((keys + 1) * a.width);
}

// A block of query rows: the data that its pairs with all key tiles use.
template <class Words>
struct QueryBlock {
  int64_t n, vectors;
  BlockMask mask;
  ScoreShape shape;
  float *q_t, *dout_t;  // [words of D, kBlockQueries]; q_t includes the scale if it is f32
  float *q, *dout;      // [words of n, width]
  float* dq_t;          // [D, kBlockQueries]
  float lse[kBlockQueries], delta[kBlockQueries];
  uint64_t draws[kBlockQueries];

  QueryBlock(const Attention& a, Scratch& scratch)
      : q_t(scratch.take(a.D * kBlockQueries)),
        dout_t(scratch.take(a.D * kBlockQueries)),
        q(scratch.take(kBlockQueries * a.width)),
        dout(scratch.take(kBlockQueries * a.width)),
        dq_t(scratch.take(a.D * kBlockQueries)) {}

  // Prepares the task's rows [first, first + count).
  void begin(const Attention& a, const Task& task, int64_t first, int64_t count) {
    n = count;
    vectors = ceil_div(n, kWidth);
    mask = BlockMask(a, task.b, first, n);
  }
  void pack(const Backward& f, const Task& task, int64_t first) {
    const Attention& a = f.a;
    shape = ScoreShape(a, task.b, task.g, first, n);
    const char *q_rows[kBlockQueries], *dout_rows[kBlockQueries];
    for (int64_t i = 0; i < n; i++) {
      const int64_t r = first + i;
      q_rows[i] = a.query_row(a.q, task.b, task.g, r);
      dout_rows[i] = a.query_row(f.dout, task.b, task.g, r);
      draws[i] = a.first_draw(task.b, task.g, r);
      // For a row that sees no key, e^(-inf - 0) is 0 while e^(-inf + inf) would be NaN.
      lse[i] = f.lse[a.row_index(task.b, task.g, r)];
      if (lse[i] == -INFINITY) lse[i] = 0;
      delta[i] = dot(dout_rows[i], a.query_row(f.out, task.b, task.g, r), a.dtype, a.D);
    }
    for (int64_t i = n; i < vectors * kWidth; i++) lse[i] = delta[i] = 0;
    pack_transposed<Words>(q_t, q_rows, n, a.dtype, a.D, a.scale);
    pack_transposed<Words>(dout_t, dout_rows, n, a.dtype, a.D, 1);
    if (task.keys) {
      pack_across<Words>(q, n, a.dtype, a.D, [&](int64_t i) { return q_rows[i]; });
      pack_across<Words>(dout, n, a.dtype, a.D, [&](int64_t i) { return dout_rows[i]; });
    }
    if (!task.queries) return;
    for (int64_t d = 0; d < a.D; d++)
      __builtin_memset(dq_t + d * kBlockQueries, 0, static_cast<size_t>(vectors * kWidth) * 4);
  }

  void write_dq(const Backward& f, const Task& task, int64_t first) {
    char* rows[kBlockQueries];
    float scale[kBlockQueries];
    for (int64_t i = 0; i < n; i++) rows[i] = f.a.query_row(f.dq, task.b, task.g, first + i);
    for (int64_t i = 0; i < vectors * kWidth; i++) scale[i] = f.a.scale;
    unpack_transposed(rows, f.a.dtype, dq_t, n, f.a.D, scale);
  }

 private:
  static float dot(const char* x, const char* y, DType dtype, int64_t D) {
    vf sum{};
    with_float_type(dtype, [&](auto element) {
      using T = decltype(element);
      for (int64_t d = 0; d < D; d += kWidth)
        sum = fma(read(reinterpret_cast<const T*>(x) + d, D - d), read(reinterpret_cast<const T*>(y) + d, D - d), sum);
    });
    return hsum(sum);
  }
};

// Turns scores into P and dP into dS, in place, over the keys that the lanes see.
template <bool shaped, class Words>
void tile_gradients(const QueryBlock<Words>& block, const TileMask& mask, const TileBlocks& blocks, int64_t begin,
                    float* scores, float* dprobs) {
  for (int64_t c = 0; c < block.vectors; c++) {
    const vf lse = load(block.lse + c * kWidth), delta = load(block.delta + c * kWidth);
    const VectorMask lanes = block.mask.lanes(c);
    const KeySpan any = mask.any[c], all = mask.all[c];
    const auto rows = [&](int64_t from, int64_t to, bool hide) {
      for (int64_t j = from; j < to; j++) {
        float* s = scores + j * kBlockQueries + c * kWidth;
        float* ds = dprobs + j * kBlockQueries + c * kWidth;
        vf score = load(s), slope = set1(1);
        if constexpr (shaped) score = block.shape.of(score, c, begin + j, &slope);
        vf p = exp_nonpositive(score - lse);
        if (hide) p = select(blocks.all ? lanes.sees(begin + j) : lanes.sees(begin + j) & blocks.sees(c, j), p, vf{});
        store(s, p);
        vf gradient = p * (load(ds) - delta);
        if constexpr (shaped) gradient *= slope;
        store(ds, gradient);
      }
    };
    rows(any.begin, all.begin, true);
    rows(all.begin, all.end, false);
    rows(all.end, any.end, true);
  }
}

// out[keys, width] += tile^T[keys, queries] · rows[queries, width], both as words across the queries. These are the
// gradients of keys and values.
template <class Words>
void keys_product(const TileMask& mask, const QueryBlock<Words>& block, int64_t width, const float* tile,
                  const float* rows, float* out) {
  mask.for_each_rectangle([&](int64_t c, int64_t vectors, int64_t begin, int64_t end) {
    const int64_t first = c * kWidth / Words::kTerms;
    const int64_t queries = words_of<Words>(min_of(vectors * kWidth, block.n - c * kWidth));
    product<Words>(end - begin, width / kWidth, queries, tile + begin * kBlockQueries + first, kBlockQueries, 1,
                   rows + first * width, width, out + begin * width, width, Sums::added);
  });
}

template <class Words>
void run_task(const Backward& f, const Task& task, Scratch scratch) {
  const Attention& a = f.a;
  QueryBlock<Words> block(a, scratch);
  float* probs = scratch.take(kBlockKeys * kBlockQueries);
  float* dprobs = scratch.take(kBlockKeys * kBlockQueries);
  float* dprobs_across = Words::kTerms == 1 ? dprobs : scratch.take(kBlockKeys * kBlockQueries);
  using Keys = PackedKeys<Words>;
  const Keys k(a, Keys::along, f.k_words), k_across(a, Keys::across, f.k_across), v(a, Keys::along, f.v_words);
  const int64_t group = task.b * a.Hkv + task.g;
  const int64_t task_keys = task.keys ? task.end_key - task.first_key : 0;
  const int64_t sums = task_keys + Words::kTerms - 1;  // a tile of words of two keys may end beyond the last key
  float* dk = scratch.take(sums * a.width);
  float* dv = scratch.take(sums * a.width);
  __builtin_memset(dk, 0, static_cast<size_t>(sums * a.width) * 4);
  __builtin_memset(dv, 0, static_cast<size_t>(sums * a.width) * 4);

  for (int64_t first = task.first_row; first < task.end_row; first += kBlockQueries) {
    const int64_t n = min_of<int64_t>(kBlockQueries, task.end_row - first);
    const KeySpan seen = a.keys_of_rows(task.b, first, n);
    const int64_t end = min_of(task.end_key, seen.end);
    const int64_t start = first_tile(a, max_of(task.first_key, seen.begin), Words::kTerms);
    if (start >= end && !task.queries) continue;
    block.begin(a, task, first, n);
    bool packed = false;
    const auto pack = [&] {
      if (!packed) block.pack(f, task, first);
      packed = true;
    };
    if (task.queries) pack();
    for (int64_t begin = start; begin < end; begin += kBlockKeys) {
      const int64_t keys = min_of<int64_t>(kBlockKeys, end - begin);
      TileMask mask(block.mask, begin, keys, Words::kTerms);
      if (mask.seen.empty()) continue;
      const TileBlocks blocks(a, task.b, task.g, first, n, begin, keys);
      if (!blocks.any) continue;
      if (!blocks.all) mask.look_at_all();
      pack();
      scores_product<Words>(mask, a.D, k.from(group, begin), block.q_t, probs, a.scale);
      scores_product<Words>(mask, a.D, v.from(group, begin), block.dout_t, dprobs, 1);
      DropoutMask dropout;
      if (a.dropout_p > 0) {
        dropout.draw(a, block.draws, block.mask, n, begin, keys);
        dropout.apply(a, mask, dprobs);
      }
      if (a.shapes_scores())
        tile_gradients<true>(block, mask, blocks, begin, probs, dprobs);
      else
        tile_gradients<false>(block, mask, blocks, begin, probs, dprobs);
      if (a.dropout_p > 0) dropout.apply(a, mask, probs);
      if constexpr (Words::kTerms > 1) {
        if (task.queries) round_across_keys<Words>(mask, dprobs, dprobs_across);
        if (task.keys) round_across_queries<Words>(mask, probs);
        if (task.keys) round_across_queries<Words>(mask, dprobs);
      }
      if (task.keys) {
        const int64_t at = (begin - task.first_key) * a.width;
        keys_product(mask, block, a.width, probs, block.dout, dv + at);
        keys_product(mask, block, a.width, dprobs, block.q, dk + at);
      }
      if (task.queries) queries_product<Words>(mask, a.D, k_across.from(group, begin), dprobs_across, block.dq_t);
    }
    if (task.queries) block.write_dq(f, task, first);
  }

  for (int64_t j = 0; j < task_keys; j++) {
    write_row(a.key_row(f.dk, task.b, task.g, task.first_key + j), a.dtype, dk + j * a.width, a.D, a.scale);
    write_row(a.key_row(f.dv, task.b, task.g, task.first_key + j), a.dtype, dv + j * a.width, a.D, 1);
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::attention_backward(Stream& stream, Out dq, Out dk, Out dv, In dout, In q, In k, In v, In out, In lse,
                                  OptIn key_lengths, OptIn query_starts, OptIn key_ranges, OptIn slopes, Bool causal,
                                  Int window, Float softcap, Float scale, Float dropout_p, Int seed, OptIn block_mask,
                                  Int block_size) {
  constexpr const char* op = "attention_backward";
  const Attention a = make_attention(op, q, k, v,
                                     {nullptr, nullptr, nullptr, key_lengths, query_starts, key_ranges, slopes, nullptr,
                                      block_mask, block_size, causal, window, softcap, scale, dropout_p, seed},
                                     false);
  expect_queries(op, "dq", dq, a.sizes(), q.dtype);
  expect_keys(op, "dk", dk, a.sizes(), q.dtype);
  expect_keys(op, "dv", dv, a.sizes(), q.dtype);
  expect_queries(op, "dout", dout, a.sizes(), q.dtype);
  expect_queries(op, "out", out, a.sizes(), q.dtype);
  expect_lse(op, lse, a.sizes());
  if (dq.empty() && dk.empty()) return;

  Backward f{a, dq, dk, dv, dout, out, lse.f32(), has_bf16_words(q.dtype), nullptr, nullptr, nullptr};
  const int64_t groups = a.groups(), threads = thread_count();
  const int64_t row_blocks = ceil_div(a.rows, kBlockQueries), key_blocks = ceil_div(a.Tk, kTaskKeys);
  // One pass takes five products, on the threads that whole groups keep busy; two passes take seven, on all threads.
  const bool one_pass = 7 * groups >= 5 * ceil_div(groups, threads) * threads;
  const int64_t most_items = one_pass ? groups : groups * max_of(row_blocks, key_blocks);
  const int64_t workers = min_of(most_items, threads);
  const int64_t scratch = task_scratch(a, one_pass ? a.Tk : kTaskKeys);
  int64_t along = 0, across = 0;
  with_words(f.bf16_words, [&](auto words) {
    using Keys = PackedKeys<decltype(words)>;
    along = Scratch::rounded(Keys::size(a, Keys::along));
    if (words.kTerms > 1) across = Scratch::rounded(Keys::size(a, Keys::across));
  });
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(workers * scratch + 2 * along + across) * 4);
  float* memory = workspace.f32();
  f.k_words = memory + workers * scratch;
  f.v_words = f.k_words + along;
  f.k_across = across > 0 ? f.v_words + along : f.k_words;

  stream.launch(op, [=] {
    f.a.check_lengths();
    with_words(f.bf16_words, [&](auto words) {
      using Keys = PackedKeys<decltype(words)>;
      Keys(f.a, Keys::along, f.k_words).pack(f.a, f.a.k);
      Keys(f.a, Keys::along, f.v_words).pack(f.a, f.a.v);
      if (words.kTerms > 1) Keys(f.a, Keys::across, f.k_across).pack(f.a, f.a.k);
    });
    const auto for_each_task = [&](int64_t items, const auto& task_of) {
      for_each_item(workers, items, [&](int64_t worker, int64_t item) {
        with_words(f.bf16_words, [&](auto words) {
          run_task<decltype(words)>(f, task_of(item), Scratch(memory + worker * scratch));
        });
      });
    };
    const int64_t rows = f.a.rows, Tk = f.a.Tk, Hkv = f.a.Hkv;
    if (one_pass)
      return for_each_task(groups, [&](int64_t i) { return Task{i / Hkv, i % Hkv, 0, rows, 0, Tk, true, true}; });
    for_each_task(groups * key_blocks, [&](int64_t i) {
      const int64_t group = i / key_blocks, first = i % key_blocks * kTaskKeys;
      return Task{group / Hkv, group % Hkv, 0, rows, first, min_of(first + kTaskKeys, Tk), false, true};
    });
    for_each_task(groups * row_blocks, [&](int64_t i) {
      const int64_t group = i / row_blocks, first = (row_blocks - 1 - i % row_blocks) * kBlockQueries;
      return Task{group / Hkv, group % Hkv, first, min_of(first + kBlockQueries, rows), 0, Tk, true, false};
    });
  });
}

}  // namespace heed::cpu
