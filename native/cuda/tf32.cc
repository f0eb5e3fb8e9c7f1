#include "cuda/tf32.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace heed::cuda {
namespace {

std::atomic<bool>& allowed() {
  static std::atomic<bool> value = [] {
    const char* text = std::getenv("HEED_TF32");
    return text && std::strcmp(text, "1") == 0;
  }();
  return value;
}

}  // namespace

bool tf32() { return allowed().load(std::memory_order_relaxed); }
void set_tf32(bool value) { allowed().store(value, std::memory_order_relaxed); }

}  // namespace heed::cuda
