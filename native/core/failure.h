// What fails on a device, as it is handed on from the device's threads to the JavaScript thread and then to readers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/error.h"

namespace heed {

// A failure of the operation at a position of OperationLog; in a graph, of the one at position `within` of its
// recording.
struct Failure {
  int64_t position;
  int64_t within;  // -1 outside of graphs
  Error error;
};

// Why elements mean nothing, shared by all that are damaged by one failure. JavaScript thread only.
struct Mishap {
  explicit Mishap(const Error& error) : error(error) {}
  const Error error;
  bool told = false;  // to a reader
};
using Cause = std::shared_ptr<Mishap>;

// What has failed on a device since the last fence.
struct Failures {
  std::vector<Failure> operations;
  std::shared_ptr<const Error> device;  // the device is lost: nothing that it holds can be trusted
};

}  // namespace heed
