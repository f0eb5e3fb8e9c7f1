// Compares arithmetic of f16, bf16, f32 and f64 with exact values rounded by definition, and .approx functions with the
// manual's error bounds.
#include "simulator/arithmetic.h"

#include <array>

#include "check.h"
#include "oracle.h"
#include "simulator/approx.h"
#include "simulator/half.h"

using namespace heed::simulator;

namespace {

const Rounding directions[] = {Rounding::rn, Rounding::rz, Rounding::rm, Rounding::rp};
constexpr float infinity = std::numeric_limits<float>::infinity();
const float nan32 = bits_as<float>(canonical_nan);

bool same(float a, float b) { return bits_as<uint32_t>(a) == bits_as<uint32_t>(b); }
bool same(double a, double b) { return bits_as<uint64_t>(a) == bits_as<uint64_t>(b); }

// Returns numbers whose sums and products Exact can represent.
template <class T>
T number(heed::test::Random& random) {
  const int digits = std::numeric_limits<T>::digits;
  const double magnitude =
      std::ldexp(static_cast<double>(random.next() >> (64 - digits)), static_cast<int>(random.below(24)) - digits);
  return static_cast<T>(random.next() & 1 ? magnitude : -magnitude);
}

template <class T>
void check_directed() {
  heed::test::Random random(3);
  for (int i = 0; i < 20000; i++) {
    const T a = number<T>(random), b = number<T>(random), c = number<T>(random);
    const Exact x = a, y = b, z = c;
    for (const Rounding rounding : directions) {
      if (x + y != 0) EXPECT(same(add(a, b, rounding), round_to<T>(x + y, rounding)));
      if (x - y != 0) EXPECT(same(sub(a, b, rounding), round_to<T>(x - y, rounding)));
      if (x * y != 0) EXPECT(same(mul(a, b, rounding), round_to<T>(x * y, rounding)));
      // For f64 it is a product of 106 bits plus another number: exact only if that number is within reach of the 113
      // bits.
      if (sizeof(T) == 4 && x * y + z != 0) EXPECT(same(fma(a, b, c, rounding), round_to<T>(x * y + z, rounding)));
      if (x != 0 && y != 0) {
        const T quotient =
            div(a, b, rounding);  // checked by its product with b: rounded down, it is not above the quotient
        const T above = std::nextafter(quotient, static_cast<T>(INFINITY)),
                below = std::nextafter(quotient, static_cast<T>(-INFINITY));
        const auto compare_to_quotient = [&](T q) { return (static_cast<Exact>(q) * y - x) * (y > 0 ? 1 : -1); };
        if (rounding == Rounding::rm) EXPECT(compare_to_quotient(quotient) <= 0 && compare_to_quotient(above) > 0);
        if (rounding == Rounding::rp) EXPECT(compare_to_quotient(quotient) >= 0 && compare_to_quotient(below) < 0);
        if (rounding == Rounding::rz) EXPECT(same(quotient, div(a, b, quotient > 0 ? Rounding::rm : Rounding::rp)));
        if (rounding == Rounding::rn) EXPECT(same(quotient, a / b));
        EXPECT(same(rcp(b, rounding), div(T{1}, b, rounding)));
      }
      if (x > 0) {
        const T root = sqrt(a, rounding), above = std::nextafter(root, static_cast<T>(INFINITY)),
                below = std::nextafter(root, T{0});
        const auto square = [](T v) { return static_cast<Exact>(v) * v; };
        if (rounding == Rounding::rm || rounding == Rounding::rz) EXPECT(square(root) <= x && square(above) > x);
        if (rounding == Rounding::rp) EXPECT(square(root) >= x && square(below) < x);
        if (rounding == Rounding::rn) EXPECT(same(root, std::sqrt(a)));
      }
    }
  }
}

template <Type T>
void check_half_arithmetic() {
  const Format16& format = format_of(T);
  heed::test::Random random(4);
  using H = Half<T>;
  const auto expected = [&](Exact exact, bool negative_zero) {
    return exact == 0 ? static_cast<uint16_t>(negative_zero ? 0x8000 : 0) : format.round(exact, Rounding::rn);
  };
  for (int i = 0; i < 300000; i++) {
    const auto any = [&] {  // bf16's exponents are limited so that Exact can add the numbers
      const uint16_t bits = static_cast<uint16_t>(random.next() >> 48);
      if (T == Type::bf16 && bits % 50 == 0)
        return std::array<uint16_t, 5>{0x7f80, 0xff80, 0x7fc1, 0, 0x8000}[bits % 5];
      return T == Type::f16 ? bits : static_cast<uint16_t>((bits & 0x80ff) | ((random.below(24) + 116) << 7));
    };
    const uint16_t a = any(), b = any(), c = any();
    const double x = format.value(a), y = format.value(b), z = format.value(c);
    if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(z)) {
      if (std::isnan(x + y)) EXPECT(H::add(a, b) == canonical_nan16);
      if (std::isinf(x + y)) EXPECT(H::add(a, b) == (format.infinity() | (x + y < 0 ? 0x8000 : 0)));
      if (std::isnan(x * y)) EXPECT(H::mul(a, b) == canonical_nan16);
      if (std::isinf(x * y)) EXPECT(H::mul(a, b) == (format.infinity() | (x * y < 0 ? 0x8000 : 0)));
      if (std::isnan(x * y + z)) EXPECT(H::fma(a, b, c) == canonical_nan16);
      if (std::isinf(x * y + z)) EXPECT(H::fma(a, b, c) == (format.infinity() | (x * y + z < 0 ? 0x8000 : 0)));
      continue;
    }
    const Exact ex = x, ey = y, ez = z;
    const bool both_negative = (a & 0x8000) && (b & 0x8000);
    EXPECT(H::add(a, b) == expected(ex + ey, both_negative));
    EXPECT(H::sub(a, b) == expected(ex - ey, (a & 0x8000) && !(b & 0x8000)));
    EXPECT(H::mul(a, b) == (ex * ey == 0 ? ((a ^ b) & 0x8000) : expected(ex * ey, false)));
    const bool product_negative = (a ^ b) & 0x8000;
    EXPECT(H::fma(a, b, c) == expected(ex * ey + ez, product_negative && (c & 0x8000)));
    const uint16_t relu = H::fma_relu(a, b, c);
    EXPECT(relu == (ex * ey + ez <= 0 ? 0 : H::fma(a, b, c)));
    EXPECT(H::ftz(a) == (std::fabs(x) < (T == Type::f16 ? 0x1p-14 : 0x1p-126) ? (a & 0x8000) : a));
    EXPECT(H::saturate(a) == (x <= 0 ? 0 : x >= 1 ? format.round(1, Rounding::rn) : a));
    if (x != y) {
      EXPECT(H::min(a, b) == (x < y ? a : b) && H::max(a, b) == (x < y ? b : a));
      EXPECT(pair([](uint16_t p, uint16_t q) { return H::min(p, q); }, a | uint32_t{b} << 16, b | uint32_t{c} << 16) ==
             (H::min(a, b) | uint32_t{H::min(b, c)} << 16));
      const uint16_t sign = (a ^ b) & 0x8000;
      EXPECT(H::max(a, b, false, true) == ((std::fabs(x) < std::fabs(y) ? b & 0x7fff : a & 0x7fff) | sign));
    }
  }
  // The numbers are far apart: the small one only matters if the large one lies on a tie.
  const uint16_t one = format.round(1, Rounding::rn), tiny = 1;
  EXPECT(H::add(one, tiny) == one && H::fma(one, one, tiny) == one && H::sub(one, tiny) == one);
  const uint16_t nan = 0x7fff, minus_zero = 0x8000;
  EXPECT(H::min(nan, one) == one && H::max(one, nan) == one && H::min(nan, nan) == canonical_nan16);
  EXPECT(H::min(nan, one, true) == canonical_nan16 && H::max(one, nan, true) == canonical_nan16);
  EXPECT(H::min(minus_zero, 0) == minus_zero && H::min(0, minus_zero) == minus_zero && H::max(minus_zero, 0) == 0);
  EXPECT(H::neg(one) == (one | 0x8000) && H::abs(minus_zero) == 0);
  EXPECT(H::fma_relu(nan, one, one) == canonical_nan16 && H::saturate(nan) == 0);
}

// The exact sum of a·b and a c that is far below the reach of one double: rounding twice would lose it.
TEST(half_fma_rounds_once) {
  using H = Half<Type::f16>;
  const Format16& format = format_of(Type::f16);
  for (uint32_t a = 0x3c01; a < 0x3c40; a++)
    for (uint32_t b = 0x3c01; b < 0x3c40; b++)
      for (const uint16_t c : {1, 0x8001, 2, 0x8003, 0x0400, 0x8400}) {
        const Exact exact =
            static_cast<Exact>(format.value(static_cast<uint16_t>(a))) * format.value(static_cast<uint16_t>(b)) +
            format.value(c);
        EXPECT(H::fma(static_cast<uint16_t>(a), static_cast<uint16_t>(b), c) == format.round(exact, Rounding::rn));
      }
}

template <class F, class G>
void check_approx(const char* name, F&& function, G&& exact, double low, double high, double relative, double absolute,
                  int steps = 200000) {
  double worst = 0;
  for (int i = 0; i <= steps; i++) {
    const float x = static_cast<float>(low + (high - low) * i / steps);
    const long double e = exact(static_cast<long double>(x));
    const double error = static_cast<double>(std::fabs(static_cast<long double>(function(x)) - e));
    const double bound = absolute + relative * static_cast<double>(std::fabs(e));
    if (!(error <= bound) && bound > 0) worst = std::max(worst, error / bound);
    if (std::isnan(error)) worst = INFINITY;
  }
  if (worst > 0) heed::test::report("%s: %.3g times the allowed error", name, worst);
}

}  // namespace

TEST(arithmetic_directed_roundings) {
  check_directed<float>();
  check_directed<double>();
  EXPECT(same(add(3e38f, 3e38f, Rounding::rz), std::numeric_limits<float>::max()));
  EXPECT(same(add(3e38f, 3e38f, Rounding::rn), infinity) &&
         same(mul(-3e38f, 2, Rounding::rp), -std::numeric_limits<float>::max()));
  EXPECT(same(mul(1e-30f, 1e-30f, Rounding::rp), 0x1p-149f) && same(mul(1e-30f, 1e-30f, Rounding::rm), 0.0f));
  EXPECT(same(add(1, 0x1p-80, Rounding::rp), std::nextafter(1.0, 2.0)) &&
         same(add(1, -0x1p-80, Rounding::rz), std::nextafter(1.0, 0.0)));
  EXPECT(same(fma(0x1p-100, 0x1p-100, 1, Rounding::rp), std::nextafter(1.0, 2.0)) &&
         same(fma(0x1p-100, 0x1p-100, 1, Rounding::rm), 1.0));
  EXPECT(same(sub(infinity, infinity, Rounding::rz), nan32) && same(sqrt(-1.0f, Rounding::rn), nan32));
  EXPECT(same(sub(1.0f, 1.0f, Rounding::rm), -0.0f) && same(sub(1.0f, 1.0f, Rounding::rn), 0.0f));
  EXPECT(same(div(1.0f, 0.0f, Rounding::rn), infinity) && same(rcp(-0.0f, Rounding::rz), -infinity));
  EXPECT(same(1.0f / 3, div(1.0f, 3.0f, Rounding::rn)));  // the host's rounding mode is restored
}

TEST(arithmetic_warp_fma) {
  heed::test::Random random(5);
  float a[32], b[32], c[32], d[32];
  double wide[32];
  for (int i = 0; i < 32; i++) {
    a[i] = number<float>(random);
    b[i] = number<float>(random);
    c[i] = -(a[i] * b[i]);  // the rest is the product's rounding error, which only a fused operation finds
    wide[i] = a[i] + 1e-9;
  }
  warp_fma(a, b, c, d);
  for (int i = 0; i < 32; i++) EXPECT(d[i] == static_cast<float>(static_cast<double>(a[i]) * b[i] + c[i]));
  warp_fma(a, b, c, c);
  EXPECT(std::equal(c, c + 32, d));
  double result[32];
  warp_fma(wide, wide, wide, result);
  for (int i = 0; i < 32; i++) EXPECT(result[i] == std::fma(wide[i], wide[i], wide[i]));
}

TEST(arithmetic_min_max_compare) {
  EXPECT(same(min(nan32, 1.0f), 1.0f) && same(max(1.0f, nan32), 1.0f) && same(min(nan32, -nan32), nan32));
  EXPECT(same(min(nan32, 1.0f, true), nan32) && same(max(1.0f, nan32, true), nan32));
  EXPECT(same(min(0.0f, -0.0f), -0.0f) && same(min(-0.0f, 0.0f), -0.0f) && same(max(-0.0f, 0.0f), 0.0f));
  EXPECT(same(min(-3.0f, 2.0f, false, true), -2.0f) && same(max(-3.0f, -2.0f, false, true), 3.0f));
  EXPECT(same(max(-3.0, 2.0), 2.0) && same(min(-0.0, 0.0), -0.0));
  struct {
    Comparison comparison;
    bool less, equal, greater, unordered;
  } const rules[] = {{Comparison::eq, 0, 1, 0, 0},  {Comparison::ne, 1, 0, 1, 0},  {Comparison::lt, 1, 0, 0, 0},
                     {Comparison::le, 1, 1, 0, 0},  {Comparison::gt, 0, 0, 1, 0},  {Comparison::ge, 0, 1, 1, 0},
                     {Comparison::equ, 0, 1, 0, 1}, {Comparison::neu, 1, 0, 1, 1}, {Comparison::ltu, 1, 0, 0, 1},
                     {Comparison::leu, 1, 1, 0, 1}, {Comparison::gtu, 0, 0, 1, 1}, {Comparison::geu, 0, 1, 1, 1},
                     {Comparison::num, 1, 1, 1, 0}, {Comparison::nan, 0, 0, 0, 1}};
  for (const auto& rule : rules) {
    EXPECT(compare(rule.comparison, 1.0f, 2.0f) == rule.less && compare(rule.comparison, 2.0, 2.0) == rule.equal);
    EXPECT(compare(rule.comparison, 2.0f, 1.0f) == rule.greater && compare(rule.comparison, -0.0f, 0.0f) == rule.equal);
    EXPECT(compare(rule.comparison, nan32, 1.0f) == rule.unordered &&
           compare(rule.comparison, 1.0, static_cast<double>(NAN)) == rule.unordered);
  }
  EXPECT(testp(FloatTest::finite, 1.0f) && !testp(FloatTest::finite, infinity) &&
         testp(FloatTest::infinite, -infinity));
  EXPECT(testp(FloatTest::subnormal, 1e-40f) && !testp(FloatTest::normal, 1e-40f) &&
         !testp(FloatTest::subnormal, 0.0f));
  EXPECT(testp(FloatTest::notanumber, nan32) && testp(FloatTest::number, 0.0) && testp(FloatTest::normal, 1.0));
  EXPECT(same(heed::simulator::copysign(-1.0f, 2.0f), -2.0f) && same(heed::simulator::copysign(1.0, -2.0), 2.0));
}

TEST(half_arithmetic_f16) { check_half_arithmetic<Type::f16>(); }
TEST(half_arithmetic_bf16) { check_half_arithmetic<Type::bf16>(); }

TEST(half_functions_within_the_manuals_bounds) {
  for (uint32_t bits = 0; bits < 65536; bits++)
    for (const Type type : {Type::f16, Type::bf16}) {
      const bool is_f16 = type == Type::f16;
      const Format16& format = format_of(type);
      const uint16_t half = static_cast<uint16_t>(bits);
      const double x = format.value(half);
      const uint16_t tanh = is_f16 ? Half<Type::f16>::tanh(half) : Half<Type::bf16>::tanh(half);
      const uint16_t ex2 = is_f16 ? Half<Type::f16>::ex2(half) : Half<Type::bf16>::ex2(half);
      if (format.is_nan(half)) {
        EXPECT(tanh == canonical_nan16 && ex2 == canonical_nan16);
        continue;
      }
      EXPECT(std::fabs(format.value(tanh) - std::tanh(x)) <= std::exp2(is_f16 ? -10.987 : -8));
      const double power = std::exp2(x), got = format.value(ex2);
      if (std::isinf(got))
        EXPECT(power >= format.value(static_cast<uint16_t>(format.infinity() - 1)));
      else
        EXPECT(std::fabs(got - power) <= power * std::exp2(is_f16 ? -9.9 : -7) + (is_f16 ? 0x1p-24 : 0x1p-133));
    }
}

TEST(approx_within_the_manuals_bounds) {
  const double ulp = 0x1p-23;
  check_approx(
      "ex2", [](float x) { return ex2_approx(x, false); }, [](long double x) { return std::exp2(x); }, -126, 127.99,
      2 * ulp, 0);
  check_approx(
      "ex2 of small", [](float x) { return ex2_approx(x, true); }, [](long double x) { return std::exp2(x); }, -1e-3,
      1e-3, 2 * ulp, 0);
  check_approx(
      "lg2", [](float x) { return lg2_approx(x, false); }, [](long double x) { return std::log2(x); }, 2, 1e6,
      0x1.5p-23, 0);
  check_approx(
      "lg2 near 1", [](float x) { return lg2_approx(x, true); }, [](long double x) { return std::log2(x); }, 0.5, 2, 0,
      0x1.5p-23);
  check_approx(
      "lg2 below 1", [](float x) { return lg2_approx(x, false); }, [](long double x) { return std::log2(x); }, 1e-6,
      0.5, 0x1.5p-23, 0);
  check_approx(
      "sin", [](float x) { return sin_approx(x, false); }, [](long double x) { return std::sin(x); }, -3.1416, 3.1416,
      0, 0x1.6p-21);
  check_approx(
      "cos", [](float x) { return cos_approx(x, false); }, [](long double x) { return std::cos(x); }, -3.1416, 3.1416,
      0, 0x1.6p-21);
  check_approx(
      "sin of large", [](float x) { return sin_approx(x, false); }, [](long double x) { return std::sin(x); }, -1e4,
      1e4, 0, 1e-6);
  check_approx(
      "tanh", [](float x) { return tanh_approx(x); }, [](long double x) { return std::tanh(x); }, -9, 9, 0x1p-11, 0);
  check_approx(
      "tanh of small", [](float x) { return tanh_approx(x); }, [](long double x) { return std::tanh(x); }, -1e-3, 1e-3,
      0x1p-11, 0);
  check_approx(
      "rcp", [](float x) { return rcp_approx(x, false); }, [](long double x) { return 1 / x; }, 1e-3, 1e3, ulp, 0);
  check_approx(
      "rsqrt", [](float x) { return rsqrt_approx(x, false); }, [](long double x) { return 1 / std::sqrt(x); }, 1e-3,
      1e3, 0x1.12p-23, 0);
  check_approx(
      "sqrt", [](float x) { return sqrt_approx(x, false); }, [](long double x) { return std::sqrt(x); }, 1e-3, 1e3, ulp,
      0);
  check_approx(
      "div", [](float x) { return div_approx(x, 3.7f, false); },
      [](long double x) { return x / static_cast<long double>(3.7f); }, 1e-3, 1e3, 2 * ulp, 0);
  check_approx(
      "div.full", [](float x) { return div_full(1.7f, x, false); },
      [](long double x) { return static_cast<long double>(1.7f) / x; }, 1e-3, 1e3, 2 * ulp, 0);
  check_approx(
      "rcp of f64", [](float x) { return rcp_approx_f64(x); }, [](long double x) { return 1 / x; }, 1e-3, 1e3, 0x1p-19,
      0);
  check_approx(
      "rsqrt of f64", [](float x) { return rsqrt_approx_f64(x); }, [](long double x) { return 1 / std::sqrt(x); }, 1e-3,
      1e3, 0x1p-19, 0);
  // tanh is as coarse as a card's, and a kernel that is tested here must tolerate that.
  double coarsest = 0;
  for (int i = 1; i < 1000; i++)
    coarsest = std::max(coarsest, std::fabs(tanh_approx(i * 1e-3f) / std::tanh(static_cast<double>(i * 1e-3f)) - 1));
  EXPECT(coarsest > 0x1p-13);
}

TEST(approx_of_special_values) {
  EXPECT(same(ex2_approx(-infinity, true), 0.0f) && same(ex2_approx(infinity, true), infinity) &&
         same(ex2_approx(-0.0f, false), 1.0f));
  EXPECT(same(ex2_approx(128, false), infinity) && same(ex2_approx(-149, false), 0x1p-149f) &&
         same(ex2_approx(-149, true), 0.0f));
  EXPECT(same(ex2_approx(-1000, false), 0.0f) && same(ex2_approx(3, true), 8.0f) &&
         same(ex2_approx(1e-40f, true), 1.0f));
  EXPECT(same(lg2_approx(0, false), -infinity) && same(lg2_approx(-0.0f, true), -infinity) &&
         same(lg2_approx(infinity, true), infinity));
  EXPECT(same(lg2_approx(1, false), 0.0f) && same(lg2_approx(8, true), 3.0f) && same(lg2_approx(-1, false), nan32));
  EXPECT(same(lg2_approx(0x1p-149f, false), -149.0f) && same(lg2_approx(0x1p-149f, true), -infinity));
  EXPECT(same(rcp_approx(0, false), infinity) && same(rcp_approx(-infinity, true), -0.0f) &&
         same(rcp_approx(1e-40f, true), infinity));
  EXPECT(same(rcp_approx(0x1p127f, true), 0.0f) && same(rcp_approx(0x1p127f, false), 0x1p-127f));
  EXPECT(same(rsqrt_approx(0, false), infinity) && same(rsqrt_approx(-0.0f, true), -infinity) &&
         same(rsqrt_approx(infinity, true), 0.0f));
  EXPECT(same(rsqrt_approx(-1, false), nan32) && same(sqrt_approx(-0.0f, true), -0.0f) &&
         same(sqrt_approx(-1, false), nan32));
  // |b| in (2^126, 2^128): 0, and NaN for an infinite a.
  EXPECT(same(div_approx(1e38f, 0x1.8p126f, false), 0.0f) && same(div_approx(infinity, 0x1p127f, true), nan32));
  EXPECT(same(div_approx(6, 0x1p126f, false), 6 * 0x1p-126f) &&
         same(div_full(1e38f, 0x1p127f, false), 1e38f / 0x1p127f));
  EXPECT(same(sin_approx(-0.0f, true), -0.0f) && same(cos_approx(0, true), 1.0f) &&
         same(sin_approx(infinity, true), nan32));
  EXPECT(same(tanh_approx(infinity), 1.0f) && same(tanh_approx(-infinity), -1.0f) && same(tanh_approx(-0.0f), -0.0f));
  for (const float value : {nan32, -nan32}) {
    EXPECT(same(ex2_approx(value, true), nan32) && same(lg2_approx(value, true), nan32) &&
           same(rcp_approx(value, true), nan32));
    EXPECT(same(tanh_approx(value), nan32) && same(cos_approx(value, true), nan32) &&
           same(div_full(1, value, true), nan32));
  }
}

TEST(approx_of_a_warp_has_the_same_bits) {
  heed::test::Random random(6);
  float a[32], b[32], d[32];
  for (int round = 0; round < 2000; round++) {
    for (int i = 0; i < 32; i++) {
      a[i] = bits_as<float>(static_cast<uint32_t>(random.next() >> 32));
      b[i] = bits_as<float>(static_cast<uint32_t>(random.next() >> 32));
    }
    for (const bool ftz : {false, true}) {
      const auto check = [&](const char* name, float (*one)(float, bool), void (*warp)(const float*, float*, bool)) {
        warp(a, d, ftz);
        for (int i = 0; i < 32; i++)
          if (!same(d[i], one(a[i], ftz)))
            heed::test::report("%s of %a: %a, and %a in a warp", name, a[i], one(a[i], ftz), d[i]);
      };
      check("ex2", ex2_approx, warp_ex2_approx);
      check("lg2", lg2_approx, warp_lg2_approx);
      check("rcp", rcp_approx, warp_rcp_approx);
      check("rsqrt", rsqrt_approx, warp_rsqrt_approx);
      check("sqrt", sqrt_approx, warp_sqrt_approx);
      warp_div_approx(a, b, d, ftz);
      for (int i = 0; i < 32; i++) EXPECT(same(d[i], div_approx(a[i], b[i], ftz)));
    }
  }
}
