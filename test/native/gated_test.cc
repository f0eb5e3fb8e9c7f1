// Tests gated activations: every activation and layout, halves of one projection, outputs in an input's memory, and
// every error.
#include "core/kinds.h"
#include "sweep.h"

namespace heed::test {
namespace {

const Shape kShapes[] = {{}, {1}, {33}, {2, 3, 17}, {5, 64}, {3, 40000}};

TEST(gated_every_activation_and_layout) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](Int activation, const Shape& shape, Layout out, Layout gate, Layout up) {
      const Operand result{shape, DType::f32, out}, x{shape, DType::f32, gate, -4, 4}, y{shape, DType::f32, up};
      s.check("gated", 1, {result, x, y}, [&](const Views& v) { ops.gated(stream, v[0], v[1], v[2], activation); });
      for (const bool a : {false, true})
        s.check("gated_backward", 2, {result, result, {shape, DType::f32, gate}, x, y},
                [&](const Views& v) { ops.gated_backward(stream, v[0], v[1], v[2], v[3], v[4], activation, a, !a); });
    };
    for (Int activation = 0; activation < kActivations; activation++) {
      for (const Shape& shape : kShapes)
        check(activation, shape, Layout::contiguous, Layout::contiguous, Layout::contiguous);
      for (const Layout out : kOutLayouts)
        for (const Layout in : kInLayouts) {
          check(activation, {4, 3, 17}, out, in, Layout::contiguous);
          check(activation, {4, 3, 17}, out, Layout::contiguous, in);
        }
    }
  });
}

// Returns one of the halves of rows [2·F]; the gate comes first.
TensorView half(const Array<float>& packed, int part) {
  TensorView view = packed;
  view.shape[1] /= 2;
  view.data = view.f32() + part * view.shape[1];
  return view;
}

TEST(gated_halves_of_a_projection) {
  Random random(7);
  Array<float> packed({5, 66}), gradient({5, 66}), dout({5, 33}), out({5, 33}), gate({5, 33}), up({5, 33}),
      plain({5, 33}), dgate({5, 33}), dup({5, 33});
  random.fill(packed);
  random.fill(dout);
  for (int64_t i = 0; i < 5 * 33; i++) {
    gate[i] = packed[i / 33 * 66 + i % 33];
    up[i] = packed[i / 33 * 66 + 33 + i % 33];
  }
  const Int silu = static_cast<Int>(Activation::silu);
  ops.gated(stream, out, half(packed, 0), half(packed, 1), silu);
  ops.gated(stream, plain, gate, up, silu);
  ops.gated_backward(stream, half(gradient, 0), half(gradient, 1), dout, half(packed, 0), half(packed, 1), silu, false,
                     false);
  ops.gated_backward(stream, dgate, dup, dout, gate, up, silu, false, false);
  // The gradients overwrite their inputs.
  ops.gated_backward(stream, half(packed, 0), half(packed, 1), dout, half(packed, 0), half(packed, 1), silu, false,
                     false);
  ops.gated(stream, gate, gate, up, silu);
  synchronize(stream);
  for (int64_t i = 0; i < 5 * 33; i++) {
    EXPECT(out[i] == plain[i] && gate[i] == plain[i]);
    const int64_t at = i / 33 * 66 + i % 33;
    EXPECT(gradient[at] == dgate[i] && gradient[at + 33] == dup[i]);
    EXPECT(packed[at] == dgate[i] && packed[at + 33] == dup[i]);
  }
}

TEST(gated_empty) {
  const Array<float> none({0, 3});
  ops.gated(stream, none, none, none, 4);
  ops.gated_backward(stream, none, none, none, none, none, 4, true, false);
  EXPECT(synchronize(stream).empty());
}

TEST(gated_errors) {
  const Array<float> x({2, 3}), other({3, 2});
  const Array<int32_t> ids({2, 3});
  TensorView repeated = x;
  repeated.strides[0] = 0;
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const auto forward = [&](In out, In gate, In up, Int activation) {
    return error_of([&] { ops.gated(stream, out, gate, up, activation); });
  };
  is(forward(ids, x, x, 4), "ERR_DTYPE: gated: expected out of dtype f32, bf16 or f16, got i32");
  is(forward(repeated, x, x, 4),
     "ERR_SHAPE: gated: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  is(forward(x, other, x, 4), "ERR_SHAPE: gated: expected gate of shape [2, 3], got [3, 2]");
  is(forward(x, x, ids, 4), "ERR_DTYPE: gated: expected up of dtype f32, got i32");
  is(forward(x, x, x, 6), "ERR_ARGUMENT: gated: expected an activation from 0 to 5, got 6");
  is(forward(x, x, x, -1), "ERR_ARGUMENT: gated: expected an activation from 0 to 5, got -1");
  const auto backward = [&](In dgate, In dup, In dout, In gate, In up, Int activation) {
    return error_of([&] { ops.gated_backward(stream, dgate, dup, dout, gate, up, activation, false, false); });
  };
  is(backward(ids, x, x, x, x, 4), "ERR_DTYPE: gated_backward: expected dgate of dtype f32, bf16 or f16, got i32");
  is(backward(x, other, x, x, x, 4), "ERR_SHAPE: gated_backward: expected dup of shape [2, 3], got [3, 2]");
  is(backward(x, repeated, x, x, x, 4),
     "ERR_SHAPE: gated_backward: expected dup without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  is(backward(x, x, other, x, x, 4), "ERR_SHAPE: gated_backward: expected dout of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, other, x, 4), "ERR_SHAPE: gated_backward: expected gate of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, x, other, 4), "ERR_SHAPE: gated_backward: expected up of shape [2, 3], got [3, 2]");
  is(backward(x, x, x, x, x, 99), "ERR_ARGUMENT: gated_backward: expected an activation from 0 to 5, got 99");
}

}  // namespace
}  // namespace heed::test
