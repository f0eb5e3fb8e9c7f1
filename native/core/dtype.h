// Element types. bf16 and f16 are storage types: every backend accumulates in f32.
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed {

enum class DType : uint8_t { f32, bf16, f16, i32, u8 };
constexpr int kDTypeCount = 5;

constexpr size_t size_of(DType dtype) {
  constexpr size_t sizes[kDTypeCount] = {4, 2, 2, 4, 1};
  return sizes[static_cast<int>(dtype)];
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* names[kDTypeCount] = {"f32", "bf16", "f16", "i32", "u8"};
  return names[static_cast<int>(dtype)];
}

}  // namespace heed
