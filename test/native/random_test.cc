// Tests random_normal, random_uniform and dropout: awkward sizes and layouts, the bounds of uniform numbers, a draw on
// the edge of being dropped, and every error.
#include "core/random.h"
#include "sweep.h"

namespace heed::test {
namespace {

TEST(random_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t n : {0, 1, 2, 3, 4, 5, 17, 31, 33, 63, 65, 257, 1023, 1025, 100003}) {
      s.check("random_normal", 1, {{{n}}}, [&](const Views& v) { ops.random_normal(stream, v[0], 0.5f, 0.02f, 42); });
      s.check("random_uniform", 1, {{{n}}}, [&](const Views& v) { ops.random_uniform(stream, v[0], -2, 6, 11); });
    }
  });
}

TEST(random_uniform_bounds) {
  const auto same = [](UniformBounds got, float first, float last) { return got.first == first && got.last == last; };
  EXPECT(same(uniform_bounds(DType::bf16, 100, 101), 100, 100.5f));
  EXPECT(same(uniform_bounds(DType::bf16, 100.1f, 101), 100.5f, 100.5f));
  EXPECT(same(uniform_bounds(DType::bf16, 100.1f, 100.2f), 100.1f, 100.1f));  // no number in the interval
  EXPECT(same(uniform_bounds(DType::bf16, -1, 0), -1, -0x1p-133f));
  EXPECT(same(uniform_bounds(DType::f16, 0, 1), 0, 1 - 0x1p-11f));
  EXPECT(same(uniform_bounds(DType::f16, -1, 0x1p-25f), -1, 0));
  EXPECT(same(uniform_bounds(DType::f16, -7e4f, 7e4f), -65504, 65504));
  EXPECT(same(uniform_bounds(DType::f32, 1, 1 + 0x1p-23f), 1, 1));
  EXPECT(same(uniform_bounds(DType::f32, -3e38f, 3e38f), -3e38f, std::nextafter(3e38f, 0.0f)));
}

TEST(dropout_every_layout) {
  sweep(stream, [&](Sweep& s) {
    const auto check = [&](const Shape& shape, float p, Layout out, Layout in) {
      s.check_accumulating(
          "dropout", 1, {{shape, DType::f32, out}, {shape, DType::f32, in}},
          [&](const Views& v, bool accumulate) { ops.dropout(stream, v[0], v[1], p, 77, accumulate); });
    };
    for (const float p : {0.0f, 0.5f, 1.0f})
      for (const Layout out : kOutLayouts) {
        check({70001}, p, out, Layout::contiguous);
        for (const Shape& shape : {Shape{}, Shape{1}, Shape{2, 3}, Shape{33, 31}, Shape{2, 33, 257}})
          for (const Layout in : kInLayouts) check(shape, p, out, in);
      }
  });
}

TEST(random_and_dropout_errors) {
  const Laid<float> out({2, 3}), other({6}), stepped({2, 3}, Layout::stepped), repeated({2, 3}, Layout::repeated_first);
  const Laid<int32_t> ids({2, 3});
  EXPECT(error_of([&] { ops.random_normal(stream, stepped, 0, 1, 0); }) ==
         "ERR_SHAPE: random_normal: expected out to be contiguous, got a strided view of shape [2, 3]");
  EXPECT(error_of([&] { ops.random_normal(stream, ids, 0, 1, 0); }) ==
         "ERR_DTYPE: random_normal: expected out of dtype f32, bf16 or f16, got i32");
  for (const float stddev : {-1.0f, NAN, HUGE_VALF})
    EXPECT(error_of([&] {
             ops.random_normal(stream, out, 0, stddev, 0);
           }).find("ERR_ARGUMENT: random_normal: expected a finite mean and a stddev of at least 0, got 0 and ") == 0);
  EXPECT(error_of([&] { ops.random_normal(stream, out, NAN, 1, 0); }).find("ERR_ARGUMENT: random_normal") == 0);
  EXPECT(error_of([&] { ops.random_uniform(stream, out, 2, 1, 0); }) ==
         "ERR_ARGUMENT: random_uniform: expected finite low <= high, got 2 and 1");
  EXPECT(error_of([&] { ops.random_uniform(stream, out, NAN, 1, 0); }).find("ERR_ARGUMENT: random_uniform") == 0);
  EXPECT(error_of([&] { ops.random_uniform(stream, out, 0, HUGE_VALF, 0); }).find("ERR_ARGUMENT: random_uniform") == 0);
  EXPECT(error_of([&] { ops.random_uniform(stream, ids, 0, 1, 0); }) ==
         "ERR_DTYPE: random_uniform: expected out of dtype f32, bf16 or f16, got i32");
  for (const float p : {-0.1f, 1.5f, NAN})
    EXPECT(error_of([&] {
             ops.dropout(stream, out, out, p, 0, false);
           }).find("ERR_ARGUMENT: dropout: expected p from 0 to 1, got ") == 0);
  EXPECT(error_of([&] { ops.dropout(stream, out, other, 0, 0, false); }) ==
         "ERR_SHAPE: dropout: expected inp of shape [2, 3], got [6]");
  EXPECT(error_of([&] { ops.dropout(stream, ids, out, 0, 0, false); }) ==
         "ERR_DTYPE: dropout: expected out of dtype f32, bf16 or f16, got i32");
  EXPECT(error_of([&] { ops.dropout(stream, repeated, out, 0, 0, false); }) ==
         "ERR_SHAPE: dropout: expected out without broadcast dimensions, got a stride of 0 in shape [2, 3]");
}

}  // namespace
}  // namespace heed::test
