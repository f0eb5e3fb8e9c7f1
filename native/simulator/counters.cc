#include "simulator/counters.h"

namespace heed::simulator {

void KernelCounters::add(const KernelCounters& other) {
#define X(name) name += other.name;
  HEED_SIMULATOR_COUNTERS(X)
#undef X
}

void Counters::add(const std::string& kernel, const KernelCounters& counters) {
  std::lock_guard<std::mutex> lock(mutex_);
  kernels_[kernel].add(counters);
}

std::map<std::string, KernelCounters> Counters::get() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return kernels_;
}

void Counters::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  kernels_.clear();
}

std::string Counters::json() const {
  std::string result = "{";
  for (const auto& [kernel, counters] : get()) {
    if (result.size() > 1) result += ", ";
    result += "\"" + kernel + "\": {";
    const char* separator = "";
#define X(name)                                                                         \
  result += separator + std::string("\"" #name "\": ") + std::to_string(counters.name); \
  separator = ", ";
    HEED_SIMULATOR_COUNTERS(X)
#undef X
    result += "}";
  }
  return result + "}";
}

}  // namespace heed::simulator
