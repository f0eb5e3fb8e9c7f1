// Tests unary, unary_backward, binary and where: every kind in every layout, in place, in several chunks, and every
// error.
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
  EXPECT(unary(out, out, 40) == "ERR_ARGUMENT: unary: expected kind from 0 to 39, got 40");
  EXPECT(unary(out, out, -1) == "ERR_ARGUMENT: unary: expected kind from 0 to 39, got -1");
  const auto backward = [&](const TensorView& to, const TensorView& dout, const TensorView& inp, Int kind) {
    return error_of([&] { ops.unary_backward(stream, to, dout, inp, kind, false); });
  };
  EXPECT(backward(out, other, out, 0) == "ERR_SHAPE: unary_backward: expected dout of shape [2, 3], got [3, 2]");
  EXPECT(backward(out, out, other, 0) == "ERR_SHAPE: unary_backward: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(backward(ids, out, out, 0) == "ERR_DTYPE: unary_backward: expected dinp of dtype f32, bf16 or f16, got i32");
  EXPECT(backward(repeated, out, out, 0) ==
         "ERR_SHAPE: unary_backward: expected dinp without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(backward(out, out, out, 99) == "ERR_ARGUMENT: unary_backward: expected kind from 0 to 39, got 99");
  const auto binary = [&](const TensorView& to, const TensorView& a, const TensorView& b, Int kind) {
    return error_of([&] { ops.binary(stream, to, a, b, kind, false); });
  };
  EXPECT(binary(out, other, out, 0) == "ERR_SHAPE: binary: expected a of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, other, 0) == "ERR_SHAPE: binary: expected b of shape [2, 3], got [3, 2]");
  EXPECT(binary(out, out, ids, 0) == "ERR_DTYPE: binary: expected b of dtype f32, got i32");
  EXPECT(binary(repeated, out, out, 0) ==
         "ERR_SHAPE: binary: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(binary(out, out, out, 19) == "ERR_ARGUMENT: binary: expected kind from 0 to 18, got 19");
  EXPECT(binary(ids, ids, out, 0) == "ERR_DTYPE: binary: expected b of dtype i32, got f32");
  EXPECT(binary(ids, ids, ids, 19) == "ERR_ARGUMENT: binary: expected kind from 0 to 18, got 19");
  for (const BinaryKind kind : {BinaryKind::div, BinaryKind::pow, BinaryKind::atan2})
    EXPECT(binary(ids, ids, ids, number(kind)) ==
           "ERR_DTYPE: binary: expected floats for a quotient, a power or an angle, got i32");
  const auto where = [&](const TensorView& to, const TensorView& condition, const TensorView& a, const TensorView& b) {
    return error_of([&] { ops.where(stream, to, condition, a, b); });
  };
  EXPECT(where(out, other, out, out) == "ERR_SHAPE: where: expected condition of shape [2, 3], got [3, 2]");
  EXPECT(where(out, ids, other, out) == "ERR_SHAPE: where: expected a of shape [2, 3], got [3, 2]");
  EXPECT(where(out, ids, out, ids) == "ERR_DTYPE: where: expected b of dtype f32, got i32");
  EXPECT(where(repeated, ids, out, out) ==
         "ERR_SHAPE: where: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
}

// The quotient rounded down, and what is left.
std::pair<int64_t, int64_t> divided(int64_t a, int64_t b) {
  if (b == 0) return {0, 0};
  const int64_t quotient = static_cast<int64_t>(std::floor(static_cast<double>(a) / static_cast<double>(b)));
  return {quotient, a - quotient * b};
}

int64_t expected(BinaryKind kind, int64_t a, int64_t b) {
  switch (kind) {
    case BinaryKind::add:
      return a + b;
    case BinaryKind::sub:
      return a - b;
    case BinaryKind::mul:
      return a * b;
    case BinaryKind::maximum:
      return std::max(a, b);
    case BinaryKind::minimum:
      return std::min(a, b);
    case BinaryKind::equal:
      return a == b;
    case BinaryKind::greater:
      return a > b;
    case BinaryKind::less:
      return a < b;
    case BinaryKind::not_equal:
      return a != b;
    case BinaryKind::greater_equal:
      return a >= b;
    case BinaryKind::less_equal:
      return a <= b;
    case BinaryKind::logical_and:
      return a && b;
    case BinaryKind::logical_or:
      return a || b;
    case BinaryKind::squared_difference:
      return static_cast<int64_t>(static_cast<uint64_t>(a - b) * static_cast<uint64_t>(a - b));
    case BinaryKind::floor_div:
      return divided(a, b).first;
    default:
      return divided(a, b).second;
  }
}

template <class T>
void check_integers(Stream& stream, const Ops& ops, const std::vector<int64_t>& values) {
  const int64_t n = static_cast<int64_t>(values.size());
  Laid<T> a({n, n}, Layout::transposed), b({n, n}, Layout::stepped);
  for (int64_t i = 0; i < n * n; i++) {
    a.at(i) = static_cast<T>(values[static_cast<size_t>(i / n)]);
    b.at(i) = static_cast<T>(values[static_cast<size_t>(i % n)]);
  }
  for (Int kind = 0; kind < kBinaryKinds; kind++) {
    const BinaryKind named = static_cast<BinaryKind>(kind);
    if (named == BinaryKind::div || named == BinaryKind::pow || named == BinaryKind::atan2) continue;
    for (const Layout layout : kOutLayouts) {
      Laid<T> out({n, n}, layout);
      ops.binary(stream, out, a, b, kind, false);
      synchronize(stream);
      for (const bool added : {false, true}) {
        for (int64_t i = 0; i < n * n; i++) {
          const int64_t x = values[static_cast<size_t>(i / n)], y = values[static_cast<size_t>(i % n)];
          const T wanted = static_cast<T>(static_cast<uint64_t>(expected(named, x, y)) * (added ? 2 : 1));
          if (out.at(i) != wanted)
            report("kind %d of %lld and %lld is %lld, not %lld", static_cast<int>(kind), static_cast<long long>(x),
                   static_cast<long long>(y), static_cast<long long>(out.at(i)), static_cast<long long>(wanted));
        }
        if (!added) ops.binary(stream, out, a, b, kind, true);
        synchronize(stream);
      }
    }
  }
}

TEST(binary_integers_wrap) {
  check_integers<int32_t>(stream, ops, {0, 1, -1, 2, -2, 7, -7, 16777217, 46341, INT32_MAX, INT32_MIN, INT32_MIN + 1});
  check_integers<uint8_t>(stream, ops, {0, 1, 2, 3, 7, 16, 127, 128, 254, 255});
}

TEST(where_every_dtype_and_layout) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](const Shape& shape, DType values, DType tests, Layout out, Layout in, Layout other) {
      s.check("where", 1,
              {{shape, values, out, 0, 9},
               {shape, tests, in, 0, 2},
               {shape, values, other, 0, 9},
               {shape, values, in, 0, 9}},
              [&](const Views& v) { ops.where(stream, v[0], v[1], v[2], v[3]); });
    };
    for (const DType values : kDTypes)
      for (const DType tests : kDTypes)
        for (const Shape& shape : {Shape{}, Shape{17}, Shape{5, 9, 17}, Shape{3, 2049}})
          check(shape, values, tests, Layout::contiguous, Layout::contiguous, Layout::repeated_all);
    for (const Layout out : kOutLayouts)
      for (const Layout in : kInLayouts)
        for (const Layout other : kInLayouts) check({5, 9, 17}, DType::f32, DType::u8, out, in, other);
  });
}

TEST(where_takes_every_number_but_zero_for_true) {
  Laid<int32_t> a({6}), b({6}), out({6});
  Laid<float> floats({6});
  Laid<int32_t> ids({6});
  const float given[] = {0, -0.0f, 1, -2, NAN, 0x1p-149f};
  for (int i = 0; i < 6; i++) {
    a.at(i) = i, b.at(i) = -1;
    floats.at(i) = given[i];
    ids.at(i) = i == 1 ? INT32_MIN : i - 2;
  }
  ops.where(stream, out, floats, a, b);
  synchronize(stream);
  for (int i = 0; i < 6; i++) EXPECT(out.at(i) == (i < 2 ? -1 : i));
  ops.where(stream, out, ids, a, b);
  synchronize(stream);
  for (int i = 0; i < 6; i++) EXPECT(out.at(i) == (i == 2 ? -1 : i));
}

}  // namespace
}  // namespace heed::test
