// Loads and stores of f32 vectors in every dtype's storage, kWidth elements at once. Kernels compute on bf16 and f16 in
// f32: elements are widened when they are loaded and rounded once when they are stored.
//
// f32 to bf16 and f16 rounds to nearest, ties to even, overflows to infinity and keeps NaN. f32 to an integer truncates
// toward zero, clamps to the type's range and turns NaN into 0. i32 to bf16 and f16 rounds once.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

typedef uint16_t vu16 __attribute__((vector_size(kWidth * 2)));
typedef uint8_t vu8 __attribute__((vector_size(kWidth)));

template <class V>
inline V load_as(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
inline void store_as(void* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

inline vi select(vi mask, vi a, vi b) { return mask ? a : b; }
// The instructions are named because compilers split __builtin_convertvector into halves, or into single lanes (GCC 14
// for arm64).
inline vi widen(vu16 v) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtepu16_epi32((__m256i)v);
#elif defined(__AVX2__)
  return (vi)_mm256_cvtepu16_epi32((__m128i)v);
#elif defined(__aarch64__)
  return (vi)vmovl_u16((uint16x4_t)v);
#else
  return __builtin_convertvector(v, vi);
#endif
}
// Lanes must be below 2^16.
inline vu16 narrow(vu v) {
#if defined(__AVX512F__)
  return (vu16)_mm512_cvtepi32_epi16((__m512i)v);
#elif defined(__AVX2__)
  return (vu16)_mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
#elif defined(__aarch64__)
  return (vu16)vmovn_u32((uint32x4_t)v);
#else
  return __builtin_convertvector(v, vu16);
#endif
}
inline vi widen(vu8 v) {
#if defined(__aarch64__)
  uint32_t four;
  __builtin_memcpy(&four, &v, sizeof four);
  return (vi)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
#else
  return __builtin_convertvector(v, vi);
#endif
}
// Of lanes below 2^8.
inline vu8 narrow_bytes(vi v) {
#if defined(__aarch64__)
  const uint16x4_t words = vmovn_u32((uint32x4_t)v);
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
  vu8 first;
  __builtin_memcpy(&first, &bytes, sizeof first);
  return first;
#else
  return __builtin_convertvector(v, vu8);
#endif
}

// These decode one vector of each 16-bit type's bits.
inline vf decode(bf16, vu16 bits) { return (vf)(widen(bits) << 16); }
inline vf decode(f16, vu16 bits) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtph_ps((__m256i)bits);
#elif defined(__F16C__)
  return (vf)_mm256_cvtph_ps((__m128i)bits);
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16((float16x4_t)bits);
#else
  const vi h = widen(bits), magnitude = (h & 0x7fff) << 13, exponent = magnitude & (0x1f << 23);
  const vf subnormal = __builtin_convertvector(h & 0x3ff, vf) * set1(0x1p-24f);
  const vi normal = magnitude + select(exponent == (0x1f << 23), set1i(224 << 23), set1i(112 << 23));
  return (vf)(select(exponent == 0, (vi)subnormal, normal) | (h & 0x8000) << 16);
#endif
}
inline vu16 encode(bf16, vf v) {
  const vu x = (vu)v;
#if defined(__AVX512F__)
  // Masks need fewer instructions than compilers find. (vcvtneps2bf16 would flush subnormal numbers to zero.)
  const __m512i bits = (__m512i)x;
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
  __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  rounded = _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1));
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return narrow((vu)rounded >> 16);
#else
  const vu rounded = x + 0x7fff + (x >> 16 & 1), quiet = x | 0x400000;
  return narrow((v == v ? rounded : quiet) >> 16);
#endif
}
inline vu16 encode(f16, vf v) {
#if defined(__AVX512F__)
  return (vu16)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return (vu16)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  return (vu16)vcvt_f16_f32((float32x4_t)v);
#else
  const vu sign = (vu)v >> 16 & 0x8000, magnitude = (vu)v & 0x7fffffff;
  const vu normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
  // Adding 0.5 leaves the f16 subnormal, rounded, in the last bits of the sum.
  const vu subnormal = (vu)((vf)magnitude + set1(0.5f)) - 0x3f000000u;
  const vu infinity = 0x7c00u - vu{}, nan = (magnitude >> 13 & 0x3ff) | 0x7e00;
  const vu special = v == v ? infinity : nan;
  const vu finite = magnitude < (113u << 23) ? subnormal : normal;
  const vu bits = (magnitude >= (143u << 23) ? special : finite) | sign;
  return narrow(bits);
#endif
}

// simd.h's loads and stores, for bf16 and f16 in memory.
template <class T>
inline vf load(const T* p) {
  return decode(T{}, load_as<vu16>(p));
}
template <class T>
inline void store(T* p, vf v) {
  store_as(p, encode(T{}, v));
}
#if defined(__AVX512F__)
// Returns the upper 16 bits of each lane of both.
inline __m512i upper_halves(vu first, vu second) {
  alignas(64) static constexpr uint16_t kUpper[] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                    33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16((__m512i)first, _mm512_load_si512(kUpper), (__m512i)second);
}
#endif
// Stores two vectors, which takes fewer steps for bf16 if neither has a NaN.
template <class T>
inline void store_both(T* p, vf first, vf second) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, bf16>) {
    if (!_mm512_cmp_ps_mask((__m512)first, (__m512)second, _CMP_UNORD_Q)) {
      const auto rounded = [](vf v) {
        const __m512i bits = (__m512i)v, more = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
        const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
        return (vu)_mm512_mask_add_epi32(more, odd, more, _mm512_set1_epi32(1));
      };
      store_as(p, upper_halves(rounded(first), rounded(second)));
      return;
    }
  }
#endif
  store(p, first);
  store(p + kWidth, second);
}
template <class T>
inline vf load_n(const T* p, int64_t n) {
#if defined(__AVX512F__)
  return decode(T{}, (vu16)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
#else
  vu16 bits{};
  __builtin_memcpy(&bits, p, static_cast<size_t>(n) * sizeof(T));
  return decode(T{}, bits);
#endif
}
template <class T>
inline void store_n(T* p, vf v, int64_t n) {
  const vu16 bits = encode(T{}, v);
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)bits);
#else
  __builtin_memcpy(p, &bits, static_cast<size_t>(n) * sizeof(T));
#endif
}

// These load and store one element.
inline float load_one(const float* p) { return *p; }
template <class T>
inline float load_one(const T* p) {
  return load_n(p, 1)[0];
}
inline void store_one(float* p, float x) { *p = x; }
template <class T>
inline void store_one(T* p, float x) {
  store_n(p, set1(x), 1);
}

inline vf load_f32(const int32_t* p) { return __builtin_convertvector(load_as<vi>(p), vf); }
inline vf load_f32(const uint8_t* p) { return __builtin_convertvector(widen(load_as<vu8>(p)), vf); }
template <class T>
inline vf load_f32(const T* p) {
  return load(p);
}

// Loads i32 for conversion to a shorter float: the bits for which f32 has no room become one sticky bit, far below
// where the shorter type rounds, so that only that rounding counts.
inline vf load_sticky(const int32_t* p) {
  const vi x = load_as<vi>(p);
  const vi wide = (x >= set1i(1 << 24)) | (x <= set1i(-(1 << 24)));
  const vi sticky = (x & ~0xff) | select((x & 0xff) != 0, set1i(0x100), set1i(0));
  return __builtin_convertvector(select(wide, sticky, x), vf);
}

template <class T>
inline void store_f32(T* p, vf v) {
  store(p, v);
}
inline void store_f32(int32_t* p, vf v) {
  const vf low = set1(-2147483648.0f), high = set1(2147483648.0f);
  const vi inside = (v > low) & (v < high);
  const vi outside = select(v >= high, set1i(INT32_MAX), select(v <= low, set1i(INT32_MIN), set1i(0)));
  store_as(p, select(inside, __builtin_convertvector(HEED_ISA::select(inside, v, vf{}), vi), outside));
}
inline void store_f32(uint8_t* p, vf v) {
  const vf clamped = vmin(vmax(v, set1(0.0f)), set1(255.0f));  // vmax turns NaN into its second argument
  store_as(p, narrow_bytes(__builtin_convertvector(clamped, vi)));
}
// Converts kWidth elements of one type to another.
template <class To, class From>
inline void convert(To* out, const From* in) {
  store_f32(out, load_f32(in));
}
inline void convert(bf16* out, const int32_t* in) { store_f32(out, load_sticky(in)); }
inline void convert(f16* out, const int32_t* in) { store_f32(out, load_sticky(in)); }
inline void convert(int32_t* out, const uint8_t* in) { store_as(out, widen(load_as<vu8>(in))); }
inline void convert(uint8_t* out, const int32_t* in) {
  const vi x = load_as<vi>(in), positive = select(x < set1i(0), set1i(0), x);
  store_as(out, narrow_bytes(select(positive > set1i(255), set1i(255), positive)));
}

// Calls f(T{}) with the storage type of a float `dtype`.
template <class F>
inline void with_float_type(DType dtype, const F& f) {
  if (dtype == DType::f32) return f(float{});
  if (dtype == DType::bf16) return f(bf16{});
  f(f16{});
}

// Calls f(T{}) with the storage type of any `dtype`.
template <class F>
inline void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    case DType::i32:
      return f(int32_t{});
    case DType::u8:
      return f(uint8_t{});
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
