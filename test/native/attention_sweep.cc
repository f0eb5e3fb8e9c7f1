// The operands of attention, and the calls that run on them.
#include "attention_sweep.h"

#include <algorithm>

namespace heed::test::attention {
namespace {

constexpr int64_t kSeed = 0x123456789abcdef;

// Returns [B, T, heads, D], in packed rows of `all` heads from the head `first` on.
Operand heads(const Case& c, int64_t T, int64_t heads, int64_t first, int64_t all) {
  Operand operand{{c.B, T, heads, c.D}, DType::f32, test::Layout::contiguous, -c.size, c.size};
  if (c.layout == Layout::heads_first) {
    std::swap(operand.shape[1], operand.shape[2]);
    operand.window = [](const TensorView& view) { return permute(view, {0, 2, 1, 3}); };
  } else if (c.layout == Layout::packed) {
    operand.shape[2] = all;
    operand.window = [=, D = c.D](TensorView view) {
      view.shape[2] = heads;
      view.data = view.f32() + first * D;
      return view;
    };
  }
  return operand;
}

template <class T>
Array<T> array_of(const std::vector<int64_t>& shape, const std::vector<T>& values) {
  Array<T> array(values.empty() ? std::vector<int64_t>{0} : shape);
  std::copy(values.begin(), values.end(), array.values.get());
  return array;
}

template <class T>
const TensorView* if_any(const Array<T>& array) {
  return array.size > 0 ? &array : nullptr;
}

}  // namespace

void check(Sweep& sweep, Stream& stream, const Ops& ops, const Case& c) {
  const int64_t all = c.H + 2 * c.Hkv;
  const Operand q = heads(c, c.Tq, c.H, 0, all), k = heads(c, c.Tk, c.Hkv, c.H, all),
                v = heads(c, c.Tk, c.Hkv, c.H + c.Hkv, all), out = heads(c, c.Tq, c.H, 0, c.H);
  const auto lengths = array_of({c.B}, c.lengths), starts = array_of({c.B}, c.starts),
             ranges = array_of({c.B, c.Tq, 2}, c.ranges);
  const auto slopes = array_of({c.H}, c.slopes);
  const int64_t columns = c.block_size > 0 ? (c.Tk + c.block_size - 1) / c.block_size : 1;
  const auto mask = array_of({c.B, c.H, c.mask_rows, columns}, c.mask);
  const float scale = 1 / std::sqrt(static_cast<float>(c.D));
  enum { kOut, kInference, kLse, kDq, kDk, kDv, kQ, kK, kV, kDout };
  sweep.check("attention", 6, {out, out, {{c.B, c.H, c.Tq}}, q, k, v, q, k, v, out}, [&](const Views& x) {
    for (const int to : {kOut, kInference})
      ops.attention_forward(stream, x[static_cast<size_t>(to)], to == kOut ? &x[kLse] : nullptr, x[kQ], x[kK], x[kV],
                            nullptr, nullptr, nullptr, if_any(lengths), if_any(starts), if_any(ranges), if_any(slopes),
                            nullptr, c.causal, c.window, c.softcap, scale, c.p, kSeed, if_any(mask), c.block_size);
    ops.attention_backward(stream, x[kDq], x[kDk], x[kDv], x[kDout], x[kQ], x[kK], x[kV], x[kOut], x[kLse],
                           if_any(lengths), if_any(starts), if_any(ranges), if_any(slopes), c.causal, c.window,
                           c.softcap, scale, c.p, kSeed, if_any(mask), c.block_size);
  });
}

void mask_blocks(Case& c, int64_t size, int64_t rows, float share) {
  Random random(5);
  c.block_size = size;
  c.mask_rows = rows;
  c.mask.clear();
  for (int64_t i = 0; i < c.B * c.H * rows * ((c.Tk + size - 1) / size); i++)
    c.mask.push_back(random.uniform(0, 1) < share ? static_cast<uint8_t>(1 + random.below(255)) : 0);
}

std::vector<int32_t> random_ranges(const Case& c, uint64_t seed) {
  Random random(seed);
  const auto bound = [&] { return static_cast<int32_t>(random.uniform(-20, static_cast<float>(c.Tk + 20))); };
  std::vector<int32_t> ranges;
  for (int64_t i = 0; i < c.B * c.Tq; i++) {
    ranges.push_back(bound());
    ranges.push_back(bound());
  }
  return ranges;
}

}  // namespace heed::test::attention
