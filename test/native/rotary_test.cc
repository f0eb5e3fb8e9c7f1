// Tests rotary positions: both pairings, partly rotated heads, strided views, in place, accumulation, given positions,
// memory that must stay unchanged, and every error.
#include "sweep.h"

namespace heed::test {
namespace {

struct Case {
  int64_t B, T, H, D, R;
  bool interleaved = false, inverse = false, accumulate = false;
};

// Returns [B, T, H, D] within heads that have `margin` more elements, with `others` more heads.
Operand heads(const Case& c, int64_t others, int64_t margin) {
  Operand operand{{c.B, c.T, c.H + others, c.D + margin}};
  operand.window = [=](TensorView view) {
    view.shape[2] = c.H;
    view.shape[3] = c.D;
    view.data = view.f32() + others / 2 * (c.D + margin) + margin / 2;
    return view;
  };
  return operand;
}

void check(Sweep& s, Stream& stream, const Ops& ops, const Case& c) {
  const std::vector<Operand> operands = {
      heads(c, 4, 5), heads(c, 2, 3), {{c.T + 3, c.R / 2, 2}}, integers({c.B}, 4), integers({c.B, c.T}, c.T + 3)};
  for (const int way : {0, 1, 2}) {
    const auto turn = [&](const TensorView& out, const Views& v) {
      ops.rotary(stream, out, v[1], v[2], way == 1 ? &v[3] : nullptr, way == 2 ? &v[4] : nullptr, c.interleaved,
                 c.inverse, c.accumulate);
    };
    s.check("rotary", 1, operands, [&](const Views& v) { turn(v[0], v); });
    // The result in place is the same.
    if (!c.accumulate)
      s.check("rotary in place", 2, operands, [&](const Views& v) {
        turn(v[0], v);
        turn(v[1], v);
        EXPECT(synchronize(stream).empty());
        for (int64_t i = 0; i < v[0].numel(); i++)
          if (v[0].f32()[place(v[0], i)] != v[1].f32()[place(v[1], i)]) return report("in place it is not the same");
      });
  }
}

TEST(rotary_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const bool interleaved : {false, true})
      for (const bool inverse : {false, true})
        for (const bool accumulate : {false, true}) {
          for (const int64_t D : {2, 3, 8, 15, 16, 32, 33, 64, 65, 128, 300})
            for (const int64_t R : {int64_t{2}, D / 2 * 2, D / 4 * 2})
              check(s, stream, ops, {2, 3, 2, D, R, interleaved, inverse, accumulate});
          check(s, stream, ops, {1, 2, 3, 5, 0, interleaved, inverse, accumulate});
          check(s, stream, ops, {2, 300, 4, 64, 64, interleaved, inverse, accumulate});  // many tasks
        }
  });
}

TEST(rotary_position_out_of_range) {
  Array<float> inp({2, 3, 1, 4}), out({2, 3, 1, 4}), table({5, 2, 2});
  Array<int32_t> starts({2}), positions({2, 3});
  const auto expect = [&](const char* given) {
    const std::string wanted = std::string("ERR_RANGE: rotary: expected positions in [0, 5), got ") + given;
    const std::string got = synchronize(stream);
    if (got != wanted) report("got \"%s\", expected \"%s\"", got.c_str(), wanted.c_str());
    for (int64_t i = 0; i < out.size; i++) EXPECT(out[i] == 0);  // nothing is written
  };
  for (int64_t i = 0; i < inp.size; i++) inp[i] = 1;
  starts[1] = 3;
  ops.rotary(stream, out, inp, table, &starts, nullptr, false, false, false);
  expect("5 at token 2 of sequence 1");
  starts[1] = INT32_MAX;
  ops.rotary(stream, out, inp, table, &starts, nullptr, false, false, false);
  expect("2147483647 at token 0 of sequence 1");
  positions[4] = -1;
  ops.rotary(stream, out, inp, table, nullptr, &positions, true, false, false);
  expect("-1 at token 1 of sequence 1");
}

TEST(rotary_empty) {
  const Array<float> none({0, 3, 1, 4}), no_tokens({2, 0, 1, 4}), no_heads({2, 3, 0, 4}), table({3, 2, 2});
  for (const TensorView* x : {&none, &no_tokens, &no_heads})
    ops.rotary(stream, *x, *x, table, nullptr, nullptr, false, false, false);
  EXPECT(synchronize(stream).empty());
}

TEST(rotary_errors) {
  const Array<float> x({2, 3, 1, 4}), flat({2, 3, 4}), other({2, 3, 1, 5}), table({3, 2, 2}), wide({3, 3, 2}),
      triples({3, 2, 3}), two({2, 2, 2}), pairs({3, 2}), floats({2});
  const Array<int32_t> ids({2, 3, 1, 4}), three({3}), starts({2}), positions({2, 3}), turned({3, 2});
  TensorView stepped = x, repeated = x, loose = table;
  stepped.strides[3] = 2;
  repeated.strides[1] = 0;
  loose.strides[0] = 8;
  const auto is = [&](In out, In inp, In angles, OptIn first, OptIn given, const char* expected) {
    const std::string got = error_of([&] { ops.rotary(stream, out, inp, angles, first, given, false, false, false); });
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const OptIn none = nullptr;
  is(x, flat, table, none, none, "ERR_SHAPE: rotary: expected inp with 4 dimensions, got shape [2, 3, 4]");
  is(ids, ids, table, none, none, "ERR_DTYPE: rotary: expected inp of dtype f32, bf16 or f16, got i32");
  is(other, x, table, none, none, "ERR_SHAPE: rotary: expected out of shape [2, 3, 1, 4], got [2, 3, 1, 5]");
  is(x, stepped, table, none, none, "ERR_SHAPE: rotary: expected inp with contiguous heads (stride 1), got stride 2");
  is(stepped, x, table, none, none, "ERR_SHAPE: rotary: expected out with contiguous heads (stride 1), got stride 2");
  is(repeated, x, table, none, none,
     "ERR_SHAPE: rotary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3, 1, 4]");
  is(x, x, ids, none, none, "ERR_DTYPE: rotary: expected table of dtype f32, got i32");
  is(x, x, pairs, none, none, "ERR_SHAPE: rotary: expected table with 3 dimensions, got shape [3, 2]");
  is(x, x, loose, none, none,
     "ERR_SHAPE: rotary: expected table to be contiguous, got a strided view of shape [3, 2, 2]");
  is(x, x, wide, none, none, "ERR_SHAPE: rotary: expected table of shape [positions, at most 2, 2], got [3, 3, 2]");
  is(x, x, triples, none, none, "ERR_SHAPE: rotary: expected table of shape [positions, at most 2, 2], got [3, 2, 3]");
  is(x, x, two, none, none, "ERR_RANGE: rotary: expected table to have the 3 positions of inp, got 2");
  is(x, x, table, &starts, &positions, "ERR_ARGUMENT: rotary: expected one of starts and positions, got both");
  is(x, x, table, &three, none, "ERR_SHAPE: rotary: expected starts of shape [2], got [3]");
  is(x, x, table, &floats, none, "ERR_DTYPE: rotary: expected starts of dtype i32, got f32");
  is(x, x, table, none, &turned, "ERR_SHAPE: rotary: expected positions of shape [2, 3], got [3, 2]");
  is(x, x, table, none, &x, "ERR_DTYPE: rotary: expected positions of dtype i32, got f32");
}

}  // namespace
}  // namespace heed::test
