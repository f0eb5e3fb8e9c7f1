// Runs a kernel. Blocks are spread over the threads of a pool, and the warps of a block are interleaved, both in an
// order that is drawn from a seed. An error of the kernel ends the launch with a Fault.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "simulator/counters.h"
#include "simulator/memory.h"
#include "simulator/ptx.h"

namespace heed::simulator {

struct Launch {
  Kernel* kernel = nullptr;
  uint32_t grid[3] = {1, 1, 1};
  uint32_t block[3] = {1, 1, 1};
  uint32_t dynamic_shared_bytes = 0;
  const void* const* params = nullptr;  // one pointer per parameter, as in cuLaunchKernel
};

struct Options {
  uint64_t seed = 1;                   // HEED_SIMULATOR_SEED
  int threads = 0;                     // HEED_SIMULATOR_THREADS; 0 for as many as the machine has cores
  bool sanitize = true;                // HEED_SIMULATOR_SANITIZE
  bool count = false;                  // HEED_SIMULATOR_COUNT: fill the counters
  uint64_t limit = 20'000'000'000;     // HEED_SIMULATOR_LIMIT: warp instructions of one launch
  uint32_t shared_limit = 163 * 1024;  // bytes that a block can have, according to the device's compute capability

  static Options from_environment();
};

// cuda_error is a CUresult: CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_FAILED, …
struct Fault {
  int cuda_error;
  std::string message;  // kernel, block, thread, PTX line, source file and line, and the error
};

std::optional<Fault> run(const Launch& launch, Memory& memory, const Options& options, Counters& counters);

}  // namespace heed::simulator
