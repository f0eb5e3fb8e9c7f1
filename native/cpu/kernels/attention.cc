// attention_forward: out = dropout(softmax(scores + mask)) v, and lse, the natural log of Σ exp of each row's scores,
// which are scale · q k^T, capped and biased as ops.def describes. It is FlashAttention-2 (Dao 2023): key tiles are
// processed one after another and the softmax is kept online (running maximum m and sum l, with the output rescaled
// when m grows), so that no [Tq, Tk] matrix exists. Tiles that no query of a block sees are skipped.
//
// The work is parallel over groups of heads that share keys, blocks of their query rows and, if those are too few,
// splits of the keys. The o, m and l of the splits are combined at the end (Flash-Decoding). Splits depend on shapes
// only, so results do not depend on the number of threads. Backward needs q, k, v, out and lse. A row that sees no key
// gives 0 and lse = -inf.
#include "cpu/kernels/attention_blocks.h"
#include "cpu/kernels/attention_dropout.h"
#include "cpu/kernels/attention_rows.h"
#include "cpu/kernels/attention_tile.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// With this many items there is no need to split the keys.
constexpr int64_t kEnoughItems = 64;
constexpr int64_t kSplitKeys = 8 * kBlockKeys;
constexpr int64_t kPackedKeys = 1 << 17;  // elements of a head's keys from which they are packed
// A score may exceed the maximum in use by this much before that maximum is raised, which rescales the output:
// probabilities up to e^8 are as accurate as those up to 1.
constexpr float kSlack = 8;

struct Forward {
  Attention a;
  TensorView out;
  float* lse;  // or null
  bool bf16_words, few_rows;
  bool packs_keys;           // if false, they are read in place
  float *k_words, *v_words;  // PackedKeys along the head and across the keys
  int64_t blocks, splits, split_keys;
  float* partial_out;    // [groups, splits, rows, width], not divided by l
  float* partial_stats;  // [groups, splits, rows, 2]: m, l

  int64_t partial(int64_t b, int64_t g, int64_t s, int64_t r) const {
    return ((b * a.Hkv + g) * splits + s) * a.rows + r;
  }
  float* partial_row(int64_t b, int64_t g, int64_t s, int64_t r) const {
    return partial_out + partial(b, g, s, r) * a.width;
  }
  // Returns the place to which a split writes its row: the output if there are no other splits.
  char* output_row(int64_t b, int64_t g, int64_t s, int64_t r) const {
    return splits > 1 ? reinterpret_cast<char*>(partial_row(b, g, s, r)) : a.query_row(out, b, g, r);
  }
  // Returns tiles of keys and values that begin at a key.
  template <class Words>
  WordRows keys(int64_t group, int64_t key) const {
    using Keys = PackedKeys<Words>;
    return packs_keys ? Keys(a, Keys::along, k_words).from(group, key) : in_place(a.k, group, key);
  }
  template <class Words>
  WordRows values(int64_t group, int64_t key) const {
    using Keys = PackedKeys<Words>;
    return packs_keys ? Keys(a, Keys::across, v_words).from(group, key) : in_place(a.v, group, key);
  }
  WordRows in_place(const TensorView& x, int64_t group, int64_t key) const {
    return {reinterpret_cast<const float*>(a.key_row(x, group / a.Hkv, group % a.Hkv, key)), x.strides[1]};
  }
  DType output_dtype() const { return splits > 1 ? DType::f32 : a.dtype; }
  // Stores m and l, and returns the factor that remains to be multiplied with the row.
  float finish_row(int64_t b, int64_t g, int64_t s, int64_t r, float m, float l) const {
    if (splits > 1) {
      partial_stats[2 * partial(b, g, s, r)] = m;
      partial_stats[2 * partial(b, g, s, r) + 1] = l;
      return 1;
    }
    return finish(b, g, r, m, l);
  }
  float finish(int64_t b, int64_t g, int64_t r, float m, float l) const {
    if (lse) lse[a.row_index(b, g, r)] = m + std::log(l);
    return l == 0 ? 0 : 1 / l;
  }
};

int64_t block_scratch(const Attention& a) {
  return 2 * Scratch::rounded(a.D * kBlockQueries) + Scratch::rounded(kBlockKeys * kBlockQueries);
}

// The softmax of a tile of scores, in place: p = e^(s - m), with m their maximum to within kSlack. It updates m and l
// and sets alpha, the factor for sums that were computed under the old m. Returns true if any alpha is not 1.
bool online_softmax(const TileMask& mask, const BlockMask& block, const TileBlocks& blocks, int64_t begin, float* tile,
                    float* m, float* l, float* alpha) {
  const vf minus_infinity = set1(-INFINITY);
  float change = 0;
  for (int64_t c = 0; c < mask.vectors; c++) {
    const KeySpan any = mask.any[c], all = mask.all[c];
    if (any.empty()) {
      store(alpha + c * kWidth, set1(1));
      continue;
    }
    const VectorMask lanes = block.lanes(c);
    float* column = tile + c * kWidth;
    const vf old_max = load(m + c * kWidth);
    vf new_max = old_max;
    const auto hide = [&](int64_t from, int64_t to) {
      for (int64_t j = from; j < to; j++) {
        const vi sees = blocks.all ? lanes.sees(begin + j) : lanes.sees(begin + j) & blocks.sees(c, j);
        const vf s = select(sees, load(column + j * kBlockQueries), minus_infinity);
        store(column + j * kBlockQueries, s);
        new_max = vmax(new_max, s);
      }
    };
    hide(any.begin, all.begin);
    for (int64_t j = all.begin; j < all.end; j++) new_max = vmax(new_max, load(column + j * kBlockQueries));
    hide(all.end, any.end);
    new_max = select(new_max > old_max + set1(kSlack), new_max, old_max);
    // For a row that has seen no key yet, e^(-inf - 0) is 0 while e^(-inf + inf) would be NaN.
    const vf base = select(new_max == minus_infinity, vf{}, new_max);
    const vf factor = exp_nonpositive(old_max - base);
    vf sum = load(l + c * kWidth) * factor;
    for (int64_t j = any.begin; j < any.end; j++) {
      const vf p = exp_nonpositive(load(column + j * kBlockQueries) - base);
      store(column + j * kBlockQueries, p);
      sum += p;
    }
    store(m + c * kWidth, new_max);
    store(l + c * kWidth, sum);
    store(alpha + c * kWidth, factor);
    change = max_of(change, hmax(vabs(factor - set1(1))));
  }
  return change > 0;
}

// Computes rows [first, first + n) of a group over the keys of one split.
template <class Words>
void attend_block(const Forward& f, int64_t b, int64_t g, int64_t first, int64_t n, int64_t split, Scratch scratch) {
  const Attention& a = f.a;
  const int64_t vectors = ceil_div(n, kWidth);
  float* q = scratch.take(a.D * kBlockQueries);
  float* o = scratch.take(a.D * kBlockQueries);
  float* tile = scratch.take(kBlockKeys * kBlockQueries);
  float m[kBlockQueries], l[kBlockQueries], alpha[kBlockQueries];
  uint64_t draws[kBlockQueries];
  const char* rows[kBlockQueries];
  for (int64_t i = 0; i < vectors * kWidth; i++) {
    const int64_t r = first + min_of(i, n - 1);  // the remaining lanes repeat the last row
    rows[i] = a.query_row(a.q, b, g, r);
    draws[i] = a.first_draw(b, g, r);
    m[i] = -INFINITY;
    l[i] = 0;
  }
  const BlockMask block(a, b, first, n);
  const ScoreShape shape(a, b, g, first, n);
  pack_transposed<Words>(q, rows, n, a.dtype, a.D, a.scale);
  for (int64_t d = 0; d < a.D; d++)
    __builtin_memset(o + d * kBlockQueries, 0, static_cast<size_t>(vectors * kWidth) * 4);

  const int64_t end = min_of<int64_t>((split + 1) * f.split_keys, block.seen.end);
  const int64_t start = first_tile(a, max_of(split * f.split_keys, block.seen.begin), Words::kTerms);
  const int64_t group = b * a.Hkv + g;
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
    if (online_softmax(mask, block, blocks, begin, tile, m, l, alpha))
      for (int64_t d = 0; d < a.D; d++)
        for (int64_t c = 0; c < vectors; c++) {
          float* p = o + d * kBlockQueries + c * kWidth;
          store(p, load(p) * load(alpha + c * kWidth));
        }
    if (a.dropout_p > 0) {
      DropoutMask dropout;
      dropout.draw(a, draws, block, n, begin, keys);
      dropout.apply(a, mask, tile);
    }
    if constexpr (Words::kTerms == 2) round_across_keys<Words>(mask, tile, tile);
    queries_product<Words>(mask, a.D, v, tile, o);
  }

  char* results[kBlockQueries];
  for (int64_t i = 0; i < n; i++) {
    results[i] = f.output_row(b, g, split, first + i);
    alpha[i] = f.finish_row(b, g, split, first + i, m[i], l[i]);
  }
  unpack_transposed(results, f.output_dtype(), o, n, a.D, alpha);
}

// Computes all rows of groups that have few rows, over the keys of one split.
void attend_rows(const Forward& f, int64_t b, int64_t first, int64_t count, int64_t split, Scratch scratch) {
  const Attention& a = f.a;
  const KeySpan seen = a.keys_of_rows(b, 0, a.rows);
  const int64_t begin = max_of(split * f.split_keys, seen.begin);
  const int64_t keys = max_of<int64_t>(min_of((split + 1) * f.split_keys, seen.end) - begin, 0);
  const int64_t rows = count * a.rows;
  if (keys == 0 && f.splits > 1) {
    for (int64_t i = 0; i < rows; i++) f.finish_row(b, first + i / a.rows, split, i % a.rows, -INFINITY, 0);
    return;
  }
  float* o = scratch.take(rows * a.width);
  float* m = scratch.take(rows);
  float* l = scratch.take(rows);
  attend_few_rows(a, {b, first, count, begin, keys}, o, m, l, scratch);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t g = first + i / a.rows, r = i % a.rows;
    write_row(f.output_row(b, g, split, r), f.output_dtype(), o + i * a.width, a.D,
              f.finish_row(b, g, split, r, m[i], l[i]));
  }
}

// out = Σ_s e^(m_s - m) o_s / Σ_s e^(m_s - m) l_s with m the largest m_s.
void combine_row(const Forward& f, int64_t b, int64_t g, int64_t r) {
  const Attention& a = f.a;
  float m = -INFINITY, l = 0;
  const auto stats = [&](int64_t s) { return f.partial_stats + 2 * f.partial(b, g, s, r); };
  for (int64_t s = 0; s < f.splits; s++) m = max_of(m, stats(s)[0]);
  const auto weight = [&](int64_t s) { return stats(s)[1] == 0 ? 0 : std::exp(stats(s)[0] - m); };
  for (int64_t s = 0; s < f.splits; s++) l += weight(s) * stats(s)[1];
  const float factor = f.finish(b, g, r, m, l);
  char* out = a.query_row(f.out, b, g, r);
  for (int64_t d = 0; d < a.D; d += kWidth) {
    vf sum{};
    for (int64_t s = 0; s < f.splits; s++) {
      if (stats(s)[1] == 0) continue;  // it saw no key, and may have no output either
      sum = fma(set1(weight(s)), load(f.partial_row(b, g, s, r) + d), sum);
    }
    with_float_type(a.dtype, [&](auto element) {
      write(reinterpret_cast<decltype(element)*>(out) + d, sum * set1(factor), a.D - d);
    });
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::attention_forward(Stream& stream, Out out, OptOut lse, In q, In k, In v, OptIn pages, OptIn key_lengths,
                                 OptIn query_starts, OptIn key_ranges, OptIn slopes, Bool causal, Int window,
                                 Float softcap, Float scale, Float dropout_p, Int seed, OptIn block_mask,
                                 Int block_size) {
  constexpr const char* op = "attention_forward";
  Forward f{};
  f.a = make_attention(op, q, k, v,
                       {pages, key_lengths, query_starts, key_ranges, slopes, block_mask, block_size, causal, window,
                        softcap, scale, dropout_p, seed});
  const Attention& a = f.a;
  expect_queries(op, "out", out, a.sizes(), q.dtype);
  if (lse) expect_lse(op, *lse, a.sizes());
  if (out.empty()) return;

  f.out = out;
  f.bf16_words = has_bf16_words(q.dtype);
  f.lse = lse ? lse->f32() : nullptr;
  // If lse is requested, a backward pass follows, whose probabilities only sum to 1 if it rounds the scores as forward
  // does.
  f.few_rows = a.rows <= kFewRows && !lse;
  f.blocks = f.few_rows ? 1 : ceil_div(a.rows, kBlockQueries);
  f.split_keys = f.few_rows ? kFewRowsKeys : kSplitKeys;
  if (!f.few_rows && a.groups() * f.blocks >= kEnoughItems) f.split_keys = max_of<int64_t>(a.Tk, 1);
  f.splits = max_of<int64_t>(1, ceil_div(a.Tk, f.split_keys));

  // Few rows: groups are combined as far as that leaves work for all threads.
  const int64_t together =
      f.few_rows ? max_of<int64_t>(1, min_of<int64_t>(a.Hkv, a.groups() * f.splits / (4 * thread_count()))) : 1;
  const int64_t parts = ceil_div(a.Hkv, together);
  const int64_t items = a.B * parts * f.blocks * f.splits;
  const int64_t workers = min_of<int64_t>(items, thread_count());
  const int64_t scratch = f.few_rows ? few_rows_scratch(a, together) : block_scratch(a);
  const int64_t partials = f.splits > 1 ? a.groups() * f.splits * a.rows : 0;
  // f32 is read where it lies unless a head's keys and values outgrow the L2 cache: many rows far apart are beyond the
  // hardware's prefetcher. Tiles may reach across the borders of pages, so keys in pages are packed too.
  f.packs_keys = !f.few_rows && (pages || a.dtype != DType::f32 || (f.blocks >= 8 && a.Tk * a.D >= kPackedKeys));
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
      const int64_t split = item % f.splits, block = f.blocks - 1 - item / f.splits % f.blocks;
      const int64_t part = item / f.splits / f.blocks, b = part / parts, g = part % parts * together;
      const Scratch piece(memory + worker * scratch);
      if (f.few_rows) return attend_rows(f, b, g, min_of(together, a.Hkv - g), split, piece);
      const int64_t first = block * kBlockQueries;
      with_words(f.bf16_words, [&](auto words) {
        attend_block<decltype(words)>(f, b, g, first, min_of<int64_t>(kBlockQueries, a.rows - first), split, piece);
      });
    });
    if (f.splits == 1) return;
    parallel_for(a.groups() * a.rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) combine_row(f, i / a.rows / a.Hkv, i / a.rows % a.Hkv, i % a.rows);
    });
  });
}

}  // namespace heed::cpu
