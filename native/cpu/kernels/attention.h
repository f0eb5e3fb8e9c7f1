// What attention forward and backward share: the problem with its checks, which keys a query sees, how the rows of a
// head group are numbered, and how tasks get scratch memory.
//
// The H / Hkv = G query heads that share one key head are taken together: row r of group g is query r / G of head
// g · G + r % G, for Tq · G rows a group. So a key tile is read once for the whole group, and since rows keep the order
// of the queries, the number of keys that a causal row sees never falls from one row to the next.
#pragma once
#include "core/checks/attention.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct Attention {
  TensorView q, k, v;
  int64_t B, Tq, Tk, H, Hkv, D, G;
  int64_t rows;                 // of a group: Tq · G
  int64_t width;                // D, padded to whole vectors
  const int32_t* key_lengths;   // [B] or null
  const int32_t* query_starts;  // [B] or null
  bool causal;
  float scale, dropout_p;
  uint64_t seed;

  int64_t groups() const { return B * Hkv; }
  AttentionSizes sizes() const { return {B, Tq, Tk, H, Hkv, D}; }
  int64_t head(int64_t g, int64_t r) const { return g * G + r % G; }

  // Row r of group g in a tensor with q's shape.
  float* query_row(const TensorView& x, int64_t b, int64_t g, int64_t r) const {
    return x.f32() + b * x.strides[0] + (r / G) * x.strides[1] + head(g, r) * x.strides[2];
  }
  // Key j of group g in a tensor with k's shape.
  float* key_row(const TensorView& x, int64_t b, int64_t g, int64_t j) const {
    return x.f32() + b * x.strides[0] + j * x.strides[1] + g * x.strides[2];
  }
  // Of row r in a [B, H, Tq] tensor.
  int64_t row_index(int64_t b, int64_t g, int64_t r) const { return (b * H + head(g, r)) * Tq + r / G; }
  // Dropout's element of the row's key 0.
  uint64_t first_draw(int64_t b, int64_t g, int64_t r) const {
    return static_cast<uint64_t>(row_index(b, g, r)) * static_cast<uint64_t>(Tk);
  }

  // Row r sees keys [0, visible).
  int64_t visible(int64_t b, int64_t r) const {
    const int64_t length = key_lengths ? key_lengths[b] : Tk;
    if (!causal) return length;
    const int64_t start = query_starts ? query_starts[b] : length - Tq;
    return max_of<int64_t>(0, min_of(length, start + r / G + 1));
  }

  // Runs on the queue, where the lengths can be read.
  void check_lengths() const {
    if (!key_lengths) return;
    for (int64_t b = 0; b < B; b++)
      if (key_lengths[b] < 0 || key_lengths[b] > Tk)
        fail(Code::range, "expected key_lengths from 0 to %lld, got %d", static_cast<long long>(Tk), key_lengths[b]);
  }
};

inline Attention make_attention(const char* op, In q, In k, In v, OptIn key_lengths, OptIn query_starts, bool causal,
                                float scale, float dropout_p, int64_t seed) {
  expect_dtype(op, "q", q, DType::f32);
  const AttentionSizes n = check_attention(op, q, k, v, key_lengths, query_starts, scale, dropout_p);
  const int64_t G = n.H / n.Hkv;
  return {q,
          k,
          v,
          n.B,
          n.Tq,
          n.Tk,
          n.H,
          n.Hkv,
          n.D,
          G,
          n.Tq * G,
          ceil_div(n.D, kWidth) * kWidth,
          key_lengths ? key_lengths->i32() : nullptr,
          query_starts ? query_starts->i32() : nullptr,
          causal,
          scale,
          dropout_p,
          static_cast<uint64_t>(seed)};
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

// body(worker, item) for every item; a worker handles one item at a time, so that scratch memory is needed once for
// each worker and not for each item. Which worker gets an item is left to chance and must not matter.
template <class Body>
inline void for_each_item(int64_t workers, int64_t items, const Body& body) {
  int64_t next = 0;
  parallel_for(workers, 1, [&](int64_t worker, int64_t) {
    for (;;) {
      const int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (item >= items) return;
      body(worker, item);
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
