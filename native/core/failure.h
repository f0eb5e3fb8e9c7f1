// Failures of operations on a device, as they pass from the device's threads to the JavaScript thread and to readers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/error.h"

namespace heed {

// Failure of the operation at `position` of OperationLog. In a graph, `within` is the position of the failed operation
// in its recording.
struct Failure {
  int64_t position;
  int64_t within;  // -1 outside graphs
  Error error;
};

// The reason why elements are invalid, shared by all storages that one failure damaged. JavaScript thread only.
struct Mishap {
  explicit Mishap(const Error& error) : error(error) {}
  const Error error;
  bool told = false;  // true once a reader has been told
};
using Cause = std::shared_ptr<Mishap>;

// All failures on a device since the last fence.
struct Failures {
  std::vector<Failure> operations;
  std::shared_ptr<const Error> device;  // set if the device is lost, so that nothing in its memory can be trusted
};

}  // namespace heed
