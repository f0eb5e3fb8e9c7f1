// Puts calls into the driver's stream in the order in which they are made. Usually each goes there at once, on the
// thread that makes it. One that has to wait for the host (for bytes of another device, or for pinned memory to become
// free) waits on a thread of its own, and everything after it waits behind it. So nothing in the driver ever waits for
// the host: no host function of a stream blocks, and whatever is in a stream runs to its end whatever else happens.
//
// What waits depends only on work that was enqueued before it, on whichever device, so that no circle can arise.
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

  // Whether nothing waits, so that the next call may go to the driver at once.
  bool idle() const { return waiting_.load(std::memory_order_acquire) == 0; }
  // Has the thread call `submit` after everything that was given before. It may wait there, and must not throw.
  void later(std::function<void()> submit);
  // Waits until nothing waits.
  void drain();
  // Drops what has not begun and waits for what has. What is given later is dropped.
  void stop();
  // On the thread itself: nothing that waits begins any more, and stop() drops it.
  void abandon() { stopping_.store(true, std::memory_order_relaxed); }
  // Whether what is in progress should end early.
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

 private:
  void work();

  Card& card_;
  std::atomic<int64_t> waiting_{0};  // given and not yet done
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<std::function<void()>> calls_;
  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace heed::cuda
