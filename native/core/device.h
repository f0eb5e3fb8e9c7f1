// What the addon asks of a device, whichever backend it is. JavaScript thread only.
#pragma once
#include <memory>

#include "core/allocator.h"
#include "core/host_buffer.h"
#include "core/queue.h"
#include "core/storage.h"

namespace heed {

enum class Backend : uint8_t { cpu, cuda };

// Operations that were recorded once and run again as one; see Device::begin_capture.
class Graph {
 public:
  virtual ~Graph();  // on the JavaScript thread
  virtual void launch() = 0;
};

// Measures the device's own time between two points of its queue; see Device::start_timer.
class Timer {
 public:
  virtual ~Timer();
  // The second point. `milliseconds` is written once the queue has reached it, and must live until the next fence.
  // At most once.
  virtual void stop(double* milliseconds) = 0;
};

class Device {
 public:
  explicit Device(Backend backend);
  virtual ~Device();

  virtual CachingAllocator& allocator() = 0;
  // Copies host memory in queue order; `source` may go when the call returns.
  virtual void upload(void* destination, const void* source, size_t bytes) = 0;
  // Copies to host memory in queue order; `destination` must live until the next fence.
  virtual void download(void* destination, const void* source, size_t bytes) = 0;
  // Between the queues of two devices: one sends to a buffer in host memory, the other receives from it, each in its
  // own order. Nobody but the receiving queue waits. Sending is a read: what failed before it is the receiver's.
  virtual void send(std::shared_ptr<HostBuffer> to, const void* source) = 0;
  virtual void receive(std::shared_ptr<HostBuffer> from, void* destination) = 0;
  virtual void fence(Fence* fence) = 0;
  virtual std::unique_ptr<Timer> start_timer() = 0;
  virtual void wait_idle() = 0;
  // What is enqueued between the two is recorded, not run: kernels and copies on the device, no uploads and no reads.
  // The graph keeps the memory of what was freed meanwhile.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
  // Ends the queue: what waits is dropped, what runs is waited for. Memory can still be released.
  virtual void stop() = 0;

  Storage* create_storage(size_t bytes, const char* op);
  void retain(Storage* storage) { storage->references++; }
  void release(Storage* storage);

  const Backend backend;
};

}  // namespace heed
