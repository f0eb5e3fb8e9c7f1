// A CUDA device of one Node environment: its in-order stream, its memory, and the launch of kernels.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "cuda/backlog.h"
#include "cuda/driver.h"
#include "cuda/fault.h"
#include "cuda/kernel_entry.h"
#include "cuda/memory.h"

namespace heed::cuda {

class Card;
class FaultReports;
class Reaper;
class SideStream;
class Staging;
class Submitter;
class Watcher;

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// The first argument of every host function.
class Stream final : public Device {
 public:
  // `unpack` is called on the thread that launches, for kernels that the card has not loaded.
  // Work in the background gives way to that of other streams.
  explicit Stream(Card& card, Unpack unpack = nullptr, bool background = false);
  ~Stream() override;

  CachingAllocator& allocator() override { return allocator_; }
  void upload(void* destination, const void* source, size_t bytes) override;
  void download(void* destination, const void* source, size_t bytes) override;
  void send(std::shared_ptr<HostBuffer> to, const void* source) override;
  void receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) override;
  bool copy_from(Device& sender, void* destination, const void* source, size_t bytes, const Signals& signals) override;
  void set_background(bool background) override;
  void fence(Fence* fence) override;
  void release_cached(std::unique_ptr<Fence> told) override;
  std::unique_ptr<Timer> start_timer() override;
  void wait_idle() override;
  void stop() override;
  void* native_queue() override;

  // Enqueues a kernel. `params` is copied at the call.
  template <class Params>
  void launch(const char* op, Kernel<Params>& kernel, Grid grid, const Params& params, size_t shared_bytes = 0) {
    launch(op, static_cast<KernelEntry&>(kernel), grid, &params, sizeof params, shared_bytes);
  }
  // These enqueue filling memory with zero bytes, and copying memory within the device.
  void zero(const char* op, void* destination, size_t bytes);
  void copy(const char* op, void* destination, const void* source, size_t bytes);

  // Returns the sink to which a kernel of `op` (a string literal) reports what is wrong with its data. Each operation
  // has its own report, which is read at the next fence.
  FaultSink fault(const char* op);

  // Returns counters for blocks that wait for each other within a launch (kernels/last_block.h). They are zero at its
  // beginning, and its kernel leaves them at zero. There are at most kArrivals of them.
  static constexpr int64_t kArrivals = 4096;
  unsigned* arrivals(const char* op, int64_t count);

  // Returns device memory for FaultReports::kReports reports. It is memory that was given back before, or else new
  // memory.
  FaultReport* take_reports();
  void give_reports(FaultReport* reports) { spare_reports_.push_back(reports); }

  // Returns the stream beside this one, which is made when it is first asked for (detour.h).
  const std::shared_ptr<SideStream>& side(const char* op);

  int multiprocessors() const;
  // Returns the bytes of shared memory that a block can have.
  size_t shared_limit() const;

  // Scratch memory for the kernels that are enqueued until the Workspace goes out of scope. It is given back at the end
  // of the host function; because that happens in queue order, it stays valid until those kernels have run.
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
  friend class StreamDetour;
  // A constructor to delegate to, so that the destructor runs if opening fails half-way.
  struct Unopened {};
  Stream(Card& card, Unpack unpack, bool background, Unopened);
  CUstream make_stream(const char* op) const;
  class EventTimer;
  class RecordedWork;
  class Staged;
  void number_operation(int64_t operation) override { operation_ = operation; }
  void start_recording() override;
  std::unique_ptr<Graph::Work> finish_recording() override;
  // Enqueues reading and clearing the fault reports; the failures that they describe are added to failures_.
  void fetch_faults(const char* op);
  void fetch_faults(const char* op, const FaultReports& reports, int64_t graph);
  void launch(const char* op, KernelEntry& kernel, Grid grid, const void* params, size_t params_bytes,
              size_t shared_bytes);
  void finish(CUresult result, const char* op, const char* doing);
  // Counts a call that has gone to the driver's queue.
  void enqueued();

  // Returns the driver's stream to which kernels and copies on the device go.
  CUstream target() const;
  // Returns true if a call goes to the driver at once, because no earlier call waits for the host and the driver's
  // queue has room.
  bool direct() const;
  // Calls the driver at once or in turn. An immediate failure is thrown; a later one is a failure of the operation.
  template <class Call>
  void submit(const char* op, const char* doing, Call call);
  // Arranges that `body` is called in its turn, on a thread where it may wait for the host. If it throws, `failed` gets
  // the error on the watcher's thread.
  using Failed = std::function<void(const Error& error)>;
  void later(std::function<void()> body, Failed failed);
  Failed fail_operation();
  Failed fail_reads();
  // Arranges that `body`, which calls the driver, is called at once or in its turn, that is, when `before` has been
  // signalled. `then` is destroyed together with it.
  void in_turn(const char* op, std::function<void()> body, const std::shared_ptr<HostBuffer>& before,
               std::shared_ptr<Signal> then);
  // Calls watcher_->after() in its turn.
  void after(std::function<void(CUresult)> action);
  // These copy through pinned memory, in pieces as large as the memory that is available. `kept` is released when all
  // is copied. `taken` is called with one piece after another, on the watcher's thread.
  using Taken = std::function<void(CUresult result, size_t offset, const void* data, size_t bytes)>;
  void copy_in(const char* op, char* destination, const char* source, size_t bytes, const std::shared_ptr<void>& kept);
  void copy_out(const char* op, const char* source, size_t bytes, const Taken& taken, const Failed& failed);
  // Called on the submitter's thread for the part for which copy_out() had no memory at once.
  void copy_out_from(const char* op, const char* source, size_t begin, size_t bytes, const Taken& taken);
  // These copy one piece and return its size.
  size_t put(const char* op, char* destination, const char* source, size_t bytes, const std::shared_ptr<Staged>& staged,
             const std::shared_ptr<void>& kept);
  size_t get(const char* op, const char* source, size_t offset, size_t bytes, const std::shared_ptr<Staged>& staged,
             const Taken& taken);
  // Returns memory to the driver, which has it when everything that was enqueued before `last_use` has run.
  void give_back(void* block, size_t bytes, uint64_t last_use);

  Card& card_;
  const Unpack unpack_;
  const bool pooled_;  // whether the driver takes and gives memory in the stream's order
  Allocator allocator_;
  Backlog backlog_;
  CUstream stream_ = nullptr;
  const bool background_;
  CUstream recording_stream_ = nullptr;  // takes the captured work, so that waiting calls are not captured with it
  std::shared_ptr<SideStream> side_;
  unsigned* arrivals_ = nullptr;  // device memory
  std::vector<FaultReport*> spare_reports_;
  int64_t operation_ = 0;
  std::unique_ptr<FaultReports> faults_;    // reports of operations enqueued since the last fetch
  std::shared_ptr<FaultReports> recorded_;  // reports of the graph that is being captured
  struct Launched {
    std::shared_ptr<FaultReports> reports;
    int64_t operation;
  };
  std::vector<Launched> launched_;       // graphs launched since their reports were last fetched
  std::vector<Failure> failures_;        // since the last fence; watcher's thread only, like the next member
  std::shared_ptr<const Error> unread_;  // reason why a read has failed since then
  const bool blocking_;  // HEED_CUDA_BLOCKING=1: every launch is waited for, so that an error names its operation
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<Watcher> watcher_;
  std::unique_ptr<Submitter> submitter_;  // last, because it stops before the members that it uses are destroyed
};

template <class Call>
void Stream::submit(const char* op, const char* doing, Call call) {
  if (direct()) {
    finish(call(), op, doing);
    if (!capturing()) enqueued();
    return;
  }
  const auto body = [this, op, doing, call = std::move(call)] {
    finish(call(), op, doing);
    enqueued();
  };
  later(body, fail_operation());
}

}  // namespace heed::cuda
