// The functions of the software CUDA device that the software NCCL calls. Like NCCL, it finds the driver that the
// process has loaded.
#pragma once
#include "cuda/driver.h"

namespace heed::nccl_simulator {

struct Driver {
  cuda::CUresult (*context_get_current)(cuda::CUcontext* context) = nullptr;
  cuda::CUresult (*context_set_current)(cuda::CUcontext context) = nullptr;
  cuda::CUresult (*mem_host_alloc)(void** pointer, size_t bytes, unsigned flags) = nullptr;
  cuda::CUresult (*mem_free_host)(void* pointer) = nullptr;
  cuda::CUresult (*memcpy_htod_async)(cuda::CUdeviceptr to, const void* from, size_t bytes, cuda::CUstream) = nullptr;
  cuda::CUresult (*memcpy_dtoh_async)(void* to, cuda::CUdeviceptr from, size_t bytes, cuda::CUstream) = nullptr;
  cuda::CUresult (*launch_host_func)(cuda::CUstream stream, cuda::CUhostFn function, void* data) = nullptr;
  size_t (*counters)(char* buffer, size_t size) = nullptr;
};

// Returns null if the process has not loaded the software device.
const Driver* driver();

// Returns how many kernels have run, if the device counts them (HEED_SIMULATOR_COUNT).
unsigned long long kernels_run();

}  // namespace heed::nccl_simulator
