#include "comm/reduce_bf16.h"

#include <cstdint>
#include <cstring>

namespace heed::comm {
namespace {

float widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

uint16_t round(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);  // stays NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

void sum_bf16(void* in, void* inout, int* count, Handle*) {
  const auto* a = static_cast<const uint16_t*>(in);
  auto* b = static_cast<uint16_t*>(inout);
  for (int i = 0; i < *count; i++) b[i] = round(widen(a[i]) + widen(b[i]));
}

void max_bf16(void* in, void* inout, int* count, Handle*) {
  const auto* a = static_cast<const uint16_t*>(in);
  auto* b = static_cast<uint16_t*>(inout);
  for (int i = 0; i < *count; i++)
    if (!(widen(a[i]) <= widen(b[i]))) b[i] = a[i];
}

}  // namespace heed::comm
