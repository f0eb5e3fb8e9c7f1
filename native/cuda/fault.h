// Faults that the kernels of an operation find in the data they are given, such as an id outside the vocabulary. A
// kernel writes a report to device memory (fault_reports.h), which the host turns into an error at the next fence. The
// report is of the lowest position, in whichever order blocks run. Device and host code share this file.
#pragma once
#include <cstdint>

namespace heed::cuda {

enum class FaultKind : uint32_t { none, id, target, start, history, key_length, position, page };

// Position and value in one word, so that an atomic operation finds the lowest position together with its value.
struct Finding {
  static constexpr int kValueBits = 33;  // enough for any i32 and any position; the other bits say where it was found
  static constexpr uint64_t kValues = (uint64_t{1} << kValueBits) - 1;
  static constexpr int64_t kLast = (int64_t{1} << (64 - kValueBits)) - 1;
};

struct FaultReport {
  uint64_t found;  // ~(position, value) of the lowest position; 0 as long as nothing was found
  FaultKind kind;
  int64_t limit, length;  // if `length` is not 0, positions are counted in rows of `length`
  uint64_t op;            // the host's const char*
};

// A parameter of kernels that can find a fault; Stream::fault() returns it.
struct FaultSink {
  FaultReport* report;
  uint64_t op;
};

}  // namespace heed::cuda
