// A CUDA device of one Node environment: its in-order stream, memory and the launch of kernels.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "cuda/driver.h"
#include "cuda/fault.h"
#include "cuda/kernel_entry.h"
#include "cuda/memory.h"

namespace heed::cuda {

class Card;
class FaultReports;
class Reaper;
class Staging;
class Watcher;

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// What a host function gets as its first argument.
class Stream final : public Device {
 public:
  // `unpack` is called on the thread of launches, for kernels that the card has not loaded.
  explicit Stream(Card& card, Unpack unpack = nullptr);
  ~Stream() override;

  CachingAllocator& allocator() override { return allocator_; }
  void upload(void* destination, const void* source, size_t bytes) override;
  void download(void* destination, const void* source, size_t bytes) override;
  void send(std::shared_ptr<HostBuffer> to, const void* source) override;
  void receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) override;
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

  // Where a kernel of `op` (a string literal) reports what is wrong with its data: a report of its operation's own,
  // read at the next fence.
  FaultSink fault(const char* op);

  // Counters for blocks that wait for each other within a launch (kernels/last_block.h): zero at its beginning, and its
  // kernel leaves them so. At most kArrivals of them.
  static constexpr int64_t kArrivals = 4096;
  unsigned* arrivals(const char* op, int64_t count);

  // Device memory for FaultReports::kReports of them, of what is given back or else new.
  FaultReport* take_reports();
  void give_reports(FaultReport* reports) { spare_reports_.push_back(reports); }

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
      return static_cast<T*>(block_.data);
    }
    float* f32() const { return as<float>(); }

   private:
    Stream& stream_;
    Block block_;
  };

 private:
  friend class Allocator;
  // Delegated to, so that the destructor runs where opening fails half-way.
  struct Unopened {};
  Stream(Card& card, Unpack unpack, Unopened);
  class RecordedWork;
  class EventTimer;
  class Staged;
  void number_operation(int64_t operation) override { operation_ = operation; }
  void start_recording() override;
  std::unique_ptr<Graph::Work> finish_recording() override;
  // Enqueues reading and clearing the reports of faults; what they say is added to failures_.
  void fetch_faults(const char* op);
  void fetch_faults(const char* op, const FaultReports& reports, int64_t graph);
  void launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t shared_bytes);
  void finish(CUresult result, const char* op, const char* doing);

  Card& card_;
  const Unpack unpack_;
  Allocator allocator_;
  CUstream stream_ = nullptr;
  unsigned* arrivals_ = nullptr;  // device memory
  std::vector<FaultReport*> spare_reports_;
  int64_t operation_ = 0;
  std::unique_ptr<FaultReports> faults_;    // of what has been enqueued since they were fetched
  std::shared_ptr<FaultReports> recorded_;  // of the graph that is being captured
  struct Launched {
    std::shared_ptr<FaultReports> reports;
    int64_t operation;
  };
  std::vector<Launched> launched_;  // graphs whose reports have not been fetched since
  std::vector<Failure> failures_;   // since the last fence; the watcher's thread only
  const bool blocking_;  // HEED_CUDA_BLOCKING=1: every launch is waited for, so that an error names its operation
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Watcher> watcher_;
};

}  // namespace heed::cuda
