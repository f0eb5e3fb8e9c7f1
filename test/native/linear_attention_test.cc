// Tests linear_attention in both directions, with states and decays: awkward sizes of rows that lie apart, and every
// error.
#include "sweep.h"

namespace heed::test {
namespace {

struct Case {
  int64_t B, T, H, D, Dv;
  bool reverse = false, states = false, decays = false;
};

// Returns [B, T, H, size] within [B, H, T, size + 3]: rows lie apart, and the memory between them must not be touched.
Operand rows(const Case& c, int64_t size) {
  Operand operand{{c.B, c.H, c.T, size + 3}};
  operand.window = [size](const TensorView& memory) {
    TensorView view = permute(memory, {0, 2, 1, 3});
    view.shape[3] = size;
    return view;
  };
  return operand;
}

TEST(linear_attention_sizes) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](const Case& c) {
      const Operand state{{c.B, c.H, c.D, c.Dv}}, decay{{c.H}, DType::f32, Layout::contiguous, 0, 1};
      s.check("linear_attention", 2, {rows(c, c.Dv), state, rows(c, c.D), rows(c, c.D), rows(c, c.Dv), decay},
              [&](const Views& v) {
                const TensorView* carried = c.states ? &v[1] : nullptr;
                ops.linear_attention(stream, v[0], carried, v[2], v[3], v[4], carried, c.decays ? &v[5] : nullptr,
                                     c.reverse);
              });
    };
    for (const int64_t T : {1, 2, 15, 17, 47, 48, 49, 63, 64, 65, 130, 257})
      for (const bool reverse : {false, true})
        for (const bool states : {false, true}) {
          check({2, T, 2, 9, 20, reverse, states});
          check({1, T, 1, 64, 33, reverse, states, true});
        }
    for (const int64_t D : {1, 3, 16, 31, 100})
      for (const int64_t Dv : {1, 4, 17, 64, 130})
        for (const bool reverse : {false, true}) check({1, 70, 3, D, Dv, reverse, true, true});
    check({1, 150, 2, 40, 70});
    check({2, 0, 2, 3, 4, false, true});
    check({0, 5, 2, 3, 4, false, true});
    check({1, 5, 0, 3, 4});
    check({1, 5, 2, 3, 0, false, true});
    check({1, 5, 2, 0, 4, false, true});
  });
}

TEST(linear_attention_errors) {
  const Array<float> q({2, 5, 3, 4}), k({2, 5, 3, 4}), v({2, 5, 3, 6}), out({2, 5, 3, 6}), state({2, 3, 4, 6}),
      decay({3}), flat({2, 5, 12}), other({2, 5, 3, 5});
  const Array<int32_t> ids({2, 5, 3, 4});
  TensorView spread = v;
  spread.strides[3] = 2;
  const auto run = [&](In out, OptOut last, In q, In k, In v, OptIn first, OptIn decay) {
    return error_of([&] { ops.linear_attention(stream, out, last, q, k, v, first, decay, false); });
  };
  const std::string f = "linear_attention: ";
  EXPECT(run(out, &state, q, k, v, &state, &decay) == "");
  EXPECT(run(out, nullptr, flat, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected q with 4 dimensions, got shape [2, 5, 12]");
  EXPECT(run(out, nullptr, ids, k, v, nullptr, nullptr) ==
         "ERR_DTYPE: " + f + "expected q of dtype f32, bf16 or f16, got i32");
  EXPECT(run(out, nullptr, q, other, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected k of shape [2, 5, 3, 4], got [2, 5, 3, 5]");
  EXPECT(run(out, nullptr, q, k, spread, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected v with contiguous heads (stride 1), got stride 2");
  EXPECT(run(other, nullptr, q, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected out of shape [2, 5, 3, 6], got [2, 5, 3, 5]");
  EXPECT(run(out, &q, q, k, v, nullptr, nullptr) ==
         "ERR_SHAPE: " + f + "expected final_state of shape [2, 3, 4, 6], got [2, 5, 3, 4]");
  EXPECT(run(out, nullptr, q, k, v, &q, nullptr) ==
         "ERR_SHAPE: " + f + "expected initial_state of shape [2, 3, 4, 6], got [2, 5, 3, 4]");
  EXPECT(run(out, nullptr, q, k, v, nullptr, &flat) ==
         "ERR_SHAPE: " + f + "expected decay of shape [3], got [2, 5, 12]");
  EXPECT(synchronize(stream).empty());
}

}  // namespace
}  // namespace heed::test
