// attention_forward: out = dropout(softmax(scores + mask)) v, and lse, the natural log of Σ exp of each row's scores,
// which are scale · q k^T, capped and biased as ops.def describes. It is FlashAttention-2 (Dao 2023): key tiles are
// processed one after another and the softmax is kept online (running maximum m and sum l, with the output rescaled
// when m grows), so that no [Tq, Tk] matrix exists. Tiles that no query of a block sees are skipped.
//
// Parallel over groups of heads that share keys, blocks of their query rows and, where those are few, splits of the
// keys, which are merged at the end (Flash-Decoding). Splits and tiles lie at fixed positions and few rows are computed
// as many are (attention_softmax.h), so a row's bits depend neither on the rows beside it nor on the number of threads.
// Backward needs q, k, v, out and lse. A row that sees no key gives 0 and lse = -inf.
#include "cpu/kernels/attention_blocks.h"
#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_rows.h"
#include "cpu/kernels/attention_tile.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// With this many items there is no need to share the splits out.
constexpr int64_t kEnoughItems = 64;
constexpr int64_t kPackedKeys = 1 << 17;  // elements of a head's keys

struct Forward {
  Attention a;
  TensorView out;
  float* lse;  // or null
  bool bf16_words, few_rows;
  bool packs_keys;           // if false, they are read in place
  float *k_words, *v_words;  // PackedKeys along the head and across the keys
  int64_t blocks, splits;
  bool apart;            // each split is an item of its own
  float* partial_out;    // [groups, splits, rows, width], not divided by l
  float* partial_stats;  // [groups, splits, rows, 2]: m, l

  int64_t partial(int64_t b, int64_t g, int64_t s, int64_t r) const {
    return ((b * a.Hkv + g) * splits + s) * a.rows + r;
  }
  float* partial_row(int64_t b, int64_t g, int64_t s, int64_t r) const {
    return partial_out + partial(b, g, s, r) * a.width;
  }
  void keep(int64_t b, int64_t g, int64_t s, int64_t r, float m, float l) const {
    partial_stats[2 * partial(b, g, s, r)] = m;
    partial_stats[2 * partial(b, g, s, r) + 1] = l;
  }
  // Returns tiles of keys and values that begin at a key.
  template <class Words>
  WordRows keys(int64_t group, int64_t key) const {
    using Keys = PackedKeys<Words>;
    return packs_keys ? Keys(a, Keys::along, k_words).from(group, key) : in_place(a.k.view, group, key);
  }
  template <class Words>
  WordRows values(int64_t group, int64_t key) const {
    using Keys = PackedKeys<Words>;
    return packs_keys ? Keys(a, Keys::across, v_words).from(group, key) : in_place(a.v.view, group, key);
  }
  WordRows in_place(const TensorView& x, int64_t group, int64_t key) const {
    return {reinterpret_cast<const float*>(a.key_row(x, group / a.Hkv, group % a.Hkv, key)), x.strides[1]};
  }
  // The factor that is left to multiply the row with.
  float finish(int64_t b, int64_t g, int64_t r, float m, float l) const {
    if (lse) lse[a.row_index(b, g, r)] = m + std::log(l);
    return l == 0 ? 0 : 1 / l;
  }
};

// o, m and l of the rows of a block, transposed: lanes are rows.
struct BlockSums {
  float* o;  // [D, kBlockQueries]
  float m[kBlockQueries], l[kBlockQueries];

  void clear(int64_t D, int64_t vectors) {
    for (int64_t d = 0; d < D; d++)
      __builtin_memset(o + d * kBlockQueries, 0, static_cast<size_t>(vectors * kWidth) * 4);
    for (int64_t i = 0; i < vectors * kWidth; i++) m[i] = -INFINITY, l[i] = 0;
  }
  void multiply(int64_t D, int64_t vectors, const float* factors) {
    for (int64_t d = 0; d < D; d++)
      for (int64_t c = 0; c < vectors; c++) {
        float* p = o + d * kBlockQueries + c * kWidth;
        store(p, load(p) * load(factors + c * kWidth));
      }
  }
  void merge(int64_t D, int64_t vectors, const BlockSums& split) {
    for (int64_t c = 0; c < vectors; c++) {
      const int64_t at = c * kWidth;
      vf next = load(m + at);
      const Merge merge(next, load(split.m + at));
      store(m + at, next);
      store(l + at, merge(load(l + at), load(split.l + at)));
      for (int64_t d = 0; d < D; d++) {
        float* p = o + d * kBlockQueries + at;
        store(p, merge(load(p), load(split.o + d * kBlockQueries + at)));
      }
    }
  }
};

int64_t block_scratch(const Attention& a) {
  return 4 * Scratch::rounded(a.D * kBlockQueries) + Scratch::rounded(kBlockKeys * kBlockQueries);
}

// The softmax of a tile of scores, in place: p = e^(s - m). Updates m and l and sets alpha, by which what was summed
// under the old m is to be multiplied; returns whether any of that is not 1.
bool online_softmax(const TileMask& mask, const BlockMask& block, const TileBlocks& blocks, int64_t begin, float* tile,
                    BlockSums& sums, float* alpha) {
  float change = 0;
  for (int64_t c = 0; c < mask.vectors; c++) {
    const KeySpan any = mask.any[c], all = mask.all[c];
    if (any.empty()) {
      store(alpha + c * kWidth, set1(1));
      continue;
    }
    const VectorMask lanes = block.lanes(c);
    float *column = tile + c * kWidth, *m = sums.m + c * kWidth, *l = sums.l + c * kWidth;
    vf highest = set1(-INFINITY);
    const auto hide = [&](int64_t from, int64_t to) {
      for (int64_t j = from; j < to; j++) {
        const vi sees = blocks.all ? lanes.sees(begin + j) : lanes.sees(begin + j) & blocks.sees(c, j);
        const vf s = select(sees, load(column + j * kBlockQueries), set1(-INFINITY));
        store(column + j * kBlockQueries, s);
        highest = vmax(highest, s);
      }
    };
    hide(any.begin, all.begin);
    for (int64_t j = all.begin; j < all.end; j++) highest = vmax(highest, load(column + j * kBlockQueries));
    hide(all.end, any.end);
    const vf next = next_maximum(load(m), highest), base = base_of(next);
    const vf factor = exp_nonpositive(load(m) - base);
    vf chains[kChains] = {};
    const auto add = [&](int64_t j, int chain) {
      const vf p = exp_nonpositive(load(column + j * kBlockQueries) - base);
      store(column + j * kBlockQueries, p);
      chains[chain] += p;
    };
    int64_t j = any.begin;
    for (; j % kChains != 0 && j < any.end; j++) add(j, static_cast<int>(j % kChains));
    for (; j + kChains <= any.end; j += kChains)
#pragma GCC unroll 4
      for (int i = 0; i < kChains; i++) add(j + i, i);
    for (; j < any.end; j++) add(j, static_cast<int>(j % kChains));
    store(m, next);
    store(l, add_tile(load(l), factor, join_chains(chains)));
    store(alpha + c * kWidth, factor);
    change = max_of(change, hmax(vabs(factor - set1(1))));
  }
  return change > 0;
}

// out += the tile's values times its probabilities, a sum for itself, which passes through `room` where masks cut the
// tile into rectangles.
template <class Words>
void add_values(const TileMask& mask, int64_t D, const WordRows& v, const float* tile, float* out, float* room) {
  if (mask.whole) return queries_product<Words>(mask, D, v, tile, out);
  const int64_t width = mask.vectors * kWidth;
  for (int64_t d = 0; d < D; d++) __builtin_memset(room + d * kBlockQueries, 0, static_cast<size_t>(width) * 4);
  queries_product<Words>(mask, D, v, tile, room, Sums::continued);
  for (int64_t d = 0; d < D; d++)
    for (int64_t i = d * kBlockQueries; i < d * kBlockQueries + width; i += kWidth)
      store(out + i, load(out + i) + load(room + i));
}

// Rows [first, first + n) of a group over the splits [begin, end): the output, or what a split by itself leaves.
template <class Words>
void attend_block(const Forward& f, int64_t b, int64_t g, int64_t first, int64_t n, int64_t first_split,
                  int64_t end_split, Scratch scratch) {
  const Attention& a = f.a;
  const int64_t vectors = ceil_div(n, kWidth);
  float* q = scratch.take(a.D * kBlockQueries);
  float* room = scratch.take(a.D * kBlockQueries);
  float* tile = scratch.take(kBlockKeys * kBlockQueries);
  BlockSums whole, sums;
  whole.o = scratch.take(a.D * kBlockQueries);
  sums.o = scratch.take(a.D * kBlockQueries);
  if (!f.apart) whole.clear(a.D, vectors);
  float factors[kBlockQueries];
  uint64_t draws[kBlockQueries];
  const char* rows[kBlockQueries];
  for (int64_t i = 0; i < vectors * kWidth; i++) {
    const int64_t r = first + min_of(i, n - 1);  // the remaining lanes repeat the last row
    rows[i] = a.query_row(a.q, b, g, r);
    draws[i] = a.first_draw(b, g, r);
  }
  const BlockMask block(a, b, first, n);
  const ScoreShape shape(a, b, g, first, n);
  pack_transposed<Words>(q, rows, n, a.dtype, a.D, a.scale);

  const int64_t group = b * a.Hkv + g;
  char* results[kBlockQueries];
  for (int64_t split = first_split; split < end_split; split++) {
    const int64_t start = max_of(split * kSplitKeys, block.seen.begin / kBlockKeys * kBlockKeys);
    const int64_t end = min_of((split + 1) * kSplitKeys, block.seen.end);
    if (start >= end && !f.apart) continue;
    sums.clear(a.D, vectors);
    for (int64_t begin = start; begin < end; begin += kBlockKeys) {
      const int64_t keys = min_of<int64_t>(kBlockKeys, end - begin);
      TileMask mask(block, begin, keys, Words::kTerms);
      if (mask.seen.empty()) continue;
      const TileBlocks blocks(a, b, g, first, n, begin, keys);
      if (!blocks.any) continue;
      if (!blocks.all) mask.look_at_all();
      const WordRows k = f.keys<Words>(group, begin), v = f.values<Words>(group, begin);
      scores_product<Words>(mask, a.D, k, q, tile, a.scale);
      if (a.shapes_scores()) shape.apply(mask, begin, tile);
      if (online_softmax(mask, block, blocks, begin, tile, sums, factors)) sums.multiply(a.D, vectors, factors);
      if (a.dropout_p > 0) {
        DropoutMask dropout;
        dropout.draw(a, draws, block, n, begin, keys);
        dropout.apply(a, mask, tile);
      }
      if constexpr (Words::kTerms == 2) round_across_keys<Words>(mask, tile, tile);
      add_values<Words>(mask, a.D, v, tile, sums.o, room);
    }
    if (!f.apart) {
      whole.merge(a.D, vectors, sums);
      continue;
    }
    for (int64_t i = 0; i < n; i++) {
      results[i] = reinterpret_cast<char*>(f.partial_row(b, g, split, first + i));
      f.keep(b, g, split, first + i, sums.m[i], sums.l[i]);
    }
    for (int64_t i = 0; i < kBlockQueries; i++) factors[i] = 1;
    unpack_transposed(results, DType::f32, sums.o, n, a.D, factors);
  }
  if (f.apart) return;
  for (int64_t i = 0; i < n; i++) {
    results[i] = a.query_row(f.out, b, g, first + i);
    factors[i] = f.finish(b, g, first + i, whole.m[i], whole.l[i]);
  }
  unpack_transposed(results, a.dtype, whole.o, n, a.D, factors);
}

// Computes all rows of groups that have few rows, over the keys of one split.
void attend_rows(const Forward& f, int64_t b, int64_t first, int64_t count, int64_t split, Scratch scratch) {
  const Attention& a = f.a;
  const KeySpan seen = a.keys_of_rows(b, 0, a.rows);
  const FewRows part{b,
                     first,
                     count,
                     split * kSplitKeys,
                     {max_of(split * kSplitKeys, seen.begin), min_of((split + 1) * kSplitKeys, seen.end)}};
  const int64_t rows = count * a.rows;
  float* o = scratch.take(rows * a.width);
  float* m = scratch.take(rows);
  float* l = scratch.take(rows);
  if (part.keys.empty()) {
    for (int64_t i = 0; i < rows; i++) f.keep(b, first + i / a.rows, split, i % a.rows, -INFINITY, 0);
    return;
  }
  with_words(f.bf16_words, [&](auto words) { attend_few_rows<decltype(words)>(a, part, o, m, l, scratch); });
  for (int64_t i = 0; i < rows; i++) {
    const int64_t g = first + i / a.rows, r = i % a.rows;
    write_row(reinterpret_cast<char*>(f.partial_row(b, g, split, r)), DType::f32, o + i * a.width, a.D, 1);
    f.keep(b, g, split, r, m[i], l[i]);
  }
}

// Merges the splits of a row, in the memory of the first.
void combine_row(const Forward& f, int64_t b, int64_t g, int64_t r) {
  const Attention& a = f.a;
  float* const o = f.partial_row(b, g, 0, r);
  vf m = set1(-INFINITY), l{};
  for (int64_t s = 0; s < f.splits; s++) {
    const float* const stats = f.partial_stats + 2 * f.partial(b, g, s, r);
    if (stats[1] == 0) {  // of no key: there may be no output either
      if (s == 0) __builtin_memset(o, 0, static_cast<size_t>(a.width) * 4);
      continue;
    }
    const Merge merge(m, set1(stats[0]));
    l = merge(l, set1(stats[1]));
    const float* const split = f.partial_row(b, g, s, r);
    for (int64_t d = 0; d < a.width; d += kWidth) store(o + d, merge(s == 0 ? vf{} : load(o + d), load(split + d)));
  }
  write_row(a.query_row(f.out, b, g, r), a.dtype, o, a.D, f.finish(b, g, r, m[0], l[0]));
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::attention_forward(Stream& stream, Out out, OptOut lse, In q, In k, In v, OptIn k_scales, OptIn v_scales,
                                 OptIn pages, OptIn key_lengths, OptIn query_starts, OptIn key_ranges, OptIn slopes,
                                 OptIn relative, Bool causal, Int window, Float softcap, Float scale, Float dropout_p,
                                 Int seed, OptIn block_mask, Int block_size) {
  constexpr const char* op = "attention_forward";
  Forward f{};
  f.a = make_attention(op, q, k, v,
                       {k_scales, v_scales, pages, key_lengths, query_starts, key_ranges, slopes, relative, block_mask,
                        block_size, causal, window, softcap, scale, dropout_p, seed},
                       !lse);
  const Attention& a = f.a;
  expect_queries(op, "out", out, a.sizes(), q.dtype);
  if (lse) expect_lse(op, *lse, a.sizes());
  if (lse && relative) fail(Code::argument, "%s: expected no relative biases with lse, got some", op);
  if (out.empty()) return;

  f.out = out;
  f.bf16_words = has_bf16_words(q.dtype);
  f.lse = lse ? lse->f32() : nullptr;
  // If lse is requested, a backward pass follows, whose probabilities only sum to 1 if it rounds the scores as forward
  // does.
  f.few_rows = a.rows <= kFewRows && !lse;
  f.blocks = f.few_rows ? 1 : ceil_div(a.rows, kBlockQueries);
  f.splits = max_of<int64_t>(1, ceil_div(a.Tk, kSplitKeys));
  f.apart = f.few_rows || (f.splits > 1 && a.groups() * f.blocks < kEnoughItems);

  // Few rows: groups are combined as far as that leaves work for all threads.
  const int64_t together =
      f.few_rows ? max_of<int64_t>(1, min_of<int64_t>(a.Hkv, a.groups() * f.splits / (4 * thread_count()))) : 1;
  const int64_t parts = ceil_div(a.Hkv, together);
  const int64_t splits = f.apart ? f.splits : 1;  // items of a block
  const int64_t items = a.B * parts * f.blocks * splits;
  const int64_t workers = min_of<int64_t>(items, thread_count());
  const int64_t scratch = f.few_rows ? few_rows_scratch(a, together) : block_scratch(a);
  const int64_t partials = f.apart ? a.groups() * f.splits * a.rows : 0;
  // f32 is read where it lies unless a head's keys and values outgrow the L2 cache: many rows far apart are beyond the
  // hardware's prefetcher. Tiles may reach across the borders of pages, so keys in pages are packed too, and codes.
  f.packs_keys =
      !f.few_rows && (pages || a.coded() || a.key_dtype != DType::f32 || (f.blocks >= 8 && a.Tk * a.D >= kPackedKeys));
  int64_t packed_k = 0, packed_v = 0;
  if (f.packs_keys)
    with_words(f.bf16_words, [&](auto words) {
      using Keys = PackedKeys<decltype(words)>;
      packed_k = Scratch::rounded(Keys::size(a, Keys::along));
      packed_v = Scratch::rounded(Keys::size(a, Keys::across));
    });
  const int64_t floats = workers * scratch + packed_k + packed_v + partials * (a.width + 2);
  const Stream::Workspace workspace(stream, op, static_cast<size_t>(floats) * 4);
  float* memory = workspace.f32();
  f.k_words = memory + workers * scratch;
  f.v_words = f.k_words + packed_k;
  f.partial_out = f.v_words + packed_v;
  f.partial_stats = f.partial_out + partials * a.width;

  stream.launch(op, [=] {
    const Attention& a = f.a;
    a.check_lengths();
    if (f.packs_keys)
      with_words(f.bf16_words, [&](auto words) {
        using Keys = PackedKeys<decltype(words)>;
        Keys(a, Keys::along, f.k_words).pack(a, a.k);
        Keys(a, Keys::across, f.v_words).pack(a, a.v);
      });
    for_each_item(workers, items, [&](int64_t worker, int64_t item) {
      const int64_t split = item % splits, block = f.blocks - 1 - item / splits % f.blocks;
      const int64_t part = item / splits / f.blocks, b = part / parts, g = part % parts * together;
      const Scratch piece(memory + worker * scratch);
      if (f.few_rows) return attend_rows(f, b, g, min_of(together, a.Hkv - g), split, piece);
      const int64_t first = block * kBlockQueries;
      with_words(f.bf16_words, [&](auto words) {
        attend_block<decltype(words)>(f, b, g, first, min_of<int64_t>(kBlockQueries, a.rows - first), split,
                                      f.apart ? split + 1 : f.splits, piece);
      });
    });
    if (!f.apart) return;
    parallel_for(a.groups() * a.rows, 16, [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; i++) combine_row(f, i / a.rows / a.Hkv, i / a.rows % a.Hkv, i % a.rows);
    });
  });
}

}  // namespace heed::cpu
