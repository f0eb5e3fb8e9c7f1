// How many calls are in the driver's queue. It has room for about a thousand; whoever makes one more waits until the
// device has done another. So from kMost on, half of that since events are not counted, calls are made by a thread that
// may wait (submitter.h).
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace heed::cuda {

class Backlog {
 public:
  static constexpr uint64_t kMost = 512;
  static constexpr uint64_t kStep = 64;  // after so many calls the device tells how far it is

  bool has_room() const {
    return made_.load(std::memory_order_relaxed) - done_.load(std::memory_order_acquire) < kMost;
  }
  // Another call has been made; how many have. Of one thread at a time.
  uint64_t add() { return made_.fetch_add(1, std::memory_order_relaxed) + 1; }
  // The device has done that many.
  void done(uint64_t calls) {
    {
      const std::lock_guard lock(mutex_);
      done_.store(calls, std::memory_order_release);
    }
    room_.notify_all();
  }
  void wait_for_room() {
    if (has_room()) return;
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return has_room(); });
  }

 private:
  std::atomic<uint64_t> made_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable room_;
};

}  // namespace heed::cuda
