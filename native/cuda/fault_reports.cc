#include "cuda/fault_reports.h"

#include "cuda/stream.h"

namespace heed::cuda {

FaultReports::FaultReports(Stream& stream) : stream_(stream), memory_(stream.take_reports()) {
  stream_.zero("device", memory_, kReports * sizeof(FaultReport));
}

FaultReports::~FaultReports() { stream_.give_reports(memory_); }

FaultReport* FaultReports::of(int64_t operation, bool shared) {
  if (operations_.empty() || operations_.back() != operation) {
    if (operations_.size() < kReports)
      operations_.push_back(operation);
    else if (!shared)
      return nullptr;
  }
  return memory_ + operations_.size() - 1;
}

void FaultReports::clear(const char* op) const { stream_.zero(op, memory_, operations_.size() * sizeof(FaultReport)); }

}  // namespace heed::cuda
