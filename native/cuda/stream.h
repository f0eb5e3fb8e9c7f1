// A CUDA device of one Node environment: its in-order stream, memory and the launch of kernels.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/device.h"
#include "core/dtype.h"
#include "cuda/driver.h"
#include "cuda/fault.h"
#include "cuda/memory.h"

namespace heed::cuda {

constexpr int kMaxDevices = 16;

struct Image;
class Card;
class Staging;
class Watcher;

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// A kernel of an embedded module; loaded at its first launch on a card. HEED_KERNEL defines them.
struct KernelEntry {
  const Image& image;
  const char* name;
  unsigned threads;
  std::atomic<CUfunction> functions[kMaxDevices] = {};
  KernelEntry(const Image& image, const char* name, unsigned threads) : image(image), name(name), threads(threads) {}
};
template <class Params>
struct Kernel : KernelEntry {
  static_assert(sizeof(Params) <= 4096, "kernel parameters are at most 4 KiB");
  using KernelEntry::KernelEntry;
};

// What a host function gets as its first argument.
class Stream final : public Device {
 public:
  explicit Stream(Card& card);
  ~Stream() override;

  CachingAllocator& allocator() override { return allocator_; }
  void upload(void* destination, const void* source, size_t bytes) override;
  void download(void* destination, const void* source, size_t bytes) override;
  void send(std::shared_ptr<HostBuffer> to, const void* source) override;
  void receive(std::shared_ptr<HostBuffer> from, void* destination) override;
  void fence(Fence* fence) override;
  std::unique_ptr<Timer> start_timer() override;
  void wait_idle() override;
  void stop() override;

  // Enqueues a kernel. `params` is copied at the call.
  template <class Params>
  void launch(const char* op, Kernel<Params>& kernel, Grid grid, const Params& params, size_t shared_bytes = 0) {
    launch(op, static_cast<KernelEntry&>(kernel), grid, &params, shared_bytes);
  }
  // Enqueues filling memory with zero bytes, and copying memory of the device.
  void zero(const char* op, void* destination, size_t bytes);
  void copy(const char* op, void* destination, const void* source, size_t bytes);

  // Where a kernel of `op` (a string literal) reports what is wrong with its data; read at the next fence.
  FaultSink fault(const char* op);

  // Counters for blocks that wait for each other within a launch (kernels/last_block.h): zero at its beginning, and its
  // kernel leaves them so. At most kArrivals of them.
  static constexpr int64_t kArrivals = 4096;
  unsigned* arrivals(const char* op, int64_t count);

  int multiprocessors() const;
  // Bytes of shared memory a block can have.
  size_t shared_limit() const;

  // Scratch memory for the kernels enqueued until the Workspace goes out of scope: it is given back at the host
  // function's end and, being in queue order, stays valid until those kernels have run.
  class Workspace {
   public:
    Workspace(Stream& stream, const char* op, size_t bytes);
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    template <class T>
    T* as() const {
      return static_cast<T*>(data_);
    }
    float* f32() const { return as<float>(); }

   private:
    Stream& stream_;
    void* data_;
  };

 private:
  friend class Allocator;
  class RecordedWork;
  class EventTimer;
  class Staged;
  void start_recording() override;
  std::unique_ptr<Graph::Work> finish_recording() override;
  // Enqueues reading and clearing the report of faults; null where nothing since the last time can have written it.
  std::shared_ptr<Staged> fetch_report(const char* op);
  // What is in the report stays there: a recording that runs again has the same number for each of its operations.
  void close_report(const char* op);
  // What has failed since the last time; on the watcher's thread, once `fetched` has come.
  std::optional<Error> take_error(CUresult result, const std::shared_ptr<Staged>& fetched);
  void launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t shared_bytes);
  void finish(CUresult result, const char* op, const char* doing);

  Card& card_;
  Allocator allocator_;
  CUstream stream_ = nullptr;
  FaultReport* faults_ = nullptr;  // device memory, the next one too
  uint64_t runs_ = 0;              // operations that can have a fault
  unsigned* arrivals_ = nullptr;
  bool may_fault_ = false;         // an operation since the last report can have a fault
  std::optional<Error> received_;  // what came with the data of another device; the watcher's thread only
  bool stopped_ = false;
  const bool blocking_;  // HEED_CUDA_BLOCKING=1: every launch is waited for, so that an error names its operation
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Watcher> watcher_;
};

}  // namespace heed::cuda
