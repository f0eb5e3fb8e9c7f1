// A CUDA device of one Node environment: its in-order stream, memory and the launch of kernels.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
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
class Submitter;
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
  bool copy_from(Device& sender, void* destination, const void* source, size_t bytes, const Signals& signals) override;
  void fence(Fence* fence) override;
  void release_cached(std::unique_ptr<Fence> told) override;
  std::unique_ptr<Timer> start_timer() override;
  void wait_idle() override;
  void stop() override;

  // Enqueues a kernel. `params` is copied at the call.
  template <class Params>
  void launch(const char* op, Kernel<Params>& kernel, Grid grid, const Params& params, size_t shared_bytes = 0) {
    launch(op, static_cast<KernelEntry&>(kernel), grid, &params, sizeof params, shared_bytes);
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
  class EventTimer;
  class RecordedWork;
  class Staged;
  void number_operation(int64_t operation) override { operation_ = operation; }
  void start_recording() override;
  std::unique_ptr<Graph::Work> finish_recording() override;
  // Enqueues reading and clearing the reports of faults; what they say is added to failures_.
  void fetch_faults(const char* op);
  void fetch_faults(const char* op, const FaultReports& reports, int64_t graph);
  void launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t params_bytes,
              size_t shared_bytes);
  void finish(CUresult result, const char* op, const char* doing);

  // The driver's stream that kernels and copies on the device go to.
  CUstream target() const;
  // Whether what is called now goes to the driver at once, not behind what waits for the host.
  bool direct() const;
  // Calls the driver at once or in its turn. What fails at once is thrown, what fails later is the operation's failure.
  template <class Call>
  void submit(const char* op, const char* doing, Call call);
  // Has `body` called in its turn, on a thread where it may wait for the host. `failed` is told on the watcher's thread
  // what it throws.
  using Failed = std::function<void(const Error& error)>;
  void later(std::function<void()> body, Failed failed);
  Failed fail_operation();
  Failed fail_reads();
  // Has `body` called, which calls the driver, at once or in its turn: when `before` has been signalled. `then` goes
  // with it.
  void in_turn(const char* op, std::function<void()> body, const std::shared_ptr<HostBuffer>& before,
               std::shared_ptr<Signal> then);
  // watcher_->after(), in its turn.
  void after(std::function<void(CUresult)> action);
  // Copy through pinned memory, in pieces of as much as there is. `kept` goes when all is copied. `taken` is called
  // with one piece after another, on the watcher's thread.
  using Taken = std::function<void(CUresult result, size_t offset, const void* data, size_t bytes)>;
  void copy_in(const char* op, char* destination, const char* source, size_t bytes, const std::shared_ptr<void>& kept);
  void copy_out(const char* op, const char* source, size_t bytes, const Taken& taken, const Failed& failed);
  // What copy_out() has no memory for at once, for the submitter's thread.
  void copy_out_from(const char* op, const char* source, size_t begin, size_t bytes, const Taken& taken);
  // One piece; gives its size.
  size_t put(const char* op, char* destination, const char* source, size_t bytes, const std::shared_ptr<Staged>& staged,
             const std::shared_ptr<void>& kept);
  size_t get(const char* op, const char* source, size_t offset, size_t bytes, const std::shared_ptr<Staged>& staged,
             const Taken& taken);
  // Returns memory to the driver, when everything that was enqueued before has run.
  void give_back(void* block);

  Card& card_;
  const Unpack unpack_;
  Allocator allocator_;
  CUstream stream_ = nullptr;
  CUstream recording_stream_ = nullptr;  // what is captured goes here, so that what waits is not captured with it
  unsigned* arrivals_ = nullptr;         // device memory
  std::vector<FaultReport*> spare_reports_;
  int64_t operation_ = 0;
  std::unique_ptr<FaultReports> faults_;    // of what has been enqueued since they were fetched
  std::shared_ptr<FaultReports> recorded_;  // of the graph that is being captured
  struct Launched {
    std::shared_ptr<FaultReports> reports;
    int64_t operation;
  };
  std::vector<Launched> launched_;       // graphs whose reports have not been fetched since
  std::vector<Failure> failures_;        // since the last fence; the watcher's thread only, as what follows
  std::shared_ptr<const Error> unread_;  // why something could not be read since
  const bool blocking_;  // HEED_CUDA_BLOCKING=1: every launch is waited for, so that an error names its operation
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<Submitter> submitter_;  // last: stops before what it uses goes
};

template <class Call>
void Stream::submit(const char* op, const char* doing, Call call) {
  if (direct()) return finish(call(), op, doing);
  later([this, op, doing, call = std::move(call)] { finish(call(), op, doing); }, fail_operation());
}

}  // namespace heed::cuda
