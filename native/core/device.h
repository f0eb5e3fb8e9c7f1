// What the addon asks of a device, whichever backend it is. JavaScript thread only.
#pragma once
#include <array>
#include <memory>
#include <unordered_set>
#include <vector>

#include "core/allocator.h"
#include "core/host_buffer.h"
#include "core/operation_log.h"
#include "core/queue.h"
#include "core/storage.h"
#include "core/uploads.h"

namespace heed {

enum class Backend : uint8_t { cpu, cuda };

class Device;

// Operations that were recorded once and run again as one; see Device::begin_capture. Has a share of every storage that
// they use: they run on the memory they were recorded with, whatever becomes of the tensors.
class Graph {
 public:
  // What a backend recorded. Goes in queue order: what has been launched runs to its end.
  class Work {
   public:
    virtual ~Work();
    virtual void launch(int64_t operation) = 0;  // which one of the device's log
  };

  Graph(Device& device, std::vector<Storage*> used, std::vector<Block> held);
  ~Graph();  // on the JavaScript thread
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch();

 private:
  friend class Device;
  std::unique_ptr<Work> work_;
  Device& device_;
  const std::vector<Storage*> used_;
  const std::vector<Block> held_;
  std::shared_ptr<const OperationLog::Recording> recording_;
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
  // Copies host memory in queue order; `source` may go when the call returns. Where more would be on its way than
  // Uploads allows, waits for what was enqueued before.
  virtual void upload(void* destination, const void* source, size_t bytes) = 0;
  // Copies to host memory in queue order; `destination` must live until the next fence.
  virtual void download(void* destination, const void* source, size_t bytes) = 0;
  // Between the queues of two devices: one sends to a buffer in host memory, the other receives from it, each in its
  // own order. `share` is the buffer's of what is on its way to the receiver. The thread that calls waits for neither.
  virtual void send(std::shared_ptr<HostBuffer> to, const void* source) = 0;
  virtual void receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) = 0;
  // Instead of both: copies from another device without the host, in the order of both queues. False where it cannot.
  // What was fenced on the sender before is told to the fence before those that follow on this device. The signals are
  // those that the queues give each other; they end with the environment.
  using Signals = std::array<std::shared_ptr<HostBuffer>, 3>;
  virtual bool copy_from(Device&, void*, const void*, size_t, const Signals&) { return false; }
  virtual void fence(Fence* fence) = 0;
  // Gives the cache back to the system, in queue order. `told` is reached when the system has it; without failures. Not
  // while a graph is captured.
  virtual void release_cached(std::unique_ptr<Fence> told) = 0;
  virtual std::unique_ptr<Timer> start_timer() = 0;
  virtual void wait_idle() = 0;
  // What is enqueued between the two is recorded, not run: kernels and copies on the device, no uploads and no reads.
  // The graph keeps the memory of what was freed meanwhile, and the storages that were told to use().
  void begin_capture();
  std::unique_ptr<Graph> end_capture();
  // Throws while a graph is captured: what `op` needs the host for cannot be part of one.
  void expect_not_capturing(const char* op) const;
  // Ends the queue: what waits is dropped, what runs is waited for. Memory can still be released.
  virtual void stop() = 0;

  Storage* create_storage(size_t bytes, const char* op);
  void retain(Storage* storage) { storage->references++; }
  void release(Storage* storage);
  // Called before an operation on the storage is enqueued.
  void use(Storage* storage) {
    if (capturing_ && storage->capture != captures_) keep(storage);
  }

  // What each operation uses. Whoever enqueues an operation notes it between begin_operation() and log().end().
  OperationLog& log() { return log_; }
  int64_t begin_operation() {
    const int64_t operation = log_.begin();
    number_operation(operation);
    return operation;
  }

  Uploads& uploads() { return uploads_; }  // to the device
  Uploads& sending() { return sending_; }  // from it to others

  const Backend backend;

 protected:
  // Which operation of the log what is enqueued next belongs to.
  virtual void number_operation(int64_t operation) = 0;
  virtual void start_recording() = 0;
  virtual std::unique_ptr<Graph::Work> finish_recording() = 0;
  bool capturing() const { return capturing_; }

  Uploads uploads_, sending_;

 private:
  friend class Graph;
  void keep(Storage* storage);

  OperationLog log_;
  bool capturing_ = false;
  int64_t captures_ = 0;  // begun so far
  // While a graph is captured: the storages it has a share of, and the live ones among those made meanwhile, whose
  // memory is the graph's anyway if they go before its end.
  std::vector<Storage*> used_;
  std::unordered_set<Storage*> made_;
};

}  // namespace heed
