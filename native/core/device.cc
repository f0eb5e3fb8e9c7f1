#include "core/device.h"

namespace heed {

Graph::~Graph() = default;
Timer::~Timer() = default;

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
