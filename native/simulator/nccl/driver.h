// The functions of the software CUDA device that the software NCCL calls. Like NCCL, it finds the driver that the
// process has loaded.
#pragma once
#include "simulator/api.h"

namespace heed::nccl_simulator {

struct Driver {
  decltype(&simulator::cuCtxGetCurrent) context_get_current = nullptr;
  decltype(&simulator::cuCtxSetCurrent) context_set_current = nullptr;
  decltype(&simulator::cuMemHostAlloc) mem_host_alloc = nullptr;
  decltype(&simulator::cuMemFreeHost) mem_free_host = nullptr;
  decltype(&simulator::cuMemcpyHtoDAsync_v2) memcpy_htod_async = nullptr;
  decltype(&simulator::cuMemcpyDtoHAsync_v2) memcpy_dtoh_async = nullptr;
  decltype(&simulator::cuLaunchHostFunc) launch_host_func = nullptr;
  decltype(&simulator::heedSimulatorCounters) counters = nullptr;
};

// Returns null if the process has not loaded the software device.
const Driver* driver();

// Returns how many kernels have run, if the device counts them (HEED_SIMULATOR_COUNT).
unsigned long long kernels_run();

}  // namespace heed::nccl_simulator
