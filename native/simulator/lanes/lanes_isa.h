// Helpers of the files that are compiled once for each instruction set. Everything here is in the namespace of that
// set, so that the linker does not merge anything across sets.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef __AVX2__
#include "core/intrinsics.h"
#endif

#include "simulator/lanes.h"
#include "simulator/state.h"

#define HEED_INLINE __attribute__((always_inline)) inline

namespace heed::simulator::HEED_ISA {

// The type in which a register holds a value: 8 and 16 bits are in the low bits of 32.
template <class T>
using Stored = std::conditional_t<(sizeof(T) < 4), uint32_t, T>;

template <class T>
HEED_INLINE const Stored<T>* source(const Warp& warp, Slot slot) {
  return reinterpret_cast<const Stored<T>*>(warp.base[slot >> 31] + (slot & ~constant_bit));
}

template <class T>
HEED_INLINE Stored<T> store(T value) {
  if constexpr (sizeof(T) < 4) {
    return static_cast<std::make_unsigned_t<T>>(value);
  } else {
    return value;
  }
}

// Sets d[i] = f(i) for the lanes that execute.
template <class T, class F>
HEED_INLINE void write(const Warp& warp, Slot slot, F f) {
  Stored<T>* d = reinterpret_cast<Stored<T>*>(warp.base[0] + slot);
  const uint32_t mask = warp.mask;
  if (mask == full_mask) {
#pragma GCC ivdep
    for (int i = 0; i < warp_size; i++) d[i] = store<T>(f(i));
    return;
  }
  alignas(64) Stored<T> result[warp_size];
  for (int i = 0; i < warp_size; i++) result[i] = store<T>(f(i));
#pragma GCC ivdep
  for (int i = 0; i < warp_size; i++) d[i] = mask >> i & 1 ? result[i] : d[i];
}

// Returns the lanes for which f(i) holds, as a mask.
template <class F>
HEED_INLINE uint32_t where(F f) {
  alignas(64) uint8_t hit[warp_size];
  for (int i = 0; i < warp_size; i++) hit[i] = f(i) ? 0xff : 0;
#ifdef __AVX2__
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(hit))));
#else
  uint32_t mask = 0;
  for (int i = 0; i < warp_size; i++) mask |= static_cast<uint32_t>(hit[i] & 1) << i;
  return mask;
#endif
}

template <class To, class From>
HEED_INLINE To bits_of(From value) {
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

HEED_INLINE float flushed(float x) {
  const uint32_t bits = bits_of<uint32_t>(x);
  return bits_of<float>(bits & 0x7f800000 ? bits : bits & 0x80000000);
}

Handler find_integer(const Operation& operation);
Handler find_float(const Operation& operation);
Handler find_compare(const Operation& operation);
Handler find_convert(const Operation& operation);

}  // namespace heed::simulator::HEED_ISA
