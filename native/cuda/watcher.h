// A thread that waits for a stream's events, in order, and then does the host's part of the work: it copies a read to
// its destination, gives staging memory back and reports to fences. So no other thread ever waits for the device.
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
  ~Watcher();  // to be called after stop()
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Calls `action(result)` on the thread once everything in the stream so far has run. `result` is the driver's.
  void after(CUstream stream, std::function<void(CUresult)> action);
  // Waits until no action is pending.
  void drain();
  // Drops pending actions: once the action in progress has ended and the stream is idle, the others are destroyed
  // without being called. An action that `after` is given later is called at once.
  void stop(CUstream stream);

 private:
  struct Item {
    CUevent event;    // null if no event could be made
    CUresult result;  // result of making and recording it
    std::function<void(CUresult)> action;
  };
  void work();
  CUresult take_event(CUevent* event);

  Card& card_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Item> items_;
  std::vector<CUevent> events_;  // events for reuse
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last, because it starts when the other members exist
};

}  // namespace heed::cuda
