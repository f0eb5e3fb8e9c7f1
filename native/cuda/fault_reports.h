// The reports of faults (fault.h) of a stream's operations, or of those of a graph: each operation has one of its own,
// so that a failure is told to whom it belongs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "cuda/fault.h"

namespace heed::cuda {

class Stream;

// What a report says, in the words of the CPU.
Error error_of(const FaultReport& report);

class FaultReports {
 public:
  // Memory for the reports, which is the stream's and used again: to free memory would wait for the device.
  static constexpr size_t kReports = 1024;

  explicit FaultReports(Stream& stream);  // enqueues clearing them
  ~FaultReports();
  FaultReports(const FaultReports&) = delete;
  FaultReports& operator=(const FaultReports&) = delete;

  // The report of an operation that is being enqueued; null where there is none left, unless `shared`: then the last
  // one is also that of what comes after its operation.
  FaultReport* of(int64_t operation, bool shared);
  // Whose reports have been given out, in their order in memory.
  const std::vector<int64_t>& operations() const { return operations_; }
  FaultReport* memory() const { return memory_; }
  void clear(const char* op) const;  // enqueues it
  void forget() { operations_.clear(); }

 private:
  Stream& stream_;
  FaultReport* memory_;  // of the device
  std::vector<int64_t> operations_;
};

}  // namespace heed::cuda
