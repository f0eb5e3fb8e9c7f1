// Tests unary, unary_backward and binary: every kind in every layout, in place, in several chunks, and every error.
#include "core/kinds.h"
#include "sweep.h"

namespace heed::test {
namespace {

const Shape kShapes[] = {{}, {1}, {2, 3}, {17}, {31, 33}, {2, 63, 65}, {257}, {20001}};

Int number(UnaryKind kind) { return static_cast<Int>(kind); }
Int number(BinaryKind kind) { return static_cast<Int>(kind); }

// Returns the operand of a kind, and its layout; `low` is above 0 if the domain requires it.
Operand laid(const Shape& shape, Layout layout, float low = -3) { return {shape, DType::f32, layout, low, 3}; }

TEST(unary_every_kind_and_layout) {
  sweep(stream, [&](Sweep& s) {
    for (Int kind = 0; kind < kUnaryKinds; kind++)
      for (const Shape& shape : kShapes)
        for (const Layout out : kOutLayouts)
          for (const Layout in : kInLayouts) {
            s.check("unary", 1, {laid(shape, out), laid(shape, in)},
                    [&](const Views& v) { ops.unary(stream, v[0], v[1], kind); });
            for (const bool accumulate : {false, true})
              s.check("unary_backward", 1, {laid(shape, out), laid(shape, out), laid(shape, in)},
                      [&](const Views& v) { ops.unary_backward(stream, v[0], v[1], v[2], kind, accumulate); });
          }
  });
}

TEST(binary_every_kind_and_layout) {
  sweep(stream, [&](Sweep& s) {
    for (Int kind = 0; kind < kBinaryKinds; kind++) {
      const auto check = [&](const Shape& shape, Layout out, Layout a, Layout b) {
        s.check_accumulating(
            "binary", 1, {laid(shape, out), laid(shape, a, 0.1f), laid(shape, b)},
            [&](const Views& v, bool accumulate) { ops.binary(stream, v[0], v[1], v[2], kind, accumulate); });
      };
      for (const Layout out : kOutLayouts)
        for (const Layout in : kInLayouts) {
          for (const Shape& shape : kShapes) check(shape, out, in, Layout::contiguous);
          for (const Layout other : kInLayouts) check({5, 9, 17}, out, in, other);
        }
    }
  });
}

TEST(elementwise_in_place) {
  Random random(5);
  Laid<float> a({33, 65}), b({33, 65}), sum({33, 65});
  random.fill(a.memory);
  random.fill(b.memory);
  ops.binary(stream, sum, a, b, number(BinaryKind::add), false);
  ops.binary(stream, a, a, b, number(BinaryKind::add), false);
  ops.unary(stream, sum, sum, number(UnaryKind::tanh));
  ops.unary(stream, b, a, number(UnaryKind::tanh));
  synchronize(stream);
  for (int64_t i = 0; i < b.memory.size; i++) EXPECT(sum.at(i) == b.at(i));
}

TEST(elementwise_empty) {
  const Laid<float> empty({3, 0, 2});
  ops.unary(stream, empty, empty, 0);
  ops.unary_backward(stream, empty, empty, empty, 0, true);
  ops.binary(stream, empty, empty, empty, 0, true);
  EXPECT(synchronize(stream).empty());
}

TEST(elementwise_errors) {
  const Laid<float> out({2, 3}), other({3, 2}), repeated({2, 3}, Layout::repeated_last);
  const Laid<int32_t> ids({2, 3});
  const auto unary = [&](const TensorView& to, const TensorView& from, Int kind) {
    return error_of([&] { ops.unary(stream, to, from, kind); });
  };
  EXPECT(unary(out, other, 0) == "ERR_SHAPE: unary: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(unary(out, ids, 0) == "ERR_DTYPE: unary: expected inp of dtype f32, got i32");
  EXPECT(unary(ids, out, 0) == "ERR_DTYPE: unary: expected out of dtype f32, bf16 or f16, got i32");
  EXPECT(unary(repeated, out, 0) ==
         "ERR_SHAPE: unary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(unary(out, out, 17) == "ERR_ARGUMENT: unary: expected kind from 0 to 16, got 17");
  EXPECT(unary(out, out, -1) == "ERR_ARGUMENT: unary: expected kind from 0 to 16, got -1");
  const auto backward = [&](const TensorView& to, const TensorView& dout, const TensorView& inp, Int kind) {
    return error_of([&] { ops.unary_backward(stream, to, dout, inp, kind, false); });
  };
  EXPECT(backward(out, other, out, 0) == "ERR_SHAPE: unary_backward: expected dout of shape [2, 3], got [3, 2]");
  EXPECT(backward(out, out, other, 0) == "ERR_SHAPE: unary_backward: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(backward(ids, out, out, 0) == "ERR_DTYPE: unary_backward: expected dinp of dtype f32, bf16 or f16, got i32");
  EXPECT(backward(repeated, out, out, 0) ==
         "ERR_SHAPE: unary_backward: expected dinp without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(backward(out, out, out, 99) == "ERR_ARGUMENT: unary_backward: expected kind from 0 to 16, got 99");
  const auto binary = [&](const TensorView& to, const TensorView& a, const TensorView& b, Int kind) {
    return error_of([&] { ops.binary(stream, to, a, b, kind, false); });
  };
  EXPECT(binary(out, other, out, 0) == "ERR_SHAPE: binary: expected a of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, other, 0) == "ERR_SHAPE: binary: expected b of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, ids, 0) == "ERR_DTYPE: binary: expected b of dtype f32, got i32");
  EXPECT(binary(repeated, out, out, 0) ==
         "ERR_SHAPE: binary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(binary(out, out, out, 10) == "ERR_ARGUMENT: binary: expected kind from 0 to 9, got 10");
}

}  // namespace
}  // namespace heed::test
