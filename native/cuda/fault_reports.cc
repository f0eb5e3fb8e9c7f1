#include "cuda/fault_reports.h"

#include <cstdint>
#include <cstdio>

#include "cuda/stream.h"

namespace heed::cuda {

FaultReports::FaultReports(Stream& stream) : stream_(stream), memory_(stream.take_reports()) {
  try {
    stream_.zero("device", memory_, kReports * sizeof(FaultReport));
  } catch (...) {
    stream_.give_reports(memory_);
    throw;
  }
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

Error error_of(const FaultReport& report) {
  const char* op = reinterpret_cast<const char*>(static_cast<uintptr_t>(report.op));
  constexpr int kPositionBits = 64 - Finding::kValueBits;
  const uint64_t found = ~report.found, length = static_cast<uint64_t>(report.length);
  const uint64_t at = found >> Finding::kValueBits;
  const auto value = static_cast<long long>(static_cast<int64_t>(found << kPositionBits) >> kPositionBits);
  const auto limit = static_cast<long long>(report.limit);
  const auto position = static_cast<long long>(length ? at % length : at);
  const auto row = static_cast<long long>(length ? at / length : 0);
  char message[256] = "";
  const auto write = [&](const char* format, auto... values) {
    std::snprintf(message, sizeof message, format, op, values...);
  };
  switch (report.kind) {
    case FaultKind::none:
      break;
    case FaultKind::id:
      write("%s: expected ids in [0, %lld), got %lld at position %lld", limit, value, position);
      break;
    case FaultKind::target:
      write("%s: expected targets in [0, %lld), got %lld at position %lld", limit, value, position);
      break;
    case FaultKind::start:
      write("%s: expected starts from 0 to %lld, got %lld", limit, value);
      break;
    case FaultKind::history:
      write("%s: expected ids of earlier tokens below %lld, got %lld at position %lld of row %lld", limit, value,
            position, row);
      break;
    case FaultKind::key_length:
      write("%s: expected key_lengths from 0 to %lld, got %lld", limit, value);
      break;
    case FaultKind::page:
      write("%s: expected pages from 0 to %lld, got %lld at place %lld of sequence %lld", limit, value, position, row);
      break;
    case FaultKind::position:
      write("%s: expected positions in [0, %lld), got %lld at token %lld of sequence %lld", limit, value, position,
            row);
      break;
  }
  return Error(Code::range, message);
}

}  // namespace heed::cuda
