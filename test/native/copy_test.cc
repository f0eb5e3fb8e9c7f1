// Tests fill and copy: every layout on both sides, every pair of dtypes, every order of dimensions, and every error.
#include <algorithm>
#include <limits>

#include "sweep.h"

namespace heed::test {
namespace {

// Returns numbers of a dtype, some of which the others cannot represent.
Operand numbers(DType dtype, const Shape& shape, Layout layout = Layout::contiguous) {
  const float limit = dtype == DType::u8 ? 256 : 3e5f;
  return {shape, dtype, layout, dtype == DType::u8 ? 0 : -limit, limit};
}

Operand permuted(Operand operand, const std::vector<int>& dims) {
  operand.window = [dims](const TensorView& view) { return permute(view, dims); };
  return operand;
}

TEST(copy_every_pair_of_dtypes_and_layouts) {
  sweep(stream, [&](Sweep& s) {
    for (const Shape& shape : {Shape{1}, Shape{2, 3}, Shape{3, 17}, Shape{33, 31}, Shape{2, 65, 63}})
      for (const DType to : kDTypes)
        for (const DType from : kDTypes)
          for (const Layout out : kOutLayouts)
            for (const Layout in : kInLayouts)
              s.check("copy", 1, {numbers(to, shape, out), numbers(from, shape, in)},
                      [&](const Views& v) { ops.copy(stream, v[0], v[1], false); });
  });
}

TEST(copy_accumulates) {
  sweep(stream, [&](Sweep& s) {
    for (const Shape& shape : {Shape{1}, Shape{3, 17}, Shape{65, 63}})
      for (const DType from : kDTypes)
        for (const Layout out : kOutLayouts)
          for (const Layout in : kInLayouts)
            s.check_accumulating("copy", 1, {numbers(DType::f32, shape, out), numbers(from, shape, in)},
                                 [&](const Views& v, bool accumulate) { ops.copy(stream, v[0], v[1], accumulate); });
  });
}

TEST(copy_every_permutation) {
  sweep(stream, [&](Sweep& s) {
    const Shape shape = {3, 33, 9, 40};
    std::vector<int> dims = {0, 1, 2, 3};
    do {
      Shape turned;
      for (const int d : dims) turned.push_back(shape[static_cast<size_t>(d)]);
      for (const DType to : {DType::f32, DType::bf16, DType::u8})
        s.check("copy", 1, {numbers(to, turned), permuted(numbers(DType::f32, shape), dims)},
                [&](const Views& v) { ops.copy(stream, v[0], v[1], false); });
    } while (std::next_permutation(dims.begin(), dims.end()));
  });
}

// Both sides are permuted, each in its own way.
TEST(copy_between_permutations) {
  sweep(stream, [&](Sweep& s) {
    for (const std::vector<int>& dims :
         {std::vector<int>{1, 2, 0}, std::vector<int>{2, 1, 0}, std::vector<int>{0, 2, 1}}) {
      const Operand inp = permuted(numbers(DType::f32, {34, 35, 36}), dims);
      Operand out = numbers(DType::f32, {36, 35, 34});
      out.window = [dims](const TensorView& view) { return permute(permute(view, {2, 1, 0}), dims); };
      s.check("copy", 1, {out, inp}, [&](const Views& v) { ops.copy(stream, v[0], v[1], false); });
    }
  });
}

TEST(copy_large) {
  sweep(stream, [&](Sweep& s) {
    s.check("copy", 1, {numbers(DType::bf16, {300, 401}), numbers(DType::f32, {300, 401})},
            [&](const Views& v) { ops.copy(stream, v[0], v[1], false); });
    s.check("copy", 1, {numbers(DType::f32, {401, 300}), permuted(numbers(DType::f32, {300, 401}), {1, 0})},
            [&](const Views& v) { ops.copy(stream, v[0], v[1], false); });
  });
}

// Includes values that no integer type can represent.
TEST(fill_every_dtype_and_layout) {
  sweep(stream, [&](Sweep& s) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{3, 17}, Shape{2, 33, 31}, Shape{70001}})
      for (const DType dtype : kDTypes)
        for (const Layout layout : kOutLayouts)
          for (const float value : {3.7f, -1e6f, HUGE_VALF, NAN})
            s.check("fill", 1, {numbers(dtype, shape, layout)}, [&](const Views& v) { ops.fill(stream, v[0], value); });
  });
}

// Numbers at the ends of each dtype's range, and beyond. In C++, converting a value beyond the range to an integer is
// undefined.
TEST(copy_converts_the_ends_of_every_range) {
  const float values[] = {
      255.5f, 65520, 0x1p-25f, 0x1p-149f, 2147483520, 2147483648, std::numeric_limits<float>::max(), HUGE_VALF, NAN};
  constexpr int64_t n = sizeof values / sizeof *values;
  Array<float> inp({2, n});
  for (int64_t i = 0; i < 2 * n; i++) inp[i] = i < n ? values[i] : -values[i - n];
  sweep(stream, [&](Sweep& s) {
    for (const DType to : kDTypes)
      s.check("copy", 1, {numbers(to, {2, n})}, [&](const Views& v) { ops.copy(stream, v[0], inp, false); });
  });
}

TEST(copy_and_fill_empty) {
  const Laid<float> empty({0, 3});
  const Laid<uint8_t> other({0, 3});
  ops.fill(stream, empty, 1);
  ops.copy(stream, empty, other, false);
  EXPECT(synchronize(stream).empty());
}

TEST(copy_and_fill_errors) {
  const Laid<float> out({2, 3}), other({3, 2}), repeated({2, 3}, Layout::repeated_first);
  const Laid<int32_t> ids({2, 3});
  EXPECT(error_of([&] { ops.copy(stream, out, other, false); }) ==
         "ERR_SHAPE: copy: expected inp of shape [2, 3], got [3, 2]");
  EXPECT(error_of([&] { ops.copy(stream, repeated, out, false); }) ==
         "ERR_SHAPE: copy: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
  EXPECT(error_of([&] { ops.copy(stream, ids, out, true); }) ==
         "ERR_DTYPE: copy: expected out to accumulate into of dtype f32, bf16 or f16, got i32");
  EXPECT(error_of([&] { ops.fill(stream, repeated, 0); }) ==
         "ERR_SHAPE: fill: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
}

}  // namespace
}  // namespace heed::test
