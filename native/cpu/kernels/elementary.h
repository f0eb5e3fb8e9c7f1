// Elementary functions of f32 vectors: ln, sin and cos to less than 2 ulp, expm1 and log1p to less than 3, and
// roundings to integers. Like simd.h's functions, they have twins in the C library with which test/native compares
// them.
#pragma once
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

template <class F>
inline vf each_lane(vf x, F f) {
  float lanes[kWidth];
  store(lanes, x);
  for (float& lane : lanes) lane = f(lane);
  return load(lanes);
}

// x = 2^n m with m in [√½, √2), f = m - 1 and s = f / (2 + f): ln m = 2 artanh(s) = f - s (f - R), where R is the rest
// of the series 2 s²/3 + 2 s⁴/5 + …. With h = f²/2, s (f - R) is h - s (h + R), which rounds less.
inline vf vlog(vf x) {
  constexpr uint32_t kRootHalf = 0x3f3504f3;
  const vi subnormal = x < set1(0x1p-126f);
  const vi offset = (vi)((vu)select(subnormal, x * set1(0x1p23f), x) - kRootHalf);  // wraps if x < 0
  const vf n = __builtin_convertvector((offset >> 23) - select(subnormal, set1i(23), vi{}), vf);
  const vf f = (vf)(((vu)offset & 0x7fffff) + kRootHalf) - set1(1.0f);
  const vf s = f / (f + set1(2.0f)), z = s * s, h = set1(0.5f) * f * f;
  vf r = set1(2.0f / 11);
  r = fma(r, z, set1(2.0f / 9));
  r = fma(r, z, set1(2.0f / 7));
  r = fma(r, z, set1(2.0f / 5));
  r = fma(r, z, set1(2.0f / 3)) * z;
  // ln 2 in two parts, the first of which has so few bits that n times it is exact.
  const vf low = fma(s, h + r, n * set1(-2.12194440e-4f));
  const vf y = n * set1(0.693359375f) - ((h - low) - f);
  const vf special = select(x == vf{}, set1(-INFINITY), select(x < vf{}, set1(NAN), x));
  return select((x > vf{}) & (x < set1(INFINITY)), y, special);
}

#if defined(__AVX2__) || defined(__aarch64__)
// x = n π/2 + r with three parts of π/2: the first difference is exact, and the others are fused.
inline vf quadrant(vf x, vi& q) {
  const vf n = round_even(x * set1(0.63661977236758134f));
  q = __builtin_convertvector(n, vi);
  vf r = fma(n, set1(-0x1.921fb6p0f), x);
  r = fma(n, set1(0x1.777a5cp-25f), r);
  return fma(n, set1(0x1.ee59dap-50f), r);
}

// sin of x + `quarters` · π/2 by Taylor's series of r, where |r| is at most a little over π/4.
inline vf sine_of(vf x, int32_t quarters) {
  vi q;
  const vf r = quadrant(x, q), z = r * r;
  q += quarters;
  vf s = set1(1.0f / 362880);
  s = fma(s, z, set1(-1.0f / 5040));
  s = fma(s, z, set1(1.0f / 120));
  s = fma(s, z, set1(-1.0f / 6));
  s = fma(s * z, r, r);
  vf c = set1(-1.0f / 3628800);
  c = fma(c, z, set1(1.0f / 40320));
  c = fma(c, z, set1(-1.0f / 720));
  c = fma(c, z, set1(1.0f / 24));
  c = fma(c, z, set1(-0.5f));
  c = fma(c, z, set1(1.0f));
  const vf y = select((q & 1) != 0, c, s);
  return (vf)((vi)y ^ (q & 2) << 30);
}

// Returns true if n has few enough bits.
inline bool all_moderate(vf x) { return hmax(select(vabs(x) <= set1(0x1p14f), vf{}, set1(1.0f))) == 0; }

inline vf vsin(vf x) { return all_moderate(x) ? select(x == vf{}, x, sine_of(x, 0)) : each_lane(x, sinf); }
inline vf vcos(vf x) { return all_moderate(x) ? sine_of(x, 1) : each_lane(x, cosf); }
#else
// Without fused products the reduction would need more parts than it saves.
inline vf vsin(vf x) { return each_lane(x, sinf); }
inline vf vcos(vf x) { return each_lane(x, cosf); }
#endif

// e^x, and 0 if that is below the smallest normal number: subnormal ones take processors hundreds of cycles.
inline vf vexp_normal(vf x) {
  const vf lowest = set1(-87.33654f);
  return select(x < lowest, vf{}, vexp(vmax(lowest, x)));  // a NaN stays NaN
}

// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), in halves, so that 2^128 does not overflow early.
inline vf vexpm1(vf x) {
  const vf clamped = vmin(set1(89.0f), vmax(set1(-20.0f), x));  // a NaN stays NaN
  const vf n = round_even(clamped * set1(1.44269504088896341f));
  const vf rest = exp_rest(clamped, n);
  const vf half = (vf)((__builtin_convertvector(n, vi) + set1i(126)) << 23);
  const vf y = fma(half, rest, half - set1(0.5f));
  return select(n == vf{}, rest, y + y);
}

// With u = 1 + x rounded, ln(1 + x) is ln u · x / (u - 1): the quotient repairs what the sum has lost (Goldberg 1991,
// "What every computer scientist should know about floating-point arithmetic", theorem 4).
inline vf vlog1p(vf x) {
  const vf one = set1(1.0f), u = one + x;
  const vf y = vlog(u) * (x / (u - one));
  return select((u == one) | (u == set1(INFINITY)), x, y);
}

// To the nearest integer, ties to even; numbers of 2^23 and more are integers.
inline vf vround(vf x) {
  const vf magnitude = vabs(x), integers = set1(0x1p23f);
  const vi sign = (vi)x & set1i(static_cast<int32_t>(0x80000000u));
  const vf rounded = (vf)((vi)((magnitude + integers) - integers) | sign);
  return select(magnitude < integers, rounded, x);
}
inline vf vfloor(vf x) {
  const vf rounded = vround(x);
  return select(rounded > x, rounded - set1(1.0f), rounded);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
