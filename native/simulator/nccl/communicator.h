// A communicator of the software NCCL: a thread that does what a call begins, and the part of each operation that runs
// in its stream. A stream copies the input to pinned memory, a host function exchanges it with the other processes, and
// the stream copies the result back, so that the device's sanitizer sees both copies.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "comm/nccl.h"
#include "simulator/nccl/driver.h"
#include "simulator/nccl/room.h"
#include "simulator/nccl/settings.h"

struct heed::comm::ncclComm {
 public:
  ncclComm(int size, std::string name, int rank, bool blocking);
  ~ncclComm();

  using Result = heed::comm::NcclResult;
  using Call = heed::nccl_simulator::Call;

  // Joins the other processes.
  Result join();
  Result enqueue(const Call& call, const void* in, void* out, heed::cuda::CUstream stream);
  // Waits until the operations of all processes have ended.
  Result finalize();
  // Releases everything that waits for other processes.
  void abort();

  Result state() const { return state_.load(std::memory_order_acquire); }
  std::string last_error() const;
  int size() const { return size_; }

 private:
  struct Operation;
  Result start(std::function<Result()> body);
  void work();
  void fail(Result error, const std::string& why);
  bool faulty(uint64_t operation) const;
  // Waits until the communicator is aborted.
  void hang() const;
  Result issue(const std::shared_ptr<Operation>& operation);
  // Adds the exchange of `count` elements to a stream.
  Result exchange(const std::shared_ptr<Operation>& operation, size_t count, bool first, bool last);
  void run(Operation& operation, size_t count, bool first, bool last);
  void combine(const Operation& operation, size_t count) const;
  void log(const Operation& operation, const char* event) const;

  const heed::nccl_simulator::Settings settings_ = heed::nccl_simulator::read_settings();
  const int size_, rank_;
  const bool blocking_;
  const heed::nccl_simulator::Driver& driver_;
  heed::cuda::CUcontext context_ = nullptr;
  heed::nccl_simulator::Room room_;
  char *own_ = nullptr, *result_ = nullptr;  // pinned: what this rank shows, and one slot a rank
  uint64_t operations_ = 0;
  std::atomic<Result> state_{heed::comm::success};
  std::atomic<bool> aborted_{false};
  std::atomic<int> pending_{0};  // host functions in streams
  mutable std::mutex mutex_;
  std::condition_variable wake_, settled_;
  std::deque<std::function<Result()>> calls_;
  std::string last_error_;
  bool ending_ = false;
  std::thread thread_;  // last, because it starts when the other members exist
};
