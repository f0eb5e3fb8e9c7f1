// The CPU device: an in-order queue whose worker runs each operation's kernel on the thread pool.
#pragma once
#include "core/device.h"

namespace heed::cpu {

class Stream;

class Allocator final : public CachingAllocator {
 public:
  explicit Allocator(Stream& stream);
  ~Allocator() override;

 private:
  void* system_allocate(size_t bytes) override;
  void system_free(void* block, size_t bytes, uint64_t last_use) override;
  void system_trim() override;
  void system_discard(void* range, size_t bytes) override;
  bool system_releasing() override;
  bool system_lazy() const override { return true; }
  bool wait_released() override;
  Stream& stream_;
  class Released;
  std::unique_ptr<Released> released_;  // the memory that system_trim() puts into the queue
};

// The first argument of every host function.
class Stream final : public Device {
 public:
  Stream();
  ~Stream() override;

  CachingAllocator& allocator() override;
  void upload(void* destination, const void* source, size_t bytes) override;
  void download(void* destination, const void* source, size_t bytes) override;
  void send(std::shared_ptr<HostBuffer> to, const void* source) override;
  void receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) override;
  void set_background(bool background) override;
  void fence(Fence* fence) override;
  void release_cached(std::unique_ptr<Fence> told) override;
  std::unique_ptr<Timer> start_timer() override;
  void wait_idle() override;
  void stop() override;

  // Enqueues a kernel: `function()` runs on the worker thread after everything that was enqueued before it. In a graph
  // it may run again, so it must not change its captured values.
  template <class Function>
  void launch(const char* op, Function&& function) {
    queue_.push(op, static_cast<Function&&>(function));
  }

  // Scratch memory for the kernels that are enqueued until the Workspace goes out of scope. It is given back at the end
  // of the host function; because that happens in queue order, it stays valid until those kernels have run.
  class Workspace {
   public:
    Workspace(Stream& stream, const char* op, size_t bytes);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    float* f32() const { return static_cast<float*>(block_.data); }
    void* data() const { return block_.data; }

   private:
    Stream& stream_;
    Block block_;
  };

 private:
  class RecordedWork;
  class QueueTimer;
  void number_operation(int64_t operation) override { queue_.begin_operation(operation); }
  void start_recording() override;
  std::unique_ptr<Graph::Work> finish_recording() override;
  friend class Allocator;
  Allocator allocator_;
  Queue queue_;  // destroyed first, so that nothing runs when the memory is freed
};

}  // namespace heed::cpu
