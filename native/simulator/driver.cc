// The driver's functions about itself and its devices: version, errors by name, attributes, and entry points by name.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

#include "simulator/capability.h"
#include "simulator/device.h"
#include "simulator/variables.h"

namespace heed::simulator {
namespace {

struct ErrorText {
  CUresult code;
  const char *name, *text;
};
#define ERROR(code, text) {code, #code, text}
constexpr ErrorText errors[] = {
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."),
    ERROR(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported on this OS"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"),
    ERROR(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"),
    ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
          "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
          "attempt to terminate a thread-local capture sequence from another thread"),
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {710, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
    {714, "CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error"},
    {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {717, "CUDA_ERROR_INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space"},
    {718, "CUDA_ERROR_INVALID_PC", "invalid program counter"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
#undef ERROR

const ErrorText* find_error(CUresult code) {
  for (const ErrorText& error : errors)
    if (error.code == code) return &error;
  return nullptr;
}

// An A100's figures for the attributes on which a program can act. attribute_of() returns those that depend on the
// compute capability.
const std::map<CUdevice_attribute, int>& attributes() {
  static auto& attributes = *new std::map<CUdevice_attribute, int>{
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {2, 1024},  // largest block, x
      {3, 1024},  // y
      {4, 64},    // z
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
      {6, 65535},  // y
      {7, 65535},  // z
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024},
      {9, 64 * 1024},  // constant memory
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {12, 65536},  // registers of a block
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1410000},
      {15, 1},         // copies can run beside kernels
      {17, 0},         // no limit on a kernel's time
      {18, 0},         // not integrated
      {19, 0},         // pinned memory is not mapped
      {31, 1},         // concurrent kernels
      {35, 0},         // TCC
      {36, 1215000},   // memory clock
      {37, 5120},      // memory bus
      {38, 40 << 20},  // L2 cache
      {41, 1},         // unified addressing
      {82, 65536},     // registers of a multiprocessor
      {83, 0},         // managed memory
      {95, 0},         // cooperative launches
  };
  return attributes;
}

bool attribute_of(CUdevice_attribute attribute, CUdevice ordinal, int* value) {
  const Capability& card = capability(settings().capability);
  switch (static_cast<int>(attribute)) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = settings().capability / 10;
      return true;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = settings().capability % 10;
      return true;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = settings().multiprocessors;
      return true;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = static_cast<int>(card.block_shared_memory);
      return true;
    case 39:  // threads of a multiprocessor
      *value = card.threads;
      return true;
    case 81:  // shared memory of a multiprocessor
      *value = static_cast<int>(card.shared_memory);
      return true;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
      *value = settings().pools;
      return true;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      *value = 1;
      return true;
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
      *value = ordinal;
      return true;
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:  // by default, each process has devices of its own
      *value = static_cast<int>(variable("HEED_SIMULATOR_DOMAIN", static_cast<uint64_t>(getpid())));
      return true;
    case 106:  // blocks of a multiprocessor
      *value = card.blocks;
      return true;
    case 111:  // shared memory reserved in each block
      *value = static_cast<int>(card.shared_memory - card.block_shared_memory);
      return true;
    default:
      break;
  }
  const auto found = attributes().find(attribute);
  if (found == attributes().end()) return false;
  *value = found->second;
  return true;
}

Device* find_device(CUdevice ordinal) {
  const bool exists = ordinal >= 0 && ordinal < static_cast<int>(devices().size());
  return exists ? devices()[static_cast<size_t>(ordinal)].get() : nullptr;
}

}  // namespace

extern "C" {

CUresult cuDriverGetVersion(int* version) {
  return guard([&]() -> CUresult {
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    // It may be called before cuInit, which alone reads the settings.
    const auto otherwise = static_cast<uint64_t>(settings().driver_version);
    *version = static_cast<int>(variable("HEED_SIMULATOR_DRIVER_VERSION", otherwise));
    return CUDA_SUCCESS;
  });
}

CUresult cuGetErrorName(CUresult code, const char** name) {
  if (!name) return CUDA_ERROR_INVALID_VALUE;
  const ErrorText* error = find_error(code);
  *name = error ? error->name : nullptr;
  return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char** text) {
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  const ErrorText* error = find_error(code);
  *text = error ? error->text : nullptr;
  return error ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int* count) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!count) return CUDA_ERROR_INVALID_VALUE;
  *count = static_cast<int>(devices().size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!device) return CUDA_ERROR_INVALID_VALUE;
  if (!find_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!name || length <= 0) return CUDA_ERROR_INVALID_VALUE;
  if (!find_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  std::snprintf(name, static_cast<size_t>(length), "heed software device");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (!find_device(device)) return CUDA_ERROR_INVALID_DEVICE;
    return attribute_of(attribute, device, value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  if (!find_device(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = find_device(device)->memory.capacity();
  return CUDA_SUCCESS;
}

// The name may have its version suffix or not; the real function also accepts it without one.
CUresult cuGetProcAddress(const char* symbol, void** function, int, uint64_t) {
  return guard([&]() -> CUresult {
    if (!symbol || !function) return CUDA_ERROR_INVALID_VALUE;
    const std::pair<const char*, void*> entries[] = {
#define DRIVER(name, symbol, params) {#symbol, reinterpret_cast<void*>(&symbol)},
#include "cuda/driver.def"
#undef DRIVER
    };
    const std::string wanted = symbol;
    *function = nullptr;
    for (const auto& [name, address] : entries)
      if (name == wanted || name == wanted + "_v2") *function = address;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  });
}

}  // extern "C"

}  // namespace heed::simulator
