// A thread that waits for a stream's events, in order, and then does what the host had to do after them: copy a read to
// where it belongs, give staging memory back, tell fences. So nobody else ever waits for the device.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/driver.h"

namespace heed::cuda {

class Card;

class Watcher {
 public:
  explicit Watcher(Card& card);
  ~Watcher();  // after stop
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Calls `action(result)` on the thread once everything in the stream so far has run; result is the driver's.
  void after(CUstream stream, std::function<void(CUresult)> action);
  // Waits until nothing is pending.
  void drain();
  // Drops what is pending: once the action in progress has ended and the stream is idle, the others are destroyed, not
  // called. What `after` is given later is called at once.
  void stop(CUstream stream);

 private:
  struct Item {
    CUevent event;    // null: there was none to be had
    CUresult result;  // of making and recording it
    std::function<void(CUresult)> action;
  };
  void work();
  CUresult take_event(CUevent* event);

  Card& card_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Item> items_;
  std::vector<CUevent> events_;  // to be used again
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace heed::cuda
