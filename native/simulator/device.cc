// Devices, settings, and the state that calls depend on: initialised, current context, lost.
#include "simulator/device.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>

#include "simulator/capability.h"
#include "simulator/stream.h"
#include "simulator/variables.h"

namespace heed::simulator {
namespace {

std::atomic<bool> initialised{false}, ended{false};
thread_local CUcontext current = nullptr;
thread_local bool in_host_function = false;

void read_environment(Settings& settings) {
  settings.devices = static_cast<int>(variable("HEED_SIMULATOR_DEVICES", 1));
  settings.memory = variable("HEED_SIMULATOR_MEMORY", settings.memory);
  settings.driver_version = static_cast<int>(variable("HEED_SIMULATOR_DRIVER_VERSION", 12020));
  settings.capability = static_cast<int>(variable("HEED_SIMULATOR_CAPABILITY", 80));
  settings.multiprocessors = static_cast<int>(variable("HEED_SIMULATOR_MULTIPROCESSORS", 108));
  settings.lost_after = variable("HEED_SIMULATOR_LOST_AFTER", UINT64_MAX);
  settings.delay = variable("HEED_SIMULATOR_DELAY", 0);
  settings.load_time = variable("HEED_SIMULATOR_LOAD_TIME", 0);
  settings.pinned = variable("HEED_SIMULATOR_PINNED", SIZE_MAX);
  settings.one_callback_thread = variable("HEED_SIMULATOR_CALLBACK_THREAD", 0) != 0;
  settings.lost_contexts = variable("HEED_SIMULATOR_LOST_CONTEXT", 0) != 0;
  settings.peers = variable("HEED_SIMULATOR_PEERS", 1) != 0;
  settings.pools = variable("HEED_SIMULATOR_POOLS", 1) != 0;
  settings.queue = variable("HEED_SIMULATOR_QUEUE", settings.queue);
  settings.launch_time = variable("HEED_SIMULATOR_LAUNCH_TIME", 0);
  settings.copy_rate = variable("HEED_SIMULATOR_COPY_RATE", 0);
  settings.counters_file = file_of_process(variable("HEED_SIMULATOR_COUNTERS"));
  settings.options = Options::from_environment();
  settings.options.shared_limit = capability(settings.capability).block_shared_memory;
  if (!settings.counters_file.empty()) settings.options.count = true;
}

void write_counters() {
  const std::string& name = settings().counters_file;
  std::FILE* file = std::fopen(name.c_str(), "w");
  if (!file) {
    std::fprintf(stderr, "heed simulator: cannot write the counters to %s\n", name.c_str());
    return;
  }
  std::fprintf(file, "%s\n", counters().json().c_str());
  std::fclose(file);
}

// Threads of the library run until the process ends, so the objects that they use are never destroyed.
void end() {
  ended = true;
  if (!settings().counters_file.empty()) write_counters();
}

std::vector<std::unique_ptr<Device>>& device_list() {
  static auto& list = *new std::vector<std::unique_ptr<Device>>;
  return list;
}

void initialise() {
  read_environment(settings());
  for (int i = 0; i < settings().devices; i++) device_list().push_back(std::make_unique<Device>(i));
  std::atexit(end);
  initialised = true;
}

}  // namespace

Settings& settings() {
  static auto& settings = *new Settings;
  return settings;
}

Counters& counters() {
  static auto& counters = *new Counters;
  return counters;
}

const std::vector<std::unique_ptr<Device>>& devices() { return device_list(); }

Device* device_of(CUdeviceptr address) {
  for (const auto& device : devices())
    if (device->memory.contains(reinterpret_cast<void*>(address))) return device.get();
  return nullptr;
}

Device::Device(int ordinal) : ordinal(ordinal), memory(settings().memory) {}

void Device::launch(const Launch& launch) {
  static auto& one_at_a_time = *new std::mutex;
  if (launches_++ >= settings().lost_after)
    return fail(CUDA_ERROR_LAUNCH_FAILED, "the device is lost, as HEED_SIMULATOR_LOST_AFTER says");
  const auto end = Clock::now() + std::chrono::microseconds(settings().launch_time);
  const std::lock_guard lock(one_at_a_time);
  if (const auto fault = run(launch, memory, settings().options, counters())) fail(fault->cuda_error, fault->message);
  std::this_thread::sleep_until(end);
}

void Device::fail(CUresult code, const std::string& message) {
  CUresult none = CUDA_SUCCESS;
  if (error_.compare_exchange_strong(none, code))
    std::fprintf(stderr, "heed simulator: device %d: %s\n", ordinal, message.c_str());
}

void Device::synchronize() {
  for (const auto* handles : {&streams(), &closed_streams()})
    for (const auto& stream : handles->all())
      if (stream->device == this) stream->finish();
}

void Device::reset() {
  for (const auto& stream : streams().all())
    if (stream->device == this) stream->close();
  unload_modules(*this);
  std::set<void*> left;
  {
    const std::lock_guard lock(mutex);
    left.swap(allocations_);
    pooled_.clear();
  }
  for (void* address : left) memory.free(address);
}

CUdeviceptr Device::keep(void* address, bool pooled) {
  if (!address) return 0;
  const std::lock_guard lock(mutex);
  allocations_.insert(address);
  if (pooled) pooled_.insert(address);
  return reinterpret_cast<CUdeviceptr>(address);
}

CUdeviceptr Device::allocate(size_t bytes) { return keep(memory.allocate(bytes), false); }

CUdeviceptr Device::allocate(size_t bytes, CUstream_st& stream) {
  return keep(memory.allocate(bytes, &stream.freeing), true);
}

bool Device::free(CUdeviceptr address, CUstream_st& stream) {
  void* const block = reinterpret_cast<void*>(address);
  {
    const std::lock_guard lock(mutex);
    if (!pooled_.erase(block)) return false;
    allocations_.erase(block);
  }
  stream.freeing += memory.bytes_of(block);
  const auto release = [block, &stream](Device& device) { device.memory.free(block, &stream.freeing); };
  stream.push(release, true);
  return true;
}

bool Device::free(CUdeviceptr address) {
  {
    const std::lock_guard lock(mutex);
    if (!allocations_.erase(reinterpret_cast<void*>(address))) return false;
    pooled_.erase(reinterpret_cast<void*>(address));
  }
  synchronize();
  return memory.free(reinterpret_cast<void*>(address));
}

bool Device::shows(CUdeviceptr address, const Device& to) {
  void* const at = reinterpret_cast<void*>(address);
  const std::lock_guard lock(mutex);
  const auto after = allocations_.upper_bound(at);
  return after == allocations_.begin() || !pooled_.count(*std::prev(after)) || pool_users.count(&to);
}

CUresult enter_without_context() {
  if (ended) return CUDA_ERROR_DEINITIALIZED;
  if (in_host_function) return CUDA_ERROR_NOT_PERMITTED;
  return initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult enter(Device** device) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  *device = current->device;
  return current->device ? current->device->error() : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUcontext current_context() { return current; }
void set_in_host_function(bool inside) { in_host_function = inside; }

extern "C" {

CUresult cuInit(unsigned flags) {
  return guard([&]() -> CUresult {
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    static std::once_flag once;
    std::call_once(once, initialise);
    return devices().empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  current = context;
  return settings().lost_contexts && context && context->device ? context->device->error() : CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!can) return CUDA_ERROR_INVALID_VALUE;
  const auto count = static_cast<int>(devices().size());
  if (device < 0 || device >= count || peer < 0 || peer >= count) return CUDA_ERROR_INVALID_DEVICE;
  *can = settings().peers && device != peer;
  return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext context, unsigned flags) {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    if (!context || !context->device || context->device == device) return CUDA_ERROR_INVALID_CONTEXT;
    if (!settings().peers) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    const std::lock_guard lock(device->mutex);
    return device->peers.insert(context->device).second ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  if (!context) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult wrong = enter_without_context()) return wrong;
  *context = current;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  if (!device) return CUDA_ERROR_INVALID_VALUE;
  if (const CUresult wrong = enter_without_context()) return wrong;
  if (!current) return CUDA_ERROR_INVALID_CONTEXT;
  *device = current->device ? current->device->ordinal : 0;
  return current->device ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult cuCtxSynchronize() {
  return guard([&]() -> CUresult {
    Device* device;
    if (const CUresult wrong = enter(&device)) return wrong;
    for (const auto& stream : streams().all())
      if (stream->device == device && stream->capturing()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    device->synchronize();
    return device->error();
  });
}

// Contexts are never deleted: a destroyed one has no device, and a thread that still holds it gets an error.
CUresult cuCtxCreate_v2(CUcontext* context, unsigned, CUdevice ordinal) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (ordinal < 0 || ordinal >= static_cast<int>(devices().size())) return CUDA_ERROR_INVALID_DEVICE;
    *context = current = new CUctx_st{devices()[static_cast<size_t>(ordinal)].get()};
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (!context || !context->device) return CUDA_ERROR_INVALID_CONTEXT;
    context->device->synchronize();
    context->device = nullptr;
    if (current == context) current = nullptr;
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice ordinal) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (ordinal < 0 || ordinal >= static_cast<int>(devices().size())) return CUDA_ERROR_INVALID_DEVICE;
    Device& device = *devices()[static_cast<size_t>(ordinal)];
    const std::lock_guard lock(device.mutex);
    if (!device.primary) device.primary = new CUctx_st{&device};
    device.primary_users++;
    *context = device.primary;
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
  return guard([&]() -> CUresult {
    if (const CUresult wrong = enter_without_context()) return wrong;
    if (ordinal < 0 || ordinal >= static_cast<int>(devices().size())) return CUDA_ERROR_INVALID_DEVICE;
    Device& device = *devices()[static_cast<size_t>(ordinal)];
    {
      const std::lock_guard lock(device.mutex);
      if (!device.primary_users) return CUDA_ERROR_INVALID_CONTEXT;
      if (--device.primary_users) return CUDA_SUCCESS;
    }
    device.synchronize();
    device.reset();
    return CUDA_SUCCESS;
  });
}

size_t heedSimulatorMemoryUsed(int device, size_t* allocations) {
  if (device < 0 || device >= static_cast<int>(devices().size())) return 0;
  const Memory& memory = devices()[static_cast<size_t>(device)]->memory;
  if (allocations) *allocations = memory.allocations();
  return memory.used();
}

size_t heedSimulatorCounters(char* buffer, size_t size) {
  const std::string json = counters().json();
  if (size) std::snprintf(buffer, size, "%s", json.c_str());
  return json.size();
}

void heedSimulatorResetCounters() { counters().clear(); }
void heedSimulatorSetDelay(uint64_t microseconds) { settings().delay = microseconds; }

}  // extern "C"

}  // namespace heed::simulator
