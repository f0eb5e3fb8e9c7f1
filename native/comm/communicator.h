// The processes of a distributed run as this process sees them. One thread makes all calls of MPI. It posts operations
// in the order in which JavaScript called them, so that all processes post them in the same order, and none of them
// blocks the thread: it tests what it has posted until it is done. There are three such orders, each with a
// communicator of its own: operations on tensors of the CPU wait until the device's queue has computed them, those on
// numbers of the host do not, and those on tensors of CUDA devices go to NCCL (card_collectives.h).
//
// The thread also finds out whether the other processes live. Every process sends its right neighbour a message twice a
// second, which says how long its JavaScript thread has been busy. If the left neighbour is silent or busy for too
// long, the run has failed: every operation fails with an error that names the process, and if this process does not
// end by itself, the thread ends all of them with MPI_Abort.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "comm/card_collectives.h"
#include "comm/mpi.h"
#include "comm/operation.h"

namespace heed::comm {

struct Settings {
  double timeout = 7;  // seconds of silence after which a process counts as dead
  double grace = 1.5;  // seconds that this process has after a failure, before all are ended
};

// What every process knows after the start.
struct Facts {
  int rank = 0, size = 1, local_rank = 0;
  std::string library, version;
};

class Communicator {
 public:
  // Returns the communicator of this process, or null before open().
  static Communicator* current();
  // Opens the library on a thread of its own, and calls `opened` there with what is known or with an error. A process
  // has one communicator at most: throws ERR_DISTRIBUTED if there is one already.
  static Communicator& open(const Settings& settings,
                            std::function<void(const Facts* facts, const Error* error)> opened);

  // Adds an operation on numbers of the host, or on tensors, to those of its order. After a failure it fails at once.
  // JavaScript thread only.
  enum Order { host, tensors, cards };
  void add(std::unique_ptr<Operation> operation, Order order);
  // Tells the thread that something which it may wait for has happened. Any thread.
  void wake();
  // Notes that a queue waits for an operation, which is then tested more often; `waits` is 1 or -1. Any thread.
  void urge(int waits) {
    urgent_.fetch_add(waits, std::memory_order_relaxed);
    if (waits > 0) wake();
  }

  // Notes that the JavaScript thread lives. While `watched`, others are told if it has been busy for long.
  void tick() { ticked_.store(now(), std::memory_order_relaxed); }
  void watch(bool watched) {
    tick();
    watched_.store(watched, std::memory_order_relaxed);
  }

  // Fails the run because of an error of this process.
  void fail_later(const Error& error);
  // Ends the use of MPI together with all other processes; returns false if that has failed or took too long.
  bool close();
  // Ends all processes of the run at once.
  [[noreturn]] void abort(int code);
  // Stops touching the memory of operations, because it is about to be freed. For the end of an environment.
  void abandon();

  // What is known since `opened` was called without an error.
  const Facts& facts() const { return facts_; }
  // Throws the failure of the run if there is one.
  void expect_alive();

 private:
  using Clock = std::chrono::steady_clock;
  static double now() { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); }

  // An operation that was posted, or a message that is on its way.
  struct Posted {
    std::unique_ptr<Operation> operation;
    Handle request = nullptr;
  };
  // Operations in the order of their calls, and the communicator that they use.
  struct Lane {
    Handle comm = nullptr;
    std::deque<std::unique_ptr<Operation>> waiting;  // guarded by mutex_
    std::deque<Posted> posted;                       // thread only
  };

  explicit Communicator(const Settings& settings) : settings_(settings) {}
  void work(const std::function<void(const Facts*, const Error*)>& opened);
  void start();
  void loop();
  bool post_ready(Lane& lane);
  void post(Lane& lane, std::unique_ptr<Operation> operation);
  bool test(Lane& lane);
  bool posted() const;
  void end(Operation& operation, const Error* error);
  void beat();
  void expect_success(int code, const char* doing);
  void fail_run(const Error& error);
  void finish();
  Handle type_of(Wire wire) const;
  Handle op_of(const Operation& operation) const;

  const Settings settings_;
  Mpi mpi_;
  Facts facts_;
  Handle bf16_sum_ = nullptr, bf16_max_ = nullptr;
  Lane lanes_[3];                         // by order
  std::optional<CardCollectives> cards_;  // after the start
  Handle beats_ = nullptr;
  bool started_ = false;

  // Messages between neighbours: seconds for which the JavaScript thread has been busy, or kGoodbye.
  static constexpr double kGoodbye = -1;
  struct Message {
    double value = 0;
    Handle request = nullptr;
    bool pending = false;
  };
  Message sent_, received_;
  double sent_at_ = 0, heard_at_ = 0;
  bool left_ended_ = false, said_goodbye_ = false;

  std::atomic<int> urgent_{0};
  std::atomic<double> ticked_{0};
  std::atomic<bool> watched_{false};
  std::mutex mutex_;
  std::condition_variable wake_, told_;
  std::atomic<bool> closing_{false};
  bool woken_ = false, closed_ = false, abandoned_ = false;  // guarded by mutex_, like the members that follow
  int aborting_ = -1;
  std::optional<Error> given_;  // a failure that the thread has not seen
  std::optional<Error> failure_;
  double failed_at_ = 0;
};

}  // namespace heed::comm
