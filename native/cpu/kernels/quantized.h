// Quantised weights as the kernels of the CPU read them; core/quantized.h describes the layout.
#pragma once
#include "core/quantized.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Loads the numbers from `from` on as f32. Only n < kWidth of them may be read; the other lanes are 0.
template <class T>
inline vf load_some(const T* from, int64_t n) {
  if (n >= kWidth) return load_f32(from);
  T some[kWidth] = {};
  __builtin_memcpy(some, from, static_cast<size_t>(n) * sizeof(T));
  return load_f32(some);
}
template <class T>
inline void store_some(T* to, vf v, int64_t n) {
  if (n >= kWidth) return store_f32(to, v);
  T some[kWidth];
  store_f32(some, v);
  __builtin_memcpy(to, some, static_cast<size_t>(n) * sizeof(T));
}

inline float float_of(float x) { return x; }
inline float float_of(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
inline float float_of(f16 x) {
  f16 some[kWidth] = {x};
  return load_f32(some)[0];
}

// Calls f(T{}) with the storage type of a floating dtype.
template <class F>
inline void with_float(DType dtype, const F& f) {
  if (dtype == DType::bf16) return f(bf16{});
  if (dtype == DType::f16) return f(f16{});
  f(float{});
}

// kWidth columns of one panel: each lane holds a column's word, and the scales are the lanes' floats.
template <int bits>
struct Codes {
  static constexpr int kPerWord = 32 / bits;
  static constexpr int32_t kZeros = bits == 8 ? static_cast<int32_t>(0x80808080u) : static_cast<int32_t>(0x88888888u);

  // Loads codes in two's complement, which shifts widen with their sign.
  static vi load(const uint8_t* words) { return load_as<vi>(words) ^ set1i(kZeros); }

  // Returns weight k of each word, without its scale.
  static inline __attribute__((always_inline)) vf weights(vi word, int k) {
    const int low = bits == 8 ? 8 * k : 8 * (k % 4) + 4 * (k / 4);
    return __builtin_convertvector(word << (32 - bits - low) >> (32 - bits), vf);
  }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
