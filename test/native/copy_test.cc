// fill and copy: every layout on both sides, every pair of dtypes, and the rounding of bf16 and f16 against a reference
// that rounds in double by the definition.
#include <algorithm>
#include <limits>

#include "dtypes.h"

namespace heed::test {
namespace {

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

void randomize(Any& any, Random& random) {
  for (int64_t i = 0; i < any.bytes.memory.size; i++) {
    any.bytes.memory[i] = static_cast<uint8_t>(random.next());
    // Of the right dtype's magnitude: a bf16 exponent is wider than an f16 one.
    any.halves.memory[i] = static_cast<uint16_t>(random.next() & 0xbfff);
    any.words.memory[i] = static_cast<int32_t>(random.next());
  }
  if (any.view.dtype == DType::f32)
    for (int64_t i = 0; i < any.view.numel(); i++) any.set_f32(i, random.uniform(-300, 300));
}

void expect_converted(const char* what, const Any& out, const Any& inp) {
  for (int64_t i = 0; i < out.view.numel(); i++) {
    const double expected = out.view.dtype == inp.view.dtype ? inp.get(i) : converted(out.view.dtype, inp.get(i));
    if (same(out.get(i), out.view.dtype == DType::i32 || out.view.dtype == DType::u8 ? expected + 0.0 : expected))
      continue;
    report("%s, %s from %s: element %lld is %.17g, expected %.17g from %.17g", what, name_of(out.view.dtype),
           name_of(inp.view.dtype), static_cast<long long>(i), out.get(i), expected, inp.get(i));
    return;
  }
}

TEST(copy_every_pair_of_dtypes_and_layouts) {
  Random random(1);
  for (const Shape& shape : {Shape{1}, Shape{2, 3}, Shape{3, 17}, Shape{33, 31}, Shape{2, 65, 63}})
    for (const DType to : kDTypes)
      for (const DType from : kDTypes)
        for (const Layout out_layout : kOutLayouts)
          for (const Layout in_layout : kInLayouts) {
            Any out(to, shape, out_layout), inp(from, shape, in_layout);
            randomize(inp, random);
            ops.copy(stream, out.view, inp.view, false);
            synchronize(stream);
            expect_converted("copy", out, inp);
            EXPECT(out.bytes.gaps_are(0) && out.halves.gaps_are(0) && out.words.gaps_are(0));
          }
}

TEST(copy_every_permutation) {
  Random random(2);
  std::vector<int> dims = {0, 1, 2, 3};
  do
    for (const DType to : {DType::f32, DType::bf16, DType::u8}) {
      Any inp(DType::f32, {3, 33, 9, 40});
      randomize(inp, random);
      inp.view = permute(inp.view, dims);
      Any out(to, Shape(inp.view.shape, inp.view.shape + 4));
      ops.copy(stream, out.view, inp.view, false);
      synchronize(stream);
      expect_converted("permuted", out, inp);
    }
  while (std::next_permutation(dims.begin(), dims.end()));
}

// Both sides permuted, each in its own way.
TEST(copy_between_permutations) {
  Random random(3);
  for (const std::vector<int>& dims :
       {std::vector<int>{1, 2, 0}, std::vector<int>{2, 1, 0}, std::vector<int>{0, 2, 1}}) {
    Any inp(DType::f32, {34, 35, 36}), out(DType::f32, {36, 35, 34});
    randomize(inp, random);
    out.view = permute(out.view, {2, 1, 0});
    inp.view = permute(inp.view, dims);
    out.view = permute(out.view, dims);
    ops.copy(stream, out.view, inp.view, false);
    synchronize(stream);
    expect_converted("between permutations", out, inp);
  }
}

TEST(copy_accumulates) {
  Random random(4);
  for (const Shape& shape : {Shape{1}, Shape{3, 17}, Shape{65, 63}})
    for (const DType from : kDTypes)
      for (const Layout out_layout : kOutLayouts)
        for (const Layout in_layout : kInLayouts) {
          Any inp(from, shape, in_layout);
          Laid<float> out(shape, out_layout);
          randomize(inp, random);
          random.fill(out.memory);
          const Laid<float> before = [&] {
            Laid<float> copy(shape, out_layout);
            std::memcpy(copy.memory.values.get(), out.memory.values.get(), sizeof(float) * copy.memory.size);
            return copy;
          }();
          ops.copy(stream, out, inp.view, true);
          synchronize(stream);
          bool right = true;
          for (int64_t i = 0; i < out.view.numel(); i++)
            right = right && same(out.at(i), before.at(i) + static_cast<float>(inp.get(i)));
          EXPECT(right);
        }
}

TEST(copy_large_is_the_same_with_any_thread_count) {
  Random random(5);
  Any inp(DType::f32, {300, 401});
  randomize(inp, random);
  with_thread_counts([&] {
    Any out(DType::bf16, {300, 401}), turned(DType::f32, {401, 300});
    ops.copy(stream, out.view, inp.view, false);
    ops.copy(stream, turned.view, permute(inp.view, {1, 0}), false);
    synchronize(stream);
    expect_converted("large", out, inp);
    bool right = true;
    for (int64_t r = 0; r < 300; r++)
      for (int64_t c = 0; c < 401; c++) right = right && turned.get(c * 300 + r) == inp.get(r * 401 + c);
    EXPECT(right);
  });
}

// Every f16 and bf16 pattern widens exactly.
TEST(copy_widens_every_half) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Any inp(dtype, {65536}), out(DType::f32, {65536});
    for (int i = 0; i < 65536; i++) inp.halves.memory[i] = static_cast<uint16_t>(i);
    ops.copy(stream, out.view, inp.view, false);
    synchronize(stream);
    expect_converted("widened", out, inp);
  }
}

void expect_all_converted(Stream& stream, const Ops& ops, const std::vector<float>& values) {
  const Shape shape = {static_cast<int64_t>(values.size())};
  Any inp(DType::f32, shape);
  for (size_t i = 0; i < values.size(); i++) inp.set_f32(static_cast<int64_t>(i), values[i]);
  for (const DType to : kDTypes) {
    Any out(to, shape);
    ops.copy(stream, out.view, inp.view, false);
    synchronize(stream);
    expect_converted("narrowed", out, inp);
  }
}

// The values around every tie of both half types, and a sample of all patterns.
TEST(copy_rounds_to_nearest_even) {
  std::vector<float> values;
  for (const DType dtype : {DType::bf16, DType::f16})
    for (int i = 0; i < 65536; i++) {
      const double low = decode(dtype, static_cast<uint16_t>(i)), high = decode(dtype, static_cast<uint16_t>(i + 1));
      if (!std::isfinite(low) || !std::isfinite(high) || (i & 0x7fff) == 0x7fff) continue;
      const float tie = static_cast<float>((low + high) / 2);
      for (const float value :
           {static_cast<float>(low), std::nextafter(tie, -HUGE_VALF), tie, std::nextafter(tie, HUGE_VALF)})
        values.push_back(value);
    }
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 40961) {
    const uint32_t pattern = static_cast<uint32_t>(bits);
    float value;
    std::memcpy(&value, &pattern, sizeof value);
    values.push_back(value);
  }
  expect_all_converted(stream, ops, values);
}

TEST(copy_converts_the_ends_of_every_range) {
  std::vector<float> values;
  for (const float x : {0.0f,          0.5f,
                        0.999f,        1.0f,
                        254.9f,        255.0f,
                        255.5f,        256.0f,
                        65503.0f,      65504.0f,
                        65519.0f,      65520.0f,
                        65536.0f,      0x1p-24f,
                        0x1p-25f,      0x1.8p-25f,
                        0x1p-126f,     0x1p-149f,
                        2147483520.0f, 2147483648.0f,
                        1e30f,         std::numeric_limits<float>::max(),
                        HUGE_VALF,     NAN}) {
    values.push_back(x);
    values.push_back(-x);
  }
  expect_all_converted(stream, ops, values);
}

TEST(copy_rounds_integers_once) {
  std::vector<int32_t> values = {0, 1, -1, 255, 256, -256, 65519, 65520, 65521, INT32_MAX, INT32_MIN, INT32_MIN + 1};
  for (int shift = 0; shift < 31; shift++)
    for (int64_t near = -2; near <= 2; near++)
      for (const int64_t half : {int64_t{1}, int64_t{257}, int64_t{259}, int64_t{2049}, int64_t{2051}}) {
        const int64_t x = (half << shift) + near;
        if (x > INT32_MAX) continue;
        values.push_back(static_cast<int32_t>(x));
        values.push_back(static_cast<int32_t>(-x));
      }
  Any inp(DType::i32, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); i++) inp.words.memory[static_cast<int64_t>(i)] = values[i];
  for (const DType to : kDTypes) {
    Any out(to, {static_cast<int64_t>(values.size())});
    ops.copy(stream, out.view, inp.view, false);
    synchronize(stream);
    expect_converted("from i32", out, inp);
  }
}

TEST(fill_every_dtype_and_layout) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 17}, Shape{2, 33, 31}, Shape{70001}})
    for (const DType dtype : kDTypes)
      for (const Layout layout : kOutLayouts)
        for (const float value : {0.0f, 3.7f, -1e6f, 1 + 0x1p-9f, HUGE_VALF, NAN}) {
          Any out(dtype, shape, layout);
          ops.fill(stream, out.view, value);
          synchronize(stream);
          const double expected = converted(dtype, value);
          bool right = true;
          for (int64_t i = 0; i < out.view.numel(); i++)
            right = right && (out.get(i) == expected || (std::isnan(expected) && std::isnan(out.get(i))));
          EXPECT(right);
          EXPECT(out.bytes.gaps_are(0) && out.halves.gaps_are(0) && out.words.gaps_are(0));
        }
}

TEST(copy_and_fill_empty) {
  const Any empty(DType::f32, {0, 3}), other(DType::u8, {0, 3});
  ops.fill(stream, empty.view, 1);
  ops.copy(stream, empty.view, other.view, false);
  EXPECT(synchronize(stream).empty());
}

TEST(copy_and_fill_errors) {
  const Laid<float> out({2, 3}), other({3, 2}), repeated({2, 3}, Layout::repeated_first);
  const Any ids(DType::i32, {2, 3});
  EXPECT(error_of([&] { ops.copy(stream, out, other, false); }) ==
         "ERR_SHAPE: copy: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(error_of([&] { ops.copy(stream, repeated, out, false); }) ==
         "ERR_SHAPE: copy: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(error_of([&] { ops.copy(stream, ids.view, out, true); }) ==
         "ERR_DTYPE: copy: expected out to accumulate into of dtype f32, bf16 or f16, got i32");
  EXPECT(error_of([&] { ops.fill(stream, repeated, 0); }) ==
         "ERR_SHAPE: fill: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
}

}  // namespace
}  // namespace heed::test
