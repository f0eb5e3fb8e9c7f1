// Compares the elementary functions of simd.h and elementary.h with the C library in double, over a sample of all f32
// patterns.
//
// vexp and vtanh are called through unary, on every instruction set. Over all 2^32 patterns vexp is within 1.011 ulp
// and vtanh within 1.331 ulp (results below 2^-126 are measured in units of 2^-149). Over the patterns from 2^-5 to
// 2^18, which include the worst, vlog is within 0.835 ulp, and vsin and vcos within 1.487. The memory and lane helpers
// are tested here in their portable form; the kernels' tests of every length cover the other forms.
#include <cstring>

#include "core/kinds.h"
#include "views.h"

#define HEED_ISA portable
#include "cpu/kernels/kernel.h"

namespace heed::test {
namespace {

namespace simd = cpu::portable;

constexpr double kLogUlps = 0.835, kSinUlps = 1.487;

double ulp_error(float got, double expected) {
  const float nearest = static_cast<float>(expected);
  if (std::isnan(expected)) return std::isnan(got) ? 0 : HUGE_VAL;
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0 : HUGE_VAL;
  const double unit = expected == 0 ? 0x1p-149 : std::ldexp(1.0, std::max(std::ilogb(expected), -126) - 23);
  return std::fabs(static_cast<double>(got) - expected) / unit;
}

void expect_ulps(Stream& stream, const Ops& ops, UnaryKind kind, double (*reference)(double), double ulps) {
  constexpr uint64_t kStep = 2039;  // prime, so that every exponent and every low bit occurs
  constexpr int64_t n = static_cast<int64_t>((uint64_t{1} << 32) / kStep);
  Laid<float> inp({n}), out({n});
  for (int64_t i = 0; i < n; i++) {
    const uint32_t pattern = static_cast<uint32_t>(static_cast<uint64_t>(i) * kStep);
    std::memcpy(&inp.memory[i], &pattern, sizeof pattern);
  }
  ops.unary(stream, out, inp, static_cast<Int>(kind));
  synchronize(stream);
  double worst = 0;
  float at = 0;
  for (int64_t i = 0; i < n; i++) {
    const double error = ulp_error(out.memory[i], reference(static_cast<double>(inp.memory[i])));
    if (error > worst) worst = error, at = inp.memory[i];
  }
  if (!(worst <= ulps))
    report("kind %d is %.3f ulp off at %.9g", static_cast<int>(kind), worst, static_cast<double>(at));
}

TEST(simd_exp_ulps) { expect_ulps(stream, ops, UnaryKind::exp, std::exp, 1.011); }
TEST(simd_tanh_ulps) { expect_ulps(stream, ops, UnaryKind::tanh, std::tanh, 1.331); }
TEST(simd_log_ulps) { expect_ulps(stream, ops, UnaryKind::log, std::log, kLogUlps); }
TEST(simd_sin_ulps) { expect_ulps(stream, ops, UnaryKind::sin, std::sin, kSinUlps); }
TEST(simd_cos_ulps) { expect_ulps(stream, ops, UnaryKind::cos, std::cos, kSinUlps); }
TEST(simd_expm1_ulps) { expect_ulps(stream, ops, UnaryKind::expm1, std::expm1, 1.5); }
TEST(simd_log1p_ulps) { expect_ulps(stream, ops, UnaryKind::log1p, std::log1p, 2.5); }
TEST(simd_round_ulps) { expect_ulps(stream, ops, UnaryKind::round, std::nearbyint, 0); }
TEST(simd_floor_ulps) { expect_ulps(stream, ops, UnaryKind::floor, std::floor, 0); }
TEST(simd_ceil_ulps) { expect_ulps(stream, ops, UnaryKind::ceil, std::ceil, 0); }
TEST(simd_sqrt_ulps) { expect_ulps(stream, ops, UnaryKind::sqrt, std::sqrt, 0.5); }

TEST(simd_exp_and_tanh_special_values) {
  const float x[] = {0.0f,        -0.0f,       HUGE_VALF,     -HUGE_VALF,    NAN,          0x1p-149f, -0x1p-149f,
                     88.7228317f, 88.7228394f, -103.9720764f, -103.9720840f, -87.3365479f, 3.4e38f,   -3.4e38f};
  constexpr int64_t n = sizeof x / sizeof *x;
  Laid<float> inp({n}), exps({n}), tanhs({n});
  for (int64_t i = 0; i < n; i++) inp.at(i) = x[i];
  ops.unary(stream, exps, inp, static_cast<Int>(UnaryKind::exp));
  ops.unary(stream, tanhs, inp, static_cast<Int>(UnaryKind::tanh));
  synchronize(stream);
  EXPECT(exps.at(0) == 1 && exps.at(1) == 1 && exps.at(2) == HUGE_VALF && exps.at(3) == 0 && std::isnan(exps.at(4)));
  EXPECT(exps.at(5) == 1 && exps.at(6) == 1);
  EXPECT(exps.at(7) < HUGE_VALF && exps.at(8) == HUGE_VALF);  // the last finite result and the first infinite one
  EXPECT(exps.at(9) == 0x1p-149f && exps.at(10) == 0);        // the last result above zero
  EXPECT(exps.at(12) == HUGE_VALF && exps.at(13) == 0);
  for (int64_t i = 0; i < n; i++) EXPECT(std::isnan(x[i]) || std::signbit(tanhs.at(i)) == std::signbit(x[i]));
  EXPECT(tanhs.at(0) == 0 && tanhs.at(2) == 1 && tanhs.at(3) == -1 && std::isnan(tanhs.at(4)));
  EXPECT(tanhs.at(5) == 0x1p-149f && tanhs.at(6) == -0x1p-149f);
}

TEST(simd_log_and_sin_special_values) {
  const float x[] = {0.0f, -0.0f, HUGE_VALF, -1, NAN, 1, 0x1p-149f};
  constexpr int64_t n = sizeof x / sizeof *x;
  Laid<float> inp({n}), logs({n}), sines({n}), near({4}), sums({4});
  for (int64_t i = 0; i < n; i++) inp.at(i) = x[i];
  // Around multiples of π/2, where little is left of x.
  for (int64_t i = 0; i < 4; i++)
    near.at(i) = static_cast<float>(1.5707963267948966 * static_cast<double>(2 + 3 * i * i));
  ops.unary(stream, logs, inp, static_cast<Int>(UnaryKind::log));
  ops.unary(stream, sines, inp, static_cast<Int>(UnaryKind::sin));
  ops.unary(stream, sums, near, static_cast<Int>(UnaryKind::sin));
  synchronize(stream);
  EXPECT(logs.at(0) == -HUGE_VALF && logs.at(1) == -HUGE_VALF && logs.at(2) == HUGE_VALF && std::isnan(logs.at(3)));
  EXPECT(std::isnan(logs.at(4)) && logs.at(5) == 0 && ulp_error(logs.at(6), std::log(0x1p-149)) <= kLogUlps);
  EXPECT(sines.at(0) == 0 && sines.at(1) == 0 && std::signbit(sines.at(1)) && !std::signbit(sines.at(0)));
  EXPECT(std::isnan(sines.at(2)) && std::isnan(sines.at(4)));
  for (int64_t i = 0; i < 4; i++) EXPECT(ulp_error(sums.at(i), std::sin(static_cast<double>(near.at(i)))) <= kSinUlps);
}

TEST(simd_partial_loads_and_stores) {
  for (int64_t n = 0; n < simd::kWidth; n++) {
    std::unique_ptr<float[]> from(new float[n]), to(new float[n + 1]);
    for (int64_t i = 0; i < n; i++) from[i] = static_cast<float>(i + 1);
    to[n] = 77;
    const simd::vf v = simd::load_n(from.get(), n);
    simd::store_n(to.get(), v, n);
    for (int64_t i = 0; i < simd::kWidth; i++) EXPECT(v[i] == (i < n ? static_cast<float>(i + 1) : 0));
    for (int64_t i = 0; i < n; i++) EXPECT(to[i] == from[i]);
    EXPECT(to[n] == 77);
  }
}

TEST(simd_lanes) {
  simd::vf v{};
  for (int i = 0; i < simd::kWidth; i++) v[i] = static_cast<float>(i - 1);
  EXPECT(simd::hsum(v) == static_cast<float>(simd::kWidth * (simd::kWidth - 3) / 2));
  EXPECT(simd::hmax(v) == static_cast<float>(simd::kWidth - 2));
  EXPECT(simd::hmax(-v) == 1);
  const simd::vf nan = simd::set1(NAN), one = simd::set1(1);
  EXPECT(simd::vmax(nan, one)[0] == 1 && std::isnan(simd::vmax(one, nan)[0]));
  EXPECT(simd::vmin(nan, one)[0] == 1 && std::isnan(simd::vmin(one, nan)[0]));
  EXPECT(simd::vabs(simd::set1(-0.0f))[0] == 0 && !std::signbit(simd::vabs(simd::set1(-0.0f))[0]));
  EXPECT(simd::round_even(simd::set1(2.5f))[0] == 2 && simd::round_even(simd::set1(-3.5f))[0] == -4);
}

}  // namespace
}  // namespace heed::test
