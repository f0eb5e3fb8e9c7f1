#include "core/device.h"

#include "core/error.h"

namespace heed {

Graph::~Graph() = default;
Timer::~Timer() = default;

void Device::begin_capture() { fail(Code::device, "capture: expected a CUDA device"); }
std::unique_ptr<Graph> Device::end_capture() { fail(Code::device, "capture: expected a CUDA device"); }

Device::Device(Backend backend) : backend(backend) {}
Device::~Device() = default;

Storage* Device::create_storage(size_t bytes, const char* op) {
  void* data = allocator().allocate(bytes, op);
  return new Storage{this, data, static_cast<int64_t>(bytes), 1};
}

void Device::release(Storage* storage) {
  if (--storage->references > 0) return;
  allocator().free(storage->data);
  delete storage;
}

}  // namespace heed
