// A thread that returns memory to the driver, which waits for everything that is in its streams before it takes a block
// back: neither the JavaScript thread nor the watcher should be the one to wait.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "cuda/driver.h"

namespace heed::cuda {

class Card;

class Reaper {
 public:
  explicit Reaper(Card& card);
  ~Reaper();  // once everything is freed
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  void free(CUdeviceptr block);
  // Calls `action` once what was given before is freed; drops it after stop().
  void then(std::function<void()> action);
  // No action is called from now on. Memory still is freed.
  void stop();
  bool idle();
  // Waits until everything is freed.
  void drain();

 private:
  struct Item {
    CUdeviceptr block;
    std::function<void()> action;  // instead of a block
  };
  void push(Item item);
  void work();

  Card& card_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Item> items_;
  bool busy_ = false;
  bool stopped_ = false;
  bool ending_ = false;
  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace heed::cuda
