// Puts calls into the driver's stream in the order in which they are made. Usually each call goes there at once, on the
// thread that makes it. A call that has to wait for the host (for bytes of another device, or until pinned memory
// becomes free) waits on a thread of its own, and everything after it waits behind it. So nothing in the driver ever
// waits for the host: no host function of a stream blocks, and whatever is in a stream runs to its end, whatever else
// happens.
//
// A call waits only for work that was enqueued before it, on whichever device, so that no circle can arise.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace heed::cuda {

class Card;

class Submitter {
 public:
  explicit Submitter(Card& card);
  ~Submitter();  // stops
  Submitter(const Submitter&) = delete;
  Submitter& operator=(const Submitter&) = delete;

  // Returns true if no call waits, so that the next one may go to the driver at once.
  bool idle() const { return waiting_.load(std::memory_order_acquire) == 0; }
  // Arranges that the thread calls `submit` after everything that was given before. It may wait there and must not
  // throw.
  void later(std::function<void()> submit);
  // Waits until no call waits any more.
  void drain();
  // Drops the calls that have not begun and waits for the one that has. Calls that are given later are dropped.
  void stop();
  // Called on the thread itself: no waiting call begins any more, and stop() drops them.
  void abandon() { stopping_.store(true, std::memory_order_relaxed); }
  // Returns true if the call in progress should end early.
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  void work();

  Card& card_;
  std::atomic<int64_t> waiting_{0};  // calls that were given and are not yet done
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<std::function<void()>> calls_;
  std::thread thread_;  // last, because it starts when the other members exist
};

}  // namespace heed::cuda
