// Element types, as kinds.def lists them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace heed {

enum class DType : uint8_t {
#define DTYPE(name, bytes) name,
#include "core/kinds.def"
};

#define DTYPE(name, bytes) +1
constexpr int kDTypeCount =
#include "core/kinds.def"
    ;

constexpr size_t size_of(DType dtype) {
  constexpr size_t sizes[kDTypeCount] = {
#define DTYPE(name, bytes) bytes,
#include "core/kinds.def"
  };
  return sizes[static_cast<int>(dtype)];
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* names[kDTypeCount] = {
#define DTYPE(name, bytes) #name,
#include "core/kinds.def"
  };
  return names[static_cast<int>(dtype)];
}

}  // namespace heed
