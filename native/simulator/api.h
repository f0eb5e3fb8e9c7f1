// The driver API that the library exports: the functions of native/cuda/driver.def, with exactly those signatures, and
// further functions for tests. Types are the backend's own declarations, which test/native/driver_abi_test.cc compares
// with cuda.h.
//
// The semantics are the driver's as far as they matter to a caller:
//   - Streams are asynchronous: each has a thread that runs the work in order. Pageable memory is read at the call and
//     is written before the call returns; pinned memory is read and written when the work runs.
//   - Freeing memory waits for the device.
//   - A kernel's error is printed once to stderr and makes every later call on that device fail with the same code.
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

// These functions exist only in this library. heedSimulatorCounters writes the counters as JSON, {"kernel":
// {"launches": 1, …}, …}: at most `size` bytes, the last of which is a zero. It returns the number of bytes of the
// whole text without the zero.
HEED_EXPORT size_t heedSimulatorCounters(char* buffer, size_t size);
HEED_EXPORT void heedSimulatorResetCounters();
// Sets HEED_SIMULATOR_DELAY from now on: work starts no earlier than this number of microseconds after it was enqueued.
HEED_EXPORT void heedSimulatorSetDelay(uint64_t microseconds);
// Returns the device memory of a device that is in use now, and the number of its allocations.
HEED_EXPORT size_t heedSimulatorMemoryUsed(int device, size_t* allocations);
}

}  // namespace heed::simulator
