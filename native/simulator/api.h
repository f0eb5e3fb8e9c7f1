// The driver API that the library exports: native/cuda/driver.def, with those very signatures, and what tests need
// beyond it. Types are the backend's own declarations, which test/native/driver_abi_test.cc holds against cuda.h.
//
// Semantics are the driver's, where they matter to a caller:
//   - Streams are asynchronous: each has a thread that takes the work in order. Pageable memory is read at the call and
//     is written before the call returns; pinned memory is read and written when the work runs.
//   - Freeing memory waits for the device.
//   - What a kernel does wrong is printed once to stderr and fails every later call on that device, with the same code.
#pragma once
#include <cstdint>

#include "cuda/driver.h"
#include "simulator/codes.h"

#define HEED_EXPORT __attribute__((visibility("default")))

namespace heed::simulator {

using namespace cuda;

extern "C" {
#define DRIVER(name, symbol, params) HEED_EXPORT CUresult symbol params;
#include "cuda/driver.def"
#undef DRIVER

HEED_EXPORT CUresult cuGetProcAddress(const char* symbol, void** function, int version, uint64_t flags);
HEED_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device);
HEED_EXPORT CUresult cuCtxCreate_v2(CUcontext* context, unsigned flags, CUdevice device);
HEED_EXPORT CUresult cuCtxDestroy_v2(CUcontext context);
HEED_EXPORT CUresult cuCtxGetCurrent(CUcontext* context);
HEED_EXPORT CUresult cuCtxGetDevice(CUdevice* device);
HEED_EXPORT CUresult cuCtxSynchronize();
HEED_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr destination, const void* source, size_t bytes);
HEED_EXPORT CUresult cuMemcpyDtoH_v2(void* destination, CUdeviceptr source, size_t bytes);
HEED_EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image);
HEED_EXPORT CUresult cuModuleUnload(CUmodule module);
HEED_EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name);
HEED_EXPORT CUresult cuStreamQuery(CUstream stream);
HEED_EXPORT CUresult cuEventQuery(CUevent event);
HEED_EXPORT CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data);

// Of this library alone. The counters as JSON, {"kernel": {"launches": 1, …}, …}: writes at most `size` bytes, the last
// a zero, and returns how many there would be without it.
HEED_EXPORT size_t heedSimulatorCounters(char* buffer, size_t size);
HEED_EXPORT void heedSimulatorResetCounters();
// HEED_SIMULATOR_DELAY from now on: work starts no earlier than so many microseconds after it was enqueued.
HEED_EXPORT void heedSimulatorSetDelay(uint64_t microseconds);
// Device memory in use now, and allocations, of a device.
HEED_EXPORT size_t heedSimulatorMemoryUsed(int device, size_t* allocations);
}

}  // namespace heed::simulator
