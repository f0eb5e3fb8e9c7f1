// random_normal, random_uniform and dropout: exact values from the scalar Philox and the C library, so that every
// instruction set and thread count is held to the same bits; then moments and the mask's properties.
#include <algorithm>

#include "core/random.h"
#include "views.h"

#define HEED_ISA portable
#include "cpu/kernels/philox.h"

namespace heed::test {
namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 3, 4, 5, 17, 31, 33, 63, 65, 257, 1023, 1025, 40003};

uint32_t word(int64_t seed, int64_t i, uint64_t draws = kTensorDraws) {
  return cpu::portable::philox_word(static_cast<uint64_t>(seed), static_cast<uint64_t>(i), draws);
}

float normal_reference(int64_t seed, int64_t i, double mean, double stddev) {
  const double u = (word(seed, i / 2 * 2) + 1.0) / 4294967296.0, v = word(seed, i / 2 * 2 + 1) / 4294967296.0;
  const double radius = stddev * std::sqrt(-2 * std::log(u)), angle = 6.283185307179586476925 * v;
  return static_cast<float>(mean + radius * (i % 2 ? std::sin(angle) : std::cos(angle)));
}

TEST(random_normal_bits) {
  for (const int64_t n : kSizes)
    for (const int64_t seed : {int64_t{0}, int64_t{42}, int64_t{-7}, int64_t{1} << 40}) {
      Laid<float> out({n});
      ops.random_normal(stream, out, 0.5f, 0.02f, seed);
      synchronize(stream);
      bool same = true;
      for (int64_t i = 0; i < n; i++)
        same = same && out.at(i) == normal_reference(seed, i, 0.5, static_cast<double>(0.02f));
      EXPECT(same);
    }
}

TEST(random_uniform_bits) {
  for (const int64_t n : kSizes) {
    Laid<float> out({n});
    ops.random_uniform(stream, out, -2, 6, 11);
    synchronize(stream);
    bool same = true;
    for (int64_t i = 0; i < n; i++)
      same = same && out.at(i) == static_cast<float>(-2 + 8 * ((word(11, i) >> 8) / 16777216.0));
    EXPECT(same);
  }
}

TEST(random_uniform_stays_below_high) {
  // Between 1 and the next float every draw of the upper half rounds to `high`.
  Laid<float> out({5000});
  const float high = 1 + 0x1p-23f;
  ops.random_uniform(stream, out, 1, high, 3);
  synchronize(stream);
  for (int64_t i = 0; i < 5000; i++) EXPECT(out.at(i) == 1);
  ops.random_uniform(stream, out, 4, 4, 3);
  synchronize(stream);
  for (int64_t i = 0; i < 5000; i++) EXPECT(out.at(i) == 4);
  ops.random_uniform(stream, out, -3e38f, 3e38f, 3);  // high - low overflows f32
  synchronize(stream);
  for (int64_t i = 0; i < 5000; i++) EXPECT(std::fabs(out.at(i)) <= 3e38f);
}

TEST(random_uniform_bounds) {
  const auto same = [](UniformBounds got, float first, float last) { return got.first == first && got.last == last; };
  EXPECT(same(uniform_bounds(DType::bf16, 100, 101), 100, 100.5f));
  EXPECT(same(uniform_bounds(DType::bf16, 100.1f, 101), 100.5f, 100.5f));
  EXPECT(same(uniform_bounds(DType::bf16, 100.1f, 100.2f), 100.1f, 100.1f));  // none in it
  EXPECT(same(uniform_bounds(DType::bf16, -1, 0), -1, -0x1p-133f));
  EXPECT(same(uniform_bounds(DType::f16, 0, 1), 0, 1 - 0x1p-11f));
  EXPECT(same(uniform_bounds(DType::f16, -1, 0x1p-25f), -1, 0));
  EXPECT(same(uniform_bounds(DType::f16, -7e4f, 7e4f), -65504, 65504));
  EXPECT(same(uniform_bounds(DType::f32, 1, 1 + 0x1p-23f), 1, 1));
  EXPECT(same(uniform_bounds(DType::f32, -3e38f, 3e38f), -3e38f, std::nextafter(3e38f, 0.0f)));
}

TEST(random_normal_moments) {
  constexpr int64_t n = 200000;
  Laid<float> out({n});
  ops.random_normal(stream, out, 0, 1, 2024);
  synchronize(stream);
  double moments[5] = {};
  for (int64_t i = 0; i < n; i++)
    for (int k = 1; k <= 4; k++) moments[k] += std::pow(static_cast<double>(out.at(i)), k) / n;
  // Five standard deviations of each: Var z^k / n with Var z = 1, Var z² = 2, Var z³ = 15, Var z⁴ = 96.
  EXPECT(std::fabs(moments[1]) < 5 * std::sqrt(1.0 / n));
  EXPECT(std::fabs(moments[2] - 1) < 5 * std::sqrt(2.0 / n));
  EXPECT(std::fabs(moments[3]) < 5 * std::sqrt(15.0 / n));
  EXPECT(std::fabs(moments[4] - 3) < 5 * std::sqrt(96.0 / n));
}

TEST(random_and_dropout_are_the_same_with_any_thread_count) {
  constexpr int64_t n = 100003;
  std::vector<float> first;
  with_thread_counts([&] {
    Laid<float> normal({n}), uniform({n}), dropped({n});
    ops.random_normal(stream, normal, 0, 1, 5);
    ops.random_uniform(stream, uniform, 0, 1, 5);
    ops.dropout(stream, dropped, normal, 0.3f, 9, false);
    synchronize(stream);
    std::vector<float> values;
    for (const Laid<float>* part : {&normal, &uniform, &dropped})
      values.insert(values.end(), part->memory.values.get(), part->memory.values.get() + n);
    if (first.empty()) first = values;
    EXPECT(values == first);
  });
}

TEST(dropout_every_layout) {
  Random random(1);
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{2, 3}, Shape{33, 31}, Shape{3, 65, 257}, Shape{70001}})
    for (const float p : {0.0f, 0.1f, 0.5f, 0.999f, 1.0f})
      for (const Layout out_layout : kOutLayouts)
        for (const Layout in_layout : kInLayouts)
          for (const bool accumulate : {false, true}) {
            if (numel(shape) > 10000 && (in_layout != Layout::contiguous || accumulate)) continue;
            Laid<float> inp(shape, in_layout), out(shape, out_layout);
            random.fill(inp.memory);
            for (int64_t i = 0; i < out.view.numel(); i++) out.at(i) = 0.25f;
            ops.dropout(stream, out, inp, p, 77, accumulate);
            synchronize(stream);
            bool right = true;
            for (int64_t i = 0; i < out.view.numel(); i++) {
              const bool kept = cpu::portable::uniform01(word(77, i, kDropoutDraws)) >= p;
              const float expected = kept ? inp.at(i) * (1 / (1 - p)) : 0;
              right = right && out.at(i) == (accumulate ? 0.25f + expected : expected);
            }
            EXPECT(right);
            EXPECT(out.gaps_are(0));
          }
}

TEST(dropout_keeps_the_share_it_should) {
  constexpr int64_t n = 200000;
  Laid<float> inp({n}), out({n});
  for (int64_t i = 0; i < n; i++) inp.at(i) = 1;
  ops.dropout(stream, out, inp, 0.2f, 123, false);
  synchronize(stream);
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) kept += out.at(i) != 0;
  // Five standard deviations of a binomial share.
  EXPECT(std::fabs(static_cast<double>(kept) / n - 0.8) < 5 * std::sqrt(0.2 * 0.8 / n));
}

TEST(dropout_keeps_a_draw_equal_to_p) {
  Laid<float> inp({50}), out({50});
  for (int64_t i = 0; i < 50; i++) inp.at(i) = 1;
  for (int64_t i = 0; i < 50; i++) {
    const float draw = cpu::portable::uniform01(word(31, i, kDropoutDraws));
    ops.dropout(stream, out, inp, draw, 31, false);
    synchronize(stream);
    EXPECT(out.at(i) == 1 / (1 - draw));
    ops.dropout(stream, out, inp, draw + 0x1p-24f, 31, false);
    synchronize(stream);
    EXPECT(out.at(i) == 0);
  }
}

TEST(dropout_drops_infinities_to_zero) {
  Laid<float> inp({100}), out({100});
  for (int64_t i = 0; i < 100; i++) inp.at(i) = i % 2 ? HUGE_VALF : NAN;
  ops.dropout(stream, out, inp, 1, 5, false);
  synchronize(stream);
  for (int64_t i = 0; i < 100; i++) EXPECT(out.at(i) == 0);
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
