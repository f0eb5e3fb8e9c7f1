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

// A table in the function would be built again by every call.
constexpr size_t size_of(DType dtype) {
  switch (dtype) {
#define DTYPE(name, bytes) \
  case DType::name:        \
    return bytes;
#include "core/kinds.def"
  }
  return 0;
}

constexpr const char* name_of(DType dtype) {
  constexpr const char* names[kDTypeCount] = {
#define DTYPE(name, bytes) #name,
#include "core/kinds.def"
  };
  return names[static_cast<int>(dtype)];
}

}  // namespace heed
