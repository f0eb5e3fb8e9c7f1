// Settings of the software NCCL, which are read from the environment when a communicator is made.
#pragma once
#include <cstdint>
#include <string>

#include "comm/nccl.h"

namespace heed::nccl_simulator {

struct Settings {
  int version = 22005;  // HEED_NCCL_SIMULATOR_VERSION: in the form of ncclGetVersion
  uint64_t delay = 0;   // HEED_NCCL_SIMULATOR_DELAY: microseconds that an operation takes at least
  std::string log;      // HEED_NCCL_SIMULATOR_LOG: file for the beginnings and ends of operations, where %p stands for
                        // the process id

  // HEED_NCCL_SIMULATOR_FAULT, such as "remote 1 3 later": what goes wrong, the rank, and the number of the operation,
  // where 0 is making the communicator. With "later", the call succeeds and its operation fails while it runs.
  enum class Fault { none, error, absent } fault = Fault::none;  // absent: the rank never takes part
  comm::NcclResult error = comm::success;
  int rank = -1;
  uint64_t operation = 0;
  bool later = false;
};

Settings read_settings();

}  // namespace heed::nccl_simulator
