// Attention's tests: a case, its tensors and what the operations make of them, held against the definition in float64.
#pragma once
#include "check.h"

namespace heed::test::attention {

enum class Layout { plain, packed, heads_first };

struct Case {
  int64_t B = 1, Tq = 1, Tk = 1, H = 1, Hkv = 1, D = 1;
  bool causal = false;
  std::vector<int32_t> lengths = {}, starts = {};
  float p = 0;
  Layout layout = Layout::plain;
  float scale = NAN;  // NaN: 1/sqrt(D)
  float spread = 1;   // q, k and v are from mean ± spread
  float mean = 0;
  int64_t window = 0;
  std::vector<int32_t> ranges = {};  // [B, Tq, 2]
  std::vector<float> slopes = {};    // [H]
  float softcap = 0;
  std::vector<uint8_t> mask = {};  // [B, H, mask_rows, columns for every key]
  int64_t mask_rows = 0, block_size = 0;

  bool sees(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const int64_t p = position(b, i);
    if (j >= (lengths.empty() ? Tk : lengths[b])) return false;
    if (causal && j > p) return false;
    if (window > 0 && std::llabs(p - j) >= window) return false;  // causal: what is later is hidden above
    if (!mask.empty()) {
      if (p < 0 || p / block_size >= mask_rows) return false;
      const int64_t columns = (Tk + block_size - 1) / block_size;
      if (!mask[((b * H + h) * mask_rows + p / block_size) * columns + j / block_size]) return false;
    }
    return ranges.empty() || (j >= ranges[2 * (b * Tq + i)] && j < ranges[2 * (b * Tq + i) + 1]);
  }
  int64_t position(int64_t b, int64_t i) const {
    const int64_t length = lengths.empty() ? Tk : lengths[b];
    return (starts.empty() ? length - Tq : starts[b]) + i;
  }
};

// f32 memory behind a [B, T, heads, D] view, which may be a part of packed rows.
struct Heads {
  Heads(int64_t B, int64_t T, int64_t heads, int64_t D, Layout layout) : array({B, T, heads, D}), view(array.view) {
    if (layout != Layout::heads_first) return;
    view.strides[1] = D;
    view.strides[2] = T * D;
  }
  // Columns [first, first + heads · D) of packed rows.
  Heads(const Array<float>& packed, int64_t first, int64_t heads, int64_t D) : array({0}), view(packed.view) {
    view.rank = 4;
    view.shape[2] = heads;
    view.shape[3] = D;
    view.strides[2] = D;
    view.strides[3] = 1;
    view.data = packed.view.f32() + first;
  }
  float& at(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return view.f32()[b * view.strides[0] + t * view.strides[1] + h * view.strides[2] + d];
  }
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t b = 0; b < view.shape[0]; b++)
      for (int64_t t = 0; t < view.shape[1]; t++)
        for (int64_t h = 0; h < view.shape[2]; h++)
          for (int64_t d = 0; d < view.shape[3]; d++) body(at(b, t, h, d));
  }
  void fill(Random& random, float mean, float spread) const {
    for_each([&](float& x) { x = random.uniform(mean - spread, mean + spread); });
  }
  void poison() const {
    for_each([](float& x) { x = NAN; });
  }
  std::vector<float> values() const {
    std::vector<float> list;
    for_each([&](float& x) { list.push_back(x); });
    return list;
  }

  Array<float> array;
  TensorView view;
};

// q, k and v (or their gradients), one after the other in packed rows where the case says so.
struct Triple {
  explicit Triple(const Case& c)
      : packed({c.layout == Layout::packed ? c.B : 0, c.Tq, (c.H + 2 * c.Hkv) * c.D}),
        q(c.layout == Layout::packed ? Heads(packed, 0, c.H, c.D) : Heads(c.B, c.Tq, c.H, c.D, c.layout)),
        k(c.layout == Layout::packed ? Heads(packed, c.H * c.D, c.Hkv, c.D) : Heads(c.B, c.Tk, c.Hkv, c.D, c.layout)),
        v(c.layout == Layout::packed ? Heads(packed, (c.H + c.Hkv) * c.D, c.Hkv, c.D)
                                     : Heads(c.B, c.Tk, c.Hkv, c.D, c.layout)) {}
  Array<float> packed;
  Heads q, k, v;
};

constexpr int64_t kSeed = 0x123456789abcdef;

// A case's tensors, and what the operations made of them.
struct Run {
  explicit Run(const Case& c)
      : c(c),
        scale(std::isnan(c.scale) ? 1 / std::sqrt(static_cast<float>(c.D)) : c.scale),
        in(c),
        grads(c),
        out(c.B, c.Tq, c.H, c.D, c.layout),
        inference(c.B, c.Tq, c.H, c.D, c.layout),
        dout(c.B, c.Tq, c.H, c.D, c.layout),
        lse({c.B, c.H, c.Tq}),
        lengths({c.B}),
        starts({c.B}),
        ranges({c.B, c.Tq, 2}),
        slopes({c.H}),
        mask({c.B, c.H, c.mask_rows, c.block_size > 0 ? (c.Tk + c.block_size - 1) / c.block_size : 1}) {
    Random random(1);
    for (const Heads* x : {&in.q, &in.k, &in.v}) x->fill(random, c.mean, c.spread);
    dout.fill(random, 0, 1);
    for (size_t b = 0; b < c.lengths.size(); b++) lengths[b] = c.lengths[b];
    for (size_t b = 0; b < c.starts.size(); b++) starts[b] = c.starts[b];
    for (size_t i = 0; i < c.ranges.size(); i++) ranges[i] = c.ranges[i];
    for (size_t h = 0; h < c.slopes.size(); h++) slopes[h] = c.slopes[h];
    for (size_t i = 0; i < c.mask.size(); i++) mask[i] = c.mask[i];
  }

  void execute(Stream& stream, const Ops& ops) {
    for (const Heads* x : {&out, &inference, &grads.q, &grads.k, &grads.v}) x->poison();
    for (int64_t i = 0; i < lse.size; i++) lse[i] = NAN;
    const TensorView* key_lengths = c.lengths.empty() ? nullptr : &lengths;
    const TensorView* query_starts = c.starts.empty() ? nullptr : &starts;
    const TensorView* key_ranges = c.ranges.empty() ? nullptr : &ranges;
    const TensorView* block_mask = c.mask.empty() ? nullptr : &mask;
    const TensorView* head_slopes = c.slopes.empty() ? nullptr : &slopes;
    for (const Heads* o : {&out, &inference})
      ops.attention_forward(stream, o->view, o == &out ? &lse : nullptr, in.q.view, in.k.view, in.v.view, key_lengths,
                            query_starts, key_ranges, head_slopes, c.causal, c.window, c.softcap, scale, c.p, kSeed,
                            block_mask, c.block_size);
    ops.attention_backward(stream, grads.q.view, grads.k.view, grads.v.view, dout.view, in.q.view, in.k.view, in.v.view,
                           out.view, lse, key_lengths, query_starts, key_ranges, head_slopes, c.causal, c.window,
                           c.softcap, scale, c.p, kSeed, block_mask, c.block_size);
    const std::string error = synchronize(stream);
    if (!error.empty()) report("failed on the device: %s", error.c_str());
  }

  Case c;
  float scale;
  Triple in, grads;
  Heads out, inference, dout;  // inference: out of a forward that keeps no lse, which takes other ways
  Array<float> lse;
  Array<int32_t> lengths, starts, ranges;
  Array<float> slopes;
  Array<uint8_t> mask;
};
// The definition's values and gradients, each within a tolerance for the rounding of f32 (attention_reference.cc).
void expect_case(Stream& stream, const Ops& ops, const char* label, const Case& c);
// The same with the sizes as the label.
void expect_sizes(Stream& stream, const Ops& ops, const Case& c);
// Results and gradients that are the same to the bit.
void expect_same(const Run& a, const Run& b);
// Results and gradients of zero, as where no query sees a key.
void expect_zero(const Run& run);

// A mask of blocks of `size` with that share of them visible.
void mask_blocks(Case& c, int64_t size, int64_t rows, float share);

// A query's keys in every way that intervals can lie: inside of each other, apart, empty, beyond the keys.
std::vector<int32_t> random_ranges(const Case& c, uint64_t seed);

}  // namespace heed::test::attention
