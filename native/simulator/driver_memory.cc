// The driver's functions on memory: allocation, pinned memory, copies and fills.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "simulator/stream.h"

namespace heed::simulator {
namespace {

// Pinned host memory: the ranges that have been allocated.
class Pinned {
 public:
  // Returns null beyond the limit.
  void* allocate(size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      if (bytes > settings().pinned || used_ > settings().pinned - bytes) return nullptr;
      used_ += bytes;
    }
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return nullptr;
    std::memset(address, 0xcd, bytes);  // a card's memory is not zero either
    const std::lock_guard lock(mutex_);
    ranges_[static_cast<char*>(address)] = bytes;
    return address;
  }
  bool free(void* address) {
    size_t bytes;
    {
      const std::lock_guard lock(mutex_);
      const auto found = ranges_.find(static_cast<char*>(address));
      if (found == ranges_.end()) return false;
      bytes = found->second;
      ranges_.erase(found);
      used_ -= bytes;
    }
    munmap(address, bytes);
    return true;
  }
  bool contains(const void* address, size_t bytes) {
    const char* start = static_cast<const char*>(address);
    const std::lock_guard lock(mutex_);
    auto found = ranges_.upper_bound(const_cast<char*>(start));
    if (found == ranges_.begin()) return false;
    --found;
    return start + bytes <= found->first + found->second;
  }

 private:
  std::mutex mutex_;
  std::map<char*, size_t> ranges_;
  size_t used_ = 0;  // bytes
};

Pinned& pinned() {
  static auto& pinned = *new Pinned;
  return pinned;
}

void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

// Reports an error of a copy that appears when it runs, because the memory was freed after the call.
void report(Device& device, const char* what, const std::string& wrong) {
  if (!wrong.empty()) device.fail(CUDA_ERROR_ILLEGAL_ADDRESS, std::string(what) + ": " + wrong);
}

// Reports an error in the call itself, which affects only the call.
CUresult check(Device& device, CUdeviceptr address, size_t bytes, Access access, const char* what) {
  const std::string wrong = device.memory.check(pointer(address), bytes, access, false);
  if (wrong.empty()) return CUDA_SUCCESS;
  std::fprintf(stderr, "heed simulator: device %d: %s: %s\n", device.ordinal, what, wrong.c_str());
  return CUDA_ERROR_INVALID_VALUE;
}

// Takes the time of a copy between host and device at the rate of HEED_SIMULATOR_COPY_RATE.
void take_time(size_t bytes) {
  if (const uint64_t rate = settings().copy_rate)
    std::this_thread::sleep_for(std::chrono::microseconds(bytes * 1000000 / (rate << 20)));
}

CUresult copy_in(CUdeviceptr destination, const void* source, size_t bytes, CUstream handle) {
  std::shared_ptr<CUstream_st> stream;
  if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
  if (!bytes) return CUDA_SUCCESS;
  if (!source) return CUDA_ERROR_INVALID_VALUE;
  const char* what = "copying from the host";
  if (const CUresult wrong = check(*stream->device, destination, bytes, Access::write, what)) return wrong;
  if (stream->capturing() || pinned().contains(source, bytes)) {
    stream->submit([=](Device& device) {
      take_time(bytes);
      report(device, what, device.memory.copy_in(pointer(destination), source, bytes));
    });
  } else {
    const auto* first = static_cast<const uint8_t*>(source);
    const auto staged = std::make_shared<std::vector<uint8_t>>(first, first + bytes);
    stream->submit([=](Device& device) {
      report(device, what, device.memory.copy_in(pointer(destination), staged->data(), bytes));
    });
  }
  return CUDA_SUCCESS;
}

CUresult copy_out(void* destination, CUdeviceptr source, size_t bytes, CUstream handle) {
  std::shared_ptr<CUstream_st> stream;
  if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
  if (!bytes) return CUDA_SUCCESS;
  if (!destination) return CUDA_ERROR_INVALID_VALUE;
  const char* what = "copying to the host";
  if (const CUresult wrong = check(*stream->device, source, bytes, Access::read, what)) return wrong;
  stream->submit([=](Device& device) {
    take_time(bytes);
    report(device, what, device.memory.copy_out(destination, pointer(source), bytes));
  });
  if (stream->capturing() || pinned().contains(destination, bytes)) return CUDA_SUCCESS;
  stream->finish();
  return stream->device->error();
}

}  // namespace

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (total) *total = device->memory.capacity();
    const size_t capacity = device->memory.capacity();
    if (free) *free = capacity - std::min(capacity, device->memory.used());
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!address || !bytes) return CUDA_ERROR_INVALID_VALUE;
    *address = device->allocate(bytes);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    Device* owner = device_of(address);
    return owner && owner->free(address) ? device->error() : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (!settings().pools || stream->capturing()) return CUDA_ERROR_NOT_SUPPORTED;
    if (!address || !bytes) return CUDA_ERROR_INVALID_VALUE;
    *address = stream->device->allocate(bytes, *stream);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  });
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (!settings().pools || stream->capturing()) return CUDA_ERROR_NOT_SUPPORTED;
    return stream->device->free(address, *stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

// A pool's handle is its device.
CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice ordinal) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (!pool) return CUDA_ERROR_INVALID_VALUE;
    if (ordinal < 0 || static_cast<size_t>(ordinal) >= devices().size()) return CUDA_ERROR_INVALID_DEVICE;
    if (!settings().pools) return CUDA_ERROR_NOT_SUPPORTED;
    *pool = reinterpret_cast<CUmemoryPool>(devices()[static_cast<size_t>(ordinal)].get());
    return CUDA_SUCCESS;
  });
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* access, size_t count) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    const auto known = [&](const auto& device) { return device.get() == reinterpret_cast<Device*>(pool); };
    const auto owner = std::find_if(devices().begin(), devices().end(), known);
    if (owner == devices().end() || (count && !access)) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
      const auto& [type, ordinal, flags] = access[i];
      if (type != CU_MEM_LOCATION_TYPE_DEVICE || flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE || ordinal < 0 ||
          static_cast<size_t>(ordinal) >= devices().size())
        return CUDA_ERROR_INVALID_VALUE;
      if (ordinal == (*owner)->ordinal) continue;
      if (!settings().peers) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
      const std::lock_guard lock((*owner)->mutex);
      (*owner)->pool_users.insert(devices()[static_cast<size_t>(ordinal)].get());
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!address || !bytes || flags > 7) return CUDA_ERROR_INVALID_VALUE;
    *address = pinned().allocate(bytes);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  });
}

CUresult cuMemFreeHost(void* address) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (!pinned().contains(address, 1)) return CUDA_ERROR_INVALID_VALUE;
    for (const auto& each : devices()) each->synchronize();
    return pinned().free(address) ? device->error() : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr destination, const void* source, size_t bytes, CUstream stream) {
  return guard([&] { return copy_in(destination, source, bytes, stream); });
}

CUresult cuMemcpyDtoHAsync_v2(void* destination, CUdeviceptr source, size_t bytes, CUstream stream) {
  return guard([&] { return copy_out(destination, source, bytes, stream); });
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr destination, const void* source, size_t bytes) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = copy_in(destination, source, bytes, nullptr)) return wrong;
    return cuStreamSynchronize(nullptr);
  });
}

CUresult cuMemcpyDtoH_v2(void* destination, CUdeviceptr source, size_t bytes) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = copy_out(destination, source, bytes, nullptr)) return wrong;
    return cuStreamSynchronize(nullptr);
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr destination, CUdeviceptr source, size_t bytes, CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (!bytes) return CUDA_SUCCESS;
    Device *to = device_of(destination), *from = device_of(source);
    if (!to || !from) return CUDA_ERROR_INVALID_VALUE;
    const char* what = "copying on the device";
    if (const CUresult wrong = check(*to, destination, bytes, Access::write, what)) return wrong;
    if (const CUresult wrong = check(*from, source, bytes, Access::read, what)) return wrong;
    stream->submit([=](Device& device) {
      if (to == from) return report(device, what, to->memory.copy_within(pointer(destination), pointer(source), bytes));
      std::vector<uint8_t> between(bytes);
      report(device, what, from->memory.copy_out(between.data(), pointer(source), bytes));
      report(device, what, to->memory.copy_in(pointer(destination), between.data(), bytes));
    });
    return CUDA_SUCCESS;
  });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr destination, CUcontext destination_context, CUdeviceptr source,
                           CUcontext source_context, size_t bytes, CUstream handle) {
  return guard([&]() -> CUresult {
    if (!destination_context || !source_context) return CUDA_ERROR_INVALID_CONTEXT;
    if (bytes && (device_of(destination) != destination_context->device || device_of(source) != source_context->device))
      return CUDA_ERROR_INVALID_VALUE;
    if (source_context->device && source_context->device->error()) return source_context->device->error();
    const Device *from = source_context->device, *to = destination_context->device;
    if (bytes && from != to && !device_of(source)->shows(source, *to)) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    return cuMemcpyDtoDAsync_v2(destination, source, bytes, handle);
  });
}

CUresult cuMemsetD8Async(CUdeviceptr destination, unsigned char value, size_t count, CUstream handle) {
  return guard([&]() -> CUresult {
    std::shared_ptr<CUstream_st> stream;
    if (const CUresult wrong = enter_stream(handle, &stream)) return wrong;
    if (!count) return CUDA_SUCCESS;
    const char* what = "filling memory";
    if (const CUresult wrong = check(*stream->device, destination, count, Access::write, what)) return wrong;
    stream->submit(
        [=](Device& device) { report(device, what, device.memory.fill(pointer(destination), value, count)); });
    return CUDA_SUCCESS;
  });
}

}  // extern "C"

}  // namespace heed::simulator
