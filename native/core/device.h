// The interface of a device for the addon, the same for every backend. It is used on the JavaScript thread only.
#pragma once
#include <array>
#include <functional>
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

// Operations that were recorded once and run again as a unit; see Device::begin_capture. A graph has a share of every
// storage that the operations use: they run on the memory that they were recorded with, even after the tensors are
// gone.
class Graph {
 public:
  // The recording of a backend. It is destroyed in queue order, so that a launch that has begun runs to its end.
  class Work {
   public:
    virtual ~Work();
    virtual void launch(int64_t operation) = 0;  // `operation`: its number in the device's log
  };

  Graph(Device& device, std::vector<Storage*> used, std::vector<Block> held);
  ~Graph();  // called on the JavaScript thread
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
  // Marks the second point. `milliseconds` is written once the queue has reached it, and must live until the next
  // fence. It may be called only once.
  virtual void stop(double* milliseconds) = 0;
};

class Device {
 public:
  explicit Device(Backend backend);
  virtual ~Device();

  virtual CachingAllocator& allocator() = 0;
  // Copies host memory to the device in queue order; `source` may be freed when the call returns. If more bytes would
  // be in transit than Uploads allows, the call waits for work that was enqueued before.
  virtual void upload(void* destination, const void* source, size_t bytes) = 0;
  // Copies to host memory in queue order; `destination` must live until the next fence.
  virtual void download(void* destination, const void* source, size_t bytes) = 0;
  // These two copy between the queues of two devices: one sends to a buffer in host memory and the other receives from
  // it, each in its own order. `share` is the buffer's share of the bytes in transit to the receiver. The calling
  // thread waits for neither.
  virtual void send(std::shared_ptr<HostBuffer> to, const void* source) = 0;
  virtual void receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) = 0;
  // Replaces send() and receive(): copies from another device without the host, in the order of both queues. Returns
  // false if that is not possible. Failures that were fenced on the sender before are reported to the log before the
  // fences that follow on this device. The queues give each other the signals, which end with the environment.
  using Signals = std::array<std::shared_ptr<HostBuffer>, 3>;
  virtual bool copy_from(Device&, void*, const void*, size_t, const Signals&) { return false; }
  // Lets the work that follows give way to that of other queues, or no longer.
  virtual void set_background(bool background) = 0;
  virtual void fence(Fence* fence) = 0;
  // Gives the cache back to the system in queue order. `told` is reached, without failures, when the system has the
  // memory. It must not be called while a graph is captured.
  virtual void release_cached(std::unique_ptr<Fence> told) = 0;
  virtual std::unique_ptr<Timer> start_timer() = 0;
  virtual void wait_idle() = 0;
  // What is enqueued between begin_capture() and end_capture() is recorded and not run. It may consist of kernels and
  // copies on the device, but not of uploads and reads. The graph keeps the memory that was freed meanwhile, and the
  // storages that were passed to use().
  void begin_capture();
  std::unique_ptr<Graph> end_capture();
  // Throws if a graph is being captured, because `op` needs the host and cannot be part of a graph.
  void expect_not_capturing(const char* op) const;
  // Ends the queue: drops the work that waits, and waits for the work that runs. Memory can still be released
  // afterwards.
  virtual void stop() = 0;

  Storage* create_storage(size_t bytes, const char* op);
  // Makes a storage of memory that belongs to someone else. The allocator does not count it.
  Storage* adopt_storage(void* data, size_t bytes, std::unique_ptr<Owner> owner);
  void retain(Storage* storage) { storage->references++; }
  void release(Storage* storage);
  // Must be called before an operation on the storage is enqueued.
  void use(Storage* storage) {
    if (capturing_ && storage->capture != captures_) keep(storage);
  }

  // The log of the storages that each operation uses. The caller that enqueues an operation notes its uses between
  // begin_operation() and log().end().
  OperationLog& log() { return log_; }
  int64_t begin_operation() {
    const int64_t operation = log_.begin();
    number_operation(operation);
    return operation;
  }

  Uploads& uploads() { return uploads_; }  // uploads to this device
  Uploads& sending() { return sending_; }  // copies from this device to others

  const Backend backend;

  // Receives the owner of memory that no storage has any more, and destroys it when everything enqueued so far has run.
  // It is not called while a graph is captured. Without it, the device waits for its queue.
  std::function<void(std::unique_ptr<Owner>)> let_go;
  // Returns what the backend calls its queue, for libraries that enqueue work of their own: a CUstream, or null on the
  // CPU. Everything that was enqueued before is in it. May wait until calls that wait for the host are in it, too.
  virtual void* native_queue() { return nullptr; }

 protected:
  // Tells the backend to which operation of the log the work enqueued next belongs.
  virtual void number_operation(int64_t operation) = 0;
  virtual void start_recording() = 0;
  virtual std::unique_ptr<Graph::Work> finish_recording() = 0;
  bool capturing() const { return capturing_; }

  Uploads uploads_{Uploads::most_uploaded()}, sending_{Uploads::kMostSent};

 private:
  friend class Graph;
  void keep(Storage* storage);
  void let_owners_go();

  OperationLog log_;
  bool capturing_ = false;
  int64_t captures_ = 0;  // captures begun so far
  // While a graph is captured: the storages that it has a share of, and those storages created meanwhile that are still
  // live. If the latter are released before the end of the capture, their memory belongs to the graph anyway.
  std::vector<Storage*> used_;
  std::unordered_set<Storage*> made_;
  std::vector<std::unique_ptr<Owner>> left_;  // owners that wait until the capture ends
};

}  // namespace heed
