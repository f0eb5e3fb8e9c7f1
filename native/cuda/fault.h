// What the kernels of an operation found wrong with the data they were given (an id outside of the vocabulary): a
// report in device memory (fault_reports.h), which the host turns into an error at the next fence. It is of the lowest
// position, in whichever order blocks run. Shared by device and host code.
#pragma once
#include <cstdint>

namespace heed::cuda {

enum class FaultKind : uint32_t { none, id, target, start, history, key_length, position };

// In one word, so that the lowest position and its value are found together.
struct Finding {
  static constexpr int kValueBits = 33;  // of any i32 and any position; the rest is for where it was found
  static constexpr uint64_t kValues = (uint64_t{1} << kValueBits) - 1;
  static constexpr int64_t kLast = (int64_t{1} << (64 - kValueBits)) - 1;
};

struct FaultReport {
  uint64_t found;  // ~(position, value) of the lowest position: 0 before there is one
  FaultKind kind;
  int64_t limit, length;  // positions are counted in rows of `length`, where that is not 0
  uint64_t op;            // the host's const char*
};

// In the parameters of a kernel that can find something wrong; from Stream::fault().
struct FaultSink {
  FaultReport* report;
  uint64_t op;
};

}  // namespace heed::cuda
