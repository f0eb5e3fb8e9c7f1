// Conversions between dtypes, with the same results as cpu/kernels/convert.h: f32 to bf16 and f16 rounds to nearest,
// ties to even, overflows to infinity and keeps NaN. Floats to an integer truncate toward zero, clamp to the type's
// range and turn NaN into 0. i32 to bf16 and f16 rounds once.
#pragma once
#include <cstring>
#include <type_traits>

#include "cuda/kernels/kernel.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

__device__ __forceinline__ float to_float(int32_t x) { return __int2float_rn(x); }
__device__ __forceinline__ float to_float(uint8_t x) { return static_cast<float>(x); }

template <>
__device__ __forceinline__ int32_t from_float<int32_t>(float x) {
  return __float2int_rz(x);  // clamps, and turns NaN into 0
}
template <>
__device__ __forceinline__ uint8_t from_float<uint8_t>(float x) {
  return static_cast<uint8_t>(__float2int_rz(fminf(fmaxf(x, 0.0f), 255.0f)));
}

// Rounds to odd in f32: if f32 has no room for some bits, its last bit is set. Then only the rounding to a shorter type
// counts.
__device__ __forceinline__ float round_to_odd(int32_t x) {
  const float toward_zero = __int2float_rz(x);
  const int sticky = __float2int_rz(toward_zero) == x ? 0 : 1;
  return __int_as_float(__float_as_int(toward_zero) | sticky);
}

template <class To, class From>
__device__ __forceinline__ To convert(From x) {
  if constexpr (std::is_same_v<To, From>)
    return x;
  else if constexpr (std::is_same_v<From, int32_t> && std::is_same_v<To, uint8_t>)
    return static_cast<uint8_t>(min(max(x, 0), 255));
  else if constexpr (std::is_same_v<From, int32_t> && sizeof(To) == 2)
    return from_float<To>(round_to_odd(x));
  else
    return from_float<To>(to_float(x));
}

#else

inline uint16_t f16_bits(float value) {
  uint32_t x;
  std::memcpy(&x, &value, sizeof x);
  const uint32_t sign = x >> 16 & 0x8000, magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 2^16 and above
  if (magnitude < 0x38800000) {  // subnormal: adding 0.5 leaves it, rounded, in the last bits of the sum
    float absolute;
    std::memcpy(&absolute, &magnitude, sizeof absolute);
    absolute += 0.5f;
    uint32_t bits;
    std::memcpy(&bits, &absolute, sizeof bits);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23)) >> 13);
}

inline uint16_t bf16_bits(float value) {
  uint32_t x;
  std::memcpy(&x, &value, sizeof x);
  return static_cast<uint16_t>(value == value ? (x + 0x7fff + (x >> 16 & 1)) >> 16 : x >> 16 | 0x40);
}

// Returns the bits that store `value` in this dtype.
inline uint32_t bits_of(float value, DType dtype) {
  uint32_t bits = 0;
  int32_t whole = 0;
  switch (dtype) {
    case DType::f32:
      std::memcpy(&bits, &value, sizeof bits);
      return bits;
    case DType::bf16:
      return bf16_bits(value);
    case DType::f16:
      return f16_bits(value);
    case DType::i32:
      if (value == value)
        whole = value >= 0x1p31f ? INT32_MAX : value <= -0x1p31f ? INT32_MIN : static_cast<int32_t>(value);
      std::memcpy(&bits, &whole, sizeof bits);
      return bits;
    case DType::u8:
      return value > 0 ? static_cast<uint32_t>(value < 255 ? value : 255.0f) : 0;  // NaN also gives 0
  }
  return bits;
}

#endif

}  // namespace heed::cuda
