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
#include <map>
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
  // Returns how many calls have been given so far.
  uint64_t given() const { return given_; }
  // Calls `action` when the first `number` calls are done: at once if they are done already or never will be. It must
  // neither wait nor throw.
  void after(uint64_t number, std::function<void()> action);
  // Returns true if some of these actions have not been called yet.
  bool will_act();
  // Waits until one more of these actions has been called. Returns false if none is left.
  bool wait_action();
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
  void act(std::unique_lock<std::mutex>& lock);

  Card& card_;
  std::atomic<int64_t> waiting_{0};  // calls that were given and are not yet done
  uint64_t given_ = 0;               // JavaScript thread only
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_, idle_, acted_;
  std::deque<std::function<void()>> calls_;
  uint64_t done_ = 0;
  std::multimap<uint64_t, std::function<void()>> actions_;  // by the number of calls that must be done
  size_t to_act_ = 0;                                       // actions that wait or are being called
  std::thread thread_;                                      // last, because it starts when the other members exist
};

}  // namespace heed::cuda
