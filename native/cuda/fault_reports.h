// The fault reports (fault.h) of the operations of a stream or of a graph. Each operation has a report of its own, so
// that a failure is reported to the readers that it concerns.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "cuda/fault.h"

namespace heed::cuda {

class Stream;

// Returns the error that a report describes, with the same message as on the CPU.
Error error_of(const FaultReport& report);

class FaultReports {
 public:
  // The reports use memory of the stream, which is reused: freeing memory would wait for the device.
  static constexpr size_t kReports = 1024;

  explicit FaultReports(Stream& stream);  // enqueues clearing the reports
  ~FaultReports();
  FaultReports(const FaultReports&) = delete;
  FaultReports& operator=(const FaultReports&) = delete;

  // Returns the report of an operation that is being enqueued. If none is left, it returns null or, if `shared`, the
  // last report, which then also belongs to the operations that follow.
  FaultReport* of(int64_t operation, bool shared);
  // Returns the operations that have got a report, in the order of the reports in memory.
  const std::vector<int64_t>& operations() const { return operations_; }
  FaultReport* memory() const { return memory_; }
  void clear(const char* op) const;  // enqueues it
  void forget() { operations_.clear(); }

 private:
  Stream& stream_;
  FaultReport* memory_;  // device memory
  std::vector<int64_t> operations_;
};

}  // namespace heed::cuda
