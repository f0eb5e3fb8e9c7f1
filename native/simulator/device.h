// A device: its memory, its streams and its primary context, and whether it is lost. The first cuInit makes the
// devices. They live until the process ends, and so does everything else that threads of the library may still use
// then.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "simulator/api.h"
#include "simulator/counters.h"
#include "simulator/executor.h"
#include "simulator/memory.h"

namespace heed::simulator {

// Objects that callers hold by their address. An address that belongs to none of them causes an error instead of a
// crash.
template <class T>
class Handles {
 public:
  T* add(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    T* handle = object.get();
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  std::shared_ptr<T> get(T* handle) const {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(handle);
    return found == objects_.end() ? nullptr : found->second;
  }
  std::shared_ptr<T> remove(T* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(handle);
    if (found == objects_.end()) return nullptr;
    std::shared_ptr<T> object = std::move(found->second);
    objects_.erase(found);
    return object;
  }
  std::vector<std::shared_ptr<T>> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<T>> list;
    for (const auto& [handle, object] : objects_) list.push_back(object);
    return list;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<T*, std::shared_ptr<T>> objects_;
};

// The settings in the environment, which cuInit reads.
struct Settings {
  int devices = 1;                   // HEED_SIMULATOR_DEVICES
  size_t memory = size_t{2} << 30;   // HEED_SIMULATOR_MEMORY: bytes of each device
  int driver_version = 12020;        // HEED_SIMULATOR_DRIVER_VERSION: in the form of cuDriverGetVersion
  int capability = 80;               // HEED_SIMULATOR_CAPABILITY: 80 is 8.0
  int multiprocessors = 108;         // HEED_SIMULATOR_MULTIPROCESSORS
  uint64_t lost_after = UINT64_MAX;  // HEED_SIMULATOR_LOST_AFTER: launches after which a device is lost
  size_t pinned = SIZE_MAX;          // HEED_SIMULATOR_PINNED: bytes of pinned host memory
  bool one_callback_thread = false;  // HEED_SIMULATOR_CALLBACK_THREAD: host functions of all streams share a thread
  bool lost_contexts = false;        // HEED_SIMULATOR_LOST_CONTEXT: cuCtxSetCurrent also fails once a device is lost
  bool peers = true;                 // HEED_SIMULATOR_PEERS: devices can read each other's memory
  bool pools = true;                 // HEED_SIMULATOR_POOLS: memory can be allocated in the order of a stream
  uint64_t queue = 1024;             // HEED_SIMULATOR_QUEUE: pieces of work that a stream holds before calls wait
  uint64_t launch_time = 0;          // HEED_SIMULATOR_LAUNCH_TIME: least microseconds of a launch
  uint64_t copy_rate = 0;            // HEED_SIMULATOR_COPY_RATE: MiB per second between host and device; 0 for no limit
  std::string counters_file;         // HEED_SIMULATOR_COUNTERS, where %p stands for the process id
  Options options;                   // options of the executor
  std::atomic<uint64_t> delay{0};    // HEED_SIMULATOR_DELAY: microseconds
  uint64_t load_time = 0;            // HEED_SIMULATOR_LOAD_TIME: microseconds
};
Settings& settings();
Counters& counters();

class Device {
 public:
  explicit Device(int ordinal);
  const int ordinal;
  Memory memory;

  // The primary context and its users.
  std::mutex mutex;
  int primary_users = 0;
  CUcontext primary = nullptr;
  std::set<const Device*> peers;       // devices whose memory it may read
  std::set<const Device*> pool_users;  // devices that may read the memory of its pool

  // Runs a kernel and records its fault. Only one kernel runs at a time on all devices, because they share the
  // machine's cores.
  void launch(const Launch& launch);

  // Prints the message and loses the device, unless it is lost already.
  void fail(CUresult code, const std::string& message);
  CUresult error() const { return error_.load(std::memory_order_acquire); }

  // Waits until all work of its streams has run.
  void synchronize();
  // Frees what the users of the primary context have left.
  void reset();

  CUdeviceptr allocate(size_t bytes);  // 0 if out of memory
  bool free(CUdeviceptr address);
  // In the order of a stream: what it will have freed is there for it already.
  CUdeviceptr allocate(size_t bytes, CUstream_st& stream);
  bool free(CUdeviceptr address, CUstream_st& stream);
  // Whether another device may copy from there: memory of the pool only where it is shared.
  bool shows(CUdeviceptr address, const Device& to);

 private:
  std::atomic<CUresult> error_{CUDA_SUCCESS};
  std::atomic<uint64_t> launches_{0};
  CUdeviceptr keep(void* address, bool pooled);
  std::set<void*> allocations_, pooled_;  // pooled ones are in both
};

// Unloads all modules that are loaded on the device, because they live in its context.
void unload_modules(const Device& device);

const std::vector<std::unique_ptr<Device>>& devices();
// Returns the device whose memory contains an address, or null if there is none.
Device* device_of(CUdeviceptr address);

// The checks with which a call begins: the driver is initialised and has not been shut down, the call is not made from
// within a host function, and the thread has a context whose device is not lost. Returns the device through `device`.
CUresult enter(Device** device);
CUresult enter_without_context();
CUcontext current_context();
void set_in_host_function(bool inside);

// Runs the body of an exported function; no exception leaves it.
template <class F>
CUresult guard(F&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
}

}  // namespace heed::simulator

struct heed::cuda::CUctx_st {
  heed::simulator::Device* device;
};
