// f32 vectors of this build's width, by GCC/Clang vector extensions, and the elementary functions that kernels need.
// Each function has a scalar twin in the C library, with which test/native compares it.
#pragma once
#if defined(__AVX2__)
#include "core/intrinsics.h"
#elif defined(__x86_64__)
#include <emmintrin.h>  // immintrin.h has more, and takes a third of a second to read
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace heed::cpu::HEED_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float vf __attribute__((vector_size(kWidth * 4)));
typedef int32_t vi __attribute__((vector_size(kWidth * 4)));
typedef uint32_t vu __attribute__((vector_size(kWidth * 4)));

inline vf set1(float x) { return x - vf{}; }
inline vi set1i(int32_t x) { return x - vi{}; }

inline vf load(const float* p) {
  vf v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof v); }

// Loads or stores the first n < kWidth lanes; the others read as zero and are not written.
inline vf load_n(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
  vf v{};
  __builtin_memcpy(&v, p, static_cast<size_t>(n) * 4);
  return v;
#endif
}
inline void store_n(float* p, vf v, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
  __builtin_memcpy(p, &v, static_cast<size_t>(n) * 4);
#endif
}

inline vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

inline vf select(vi mask, vf a, vf b) { return mask ? a : b; }
// These return the second argument if either is NaN.
inline vf vmin(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
inline vf vmax(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
inline vf vabs(vf a) { return (vf)((vi)a & set1i(0x7fffffff)); }
inline vf vsqrt(vf a) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)a);
#elif defined(__aarch64__)
  return (vf)vsqrtq_f32((float32x4_t)a);
#else
  for (int i = 0; i < kWidth; i++) a[i] = std::sqrt(a[i]);
  return a;
#endif
}
inline vf round_even(vf a) {  // for |a| < 2^22
#if defined(__AVX512F__)
  return (vf)_mm512_roundscale_ps((__m512)a, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__AVX2__)
  return (vf)_mm256_round_ps((__m256)a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__aarch64__)
  return (vf)vrndnq_f32((float32x4_t)a);
#else
  const vf magic = set1(12582912.0f);
  return (a + magic) - magic;
#endif
}

inline float hsum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__aarch64__)
  return vaddvq_f32((float32x4_t)v);
#else
  float s = 0;
  for (int i = 0; i < kWidth; i++) s += v[i];
  return s;
#endif
}
inline float hmax(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float m = v[0];
  for (int i = 1; i < kWidth; i++) m = v[i] > m ? v[i] : m;
  return m;
#endif
}

// Returns e^r - 1 for x = n ln 2 + r with |r| <= ln 2 / 2, by a polynomial in r.
inline vf exp_rest(vf x, vf n) {
  vf r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  vf p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  return fma(p, r * r, r);
}

// e^x to 1.011 ulp; subnormal below -87.33, 0 below -103.97, inf above 88.72: the exponent bits multiply by 2^n (in two
// halves, so that results near the ends neither overflow nor flush early).
inline vf vexp(vf x) {
  const vf clamped = vmin(set1(89.0f), vmax(set1(-104.0f), x));  // a NaN stays NaN
  const vf n = round_even(clamped * set1(1.44269504088896341f));
  const vf p = exp_rest(clamped, n) + set1(1.0f);
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const vi e = __builtin_convertvector(n, vi);
  const vi half = e >> 1;
  const vf s1 = (vf)((half + set1i(127)) << 23), s2 = (vf)((e - half + set1i(127)) << 23);
  return p * s1 * s2;
#endif
}

// tanh |x| for |x| < 0.625, where the quotient of exponentials would cancel: an odd polynomial.
inline vf tanh_small(vf a) {
  const vf z = a * a;
  vf p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  return fma(p * z, a, a);
}
// Returns tanh x from tanh |x| by the quotient of exponentials.
inline vf tanh_of(vf x, vf big) {
  const vf a = vabs(x);
  const vf y = select(a < set1(0.625f), tanh_small(a), big);
  const vf sign = (vf)((vi)x & set1i(static_cast<int32_t>(0x80000000u)));
  return select(x == x, (vf)((vi)y | (vi)sign), x);
}

// tanh x = (e^{2x} - 1)/(e^{2x} + 1), or an odd polynomial where that would cancel; to 1.331 ulp.
inline vf vtanh(vf x) {
  const vf a = vmin(vabs(x), set1(10.0f));
  return tanh_of(x, set1(1.0f) - set1(2.0f) / (vexp(a + a) + set1(1.0f)));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
