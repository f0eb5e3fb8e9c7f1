// What a kernel found wrong with the data it was given (an id outside of the vocabulary): the first finding is kept in
// a report in device memory, the host turns it into an error at the next fence. Shared by device and host code.
#pragma once
#include <cstdint>

namespace heed::cuda {

enum class FaultKind : uint32_t { none, id, target, start, history, key_length, position };

struct FaultReport {
  uint32_t claimed;  // 1 once a thread has the report for itself
  FaultKind kind;
  int64_t value, limit, position, row;
  uint64_t op;  // the host's const char*
};

// In the parameters of a kernel that can find something wrong; from Stream::fault().
struct FaultSink {
  FaultReport* report;
  uint64_t op;
};

}  // namespace heed::cuda
