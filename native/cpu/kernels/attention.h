// Definitions that attention forward and backward share: the problem with its checks, the keys that a query sees, the
// numbering of the rows of a head group, and the scratch memory of tasks.
//
// The H / Hkv = G query heads that share one key head are processed together: row r of group g is query r / G of head g
// · G + r % G, so that a group has Tq · G rows. A key tile is then read once for the whole group. Because rows keep the
// order of the queries, the number of keys that a causal row sees never falls from one row to the next.
#pragma once
#include "core/checks/attention.h"
#include "core/visible_keys.h"
#include "cpu/kernels/flush_subnormals.h"
#include "cpu/kernels/key_codes.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Keys [begin, end). There are none unless begin < end.
struct KeySpan {
  int64_t begin, end;

  bool empty() const { return begin >= end; }
  bool contains(int64_t key) const { return begin <= key && key < end; }
};

// Where keys and values lie that are in pages (ops.def).
struct KeyPages {
  const int32_t* table;          // [B, columns] or null
  int64_t columns, size, count;  // tokens of a page, and number of pages

  int64_t page(int64_t b, int64_t j) const { return table[b * columns + j / size]; }
};

// Keys or values: numbers, or codes with their scales (ops.def).
struct KeyTensor {
  TensorView view;
  const float* scales;  // [view.shape[0], view.shape[1], Hkv] or null
};

// The biases of keys by their distance from the query (ops.def).
struct RelativeBias {
  const float* table;  // [H, 2 reach + 1] or null
  int64_t reach;

  // Returns the bias of a key at this distance from a query of the head.
  float of(int64_t head, int64_t distance) const {
    return table[head * (2 * reach + 1) + reach + min_of(max_of(distance, -reach), reach)];
  }
};

// The mask of blocks (ops.def).
struct KeyBlocks {
  const uint8_t* mask;  // or null
  int64_t size, rows, columns;
  int64_t batch_stride, head_stride;  // 0 if all share one mask
};

struct Attention {
  TensorView q;
  KeyTensor k, v;
  DType dtype;           // of q and all tensors of its shape
  DType key_dtype;       // of k and v, or the dtype to which their codes are rounded
  int64_t element_size;  // in bytes
  int64_t key_size;      // of an element of k and v, in bytes
  int64_t B, Tq, Tk, H, Hkv, D, G;
  int64_t rows;   // of a group: Tq · G
  int64_t width;  // D, padded to whole vectors
  KeyPages pages;
  const int32_t* key_lengths;   // [B] or null
  const int32_t* query_starts;  // [B] or null
  const int32_t* key_ranges;    // [B, Tq, 2] or null
  const float* slopes;          // [H] or null
  RelativeBias relative;
  KeyBlocks blocks;
  bool causal;
  int64_t window;  // 0 if there is no window
  float softcap;   // 0 if there is no cap
  float scale, dropout_p;
  uint64_t seed;

  int64_t groups() const { return B * Hkv; }
  AttentionSizes sizes() const { return {B, Tq, Tk, H, Hkv, D}; }
  int64_t head(int64_t g, int64_t r) const { return g * G + r % G; }

  // Returns row r of group g in a tensor with q's shape.
  char* query_row(const TensorView& x, int64_t b, int64_t g, int64_t r) const {
    return x.ptr<char>() + (b * x.strides[0] + (r / G) * x.strides[1] + head(g, r) * x.strides[2]) * element_size;
  }
  // Returns key j of group g in a tensor with k's shape.
  char* key_row(const TensorView& x, int64_t b, int64_t g, int64_t j) const {
    if (pages.table) b = pages.page(b, j), j %= pages.size;
    return x.ptr<char>() + (b * x.strides[0] + j * x.strides[1] + g * x.strides[2]) * key_size;
  }
  CodedRow coded_row(const KeyTensor& x, int64_t b, int64_t g, int64_t j) const {
    const auto* codes = reinterpret_cast<const uint8_t*>(key_row(x.view, b, g, j));
    if (pages.table) b = pages.page(b, j), j %= pages.size;
    return {codes, x.scales[(b * x.view.shape[1] + j) * Hkv + g]};
  }
  // Returns the index of row r in a [B, H, Tq] tensor.
  int64_t row_index(int64_t b, int64_t g, int64_t r) const { return (b * H + head(g, r)) * Tq + r / G; }
  // Returns the element of dropout's draws that belongs to the row's key 0.
  uint64_t first_draw(int64_t b, int64_t g, int64_t r) const {
    return static_cast<uint64_t>(row_index(b, g, r)) * static_cast<uint64_t>(Tk);
  }

  int64_t length(int64_t b) const { return key_lengths ? key_lengths[b] : Tk; }
  SequenceKeys sequence(int64_t b) const {
    SequenceKeys keys{};
    keys.length = static_cast<int>(length(b));
    keys.start = query_starts ? query_starts[b] : keys.length - Tq;
    keys.queries = Tq;
    keys.ranges = key_ranges ? key_ranges + 2 * b * Tq : nullptr;
    keys.window = window;
    keys.causal = causal;
    return keys;
  }
  // Returns the position of a query among the keys.
  int64_t position(int64_t b, int64_t query) const { return sequence(b).position(query); }
  // Returns the keys that a query sees, limited to existing keys even if its range reaches beyond them.
  KeySpan keys(int64_t b, int64_t query) const {
    const KeyInterval seen = sequence(b).of(query);
    return {min_of<int64_t>(seen.first, length(b)), max_of<int64_t>(seen.end, 0)};
  }
  // Returns the block mask of row r, one byte per block of keys, or null if the mask has no row for its position.
  const uint8_t* blocks_of_row(int64_t b, int64_t g, int64_t r) const {
    const int64_t p = position(b, r / G);
    if (p < 0 || p / blocks.size >= blocks.rows) return nullptr;
    return blocks.mask + b * blocks.batch_stride + head(g, r) * blocks.head_stride + p / blocks.size * blocks.columns;
  }
  // Returns the keys from the first to the last that any of the rows [first, first + n) sees.
  KeySpan keys_of_rows(int64_t b, int64_t first, int64_t n) const {
    if (n <= 0) return {0, 0};
    const int64_t query = first / G, last = (first + n - 1) / G;
    if (!key_ranges) return {keys(b, query).begin, keys(b, last).end};
    KeySpan seen{Tk, 0};
    for (int64_t i = query; i <= last; i++) {
      const KeySpan own = keys(b, i);
      if (own.empty()) continue;
      seen = {min_of(seen.begin, own.begin), max_of(seen.end, own.end)};
    }
    return seen;
  }
  bool coded() const { return k.scales; }
  // Returns true if the softmax is not applied to the scaled products directly.
  bool shapes_scores() const { return softcap > 0 || slopes || relative.table; }

  // Runs on the queue, where the lengths and pages can be read.
  void check_lengths() const {
    for (int64_t b = 0; key_lengths && b < B; b++)
      if (key_lengths[b] < 0 || key_lengths[b] > Tk)
        fail(Code::range, "expected key_lengths from 0 to %lld, got %d", static_cast<long long>(Tk), key_lengths[b]);
    for (int64_t b = 0; pages.table && b < B; b++)
      for (int64_t j = 0; j < length(b); j += pages.size)
        if (pages.page(b, j) < 0 || pages.page(b, j) >= pages.count)
          fail(Code::range, "expected pages from 0 to %lld, got %lld at place %lld of sequence %lld",
               static_cast<long long>(pages.count - 1), static_cast<long long>(pages.page(b, j)),
               static_cast<long long>(j / pages.size), static_cast<long long>(b));
  }
};

// Calls f(row) with row(i), key first + i of a group as it is stored, and none for keys that are not `seen`.
template <class F>
inline void with_key_rows(const Attention& a, const KeyTensor& x, int64_t b, int64_t g, KeySpan seen, int64_t first,
                          const F& f) {
  if (x.scales)
    f([&](int64_t i) { return seen.contains(first + i) ? a.coded_row(x, b, g, first + i) : CodedRow{}; });
  else
    f([&](int64_t i) -> const char* {
      return seen.contains(first + i) ? a.key_row(x.view, b, g, first + i) : nullptr;
    });
}

inline Attention make_attention(const char* op, In q, In k, In v, const AttentionOptions& options, bool takes_halves) {
  const AttentionSizes n = check_attention(op, q, k, v, options, takes_halves);
  const auto ints = [](OptIn x) { return x ? x->i32() : nullptr; };
  Attention a{};
  a.q = q;
  a.k = {k, options.k_scales ? options.k_scales->f32() : nullptr};
  a.v = {v, options.v_scales ? options.v_scales->f32() : nullptr};
  a.dtype = q.dtype;
  a.key_dtype = options.k_scales ? q.dtype : k.dtype;
  a.element_size = static_cast<int64_t>(size_of(q.dtype));
  a.key_size = static_cast<int64_t>(size_of(k.dtype));
  a.B = n.B;
  a.Tq = n.Tq;
  a.Tk = n.Tk;
  a.H = n.H;
  a.Hkv = n.Hkv;
  a.D = n.D;
  a.G = n.H / n.Hkv;
  a.rows = n.Tq * a.G;
  a.width = ceil_div(n.D, kWidth) * kWidth;
  if (const TensorView* pages = options.pages)
    a.pages = {pages->i32(), pages->shape[1], max_of<int64_t>(k.shape[1], 1), k.shape[0]};
  a.key_lengths = ints(options.key_lengths);
  a.query_starts = ints(options.query_starts);
  a.key_ranges = ints(options.key_ranges);
  a.slopes = options.slopes ? options.slopes->f32() : nullptr;
  if (const TensorView* relative = options.relative) a.relative = {relative->f32(), relative->shape[1] / 2};
  if (const TensorView* mask = options.block_mask) {
    a.blocks.mask = mask->ptr<uint8_t>();
    a.blocks.size = options.block_size;
    a.blocks.rows = mask->shape[2];
    a.blocks.columns = mask->shape[3];
    a.blocks.batch_stride = mask->shape[0] == 1 ? 0 : mask->strides[0];
    a.blocks.head_stride = mask->shape[1] == 1 ? 0 : mask->strides[1];
  }
  a.causal = options.causal;
  a.window = min_of(options.window, kMostWindow);
  a.softcap = options.softcap;
  a.scale = options.scale;
  a.dropout_p = options.dropout_p;
  a.seed = static_cast<uint64_t>(options.seed);
  return a;
}

// Hands out pieces of one worker's scratch memory.
class Scratch {
 public:
  explicit Scratch(float* begin) : next_(begin) {}
  float* take(int64_t floats) {
    float* piece = next_;
    next_ += rounded(floats);
    return piece;
  }
  // Pieces start on a cache line.
  static int64_t rounded(int64_t floats) { return ceil_div(floats, 16) * 16; }

 private:
  float* next_;
};

// Calls body(worker, item) for every item, with subnormal numbers as zeros. A worker handles one item after the other,
// so that scratch memory is needed once for each worker and not for each item. Chance decides which worker gets an
// item, and it must not matter.
template <class Body>
inline void for_each_item(int64_t workers, int64_t items, const Body& body) {
  int64_t next = 0;
  parallel_for(workers, 1, [&](int64_t worker, int64_t) {
    const FlushSubnormals flush;
    for (;;) {
      const int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (item >= items) return;
      body(worker, item);
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
