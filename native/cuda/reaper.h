// A thread that returns memory to the driver. Before the driver takes a block back, it waits for everything in its
// streams; neither the JavaScript thread nor the watcher should wait for that.
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
  ~Reaper();  // returns once everything is freed
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;

  void free(CUdeviceptr block);
  // Calls `action` once all blocks that were given before are freed; drops it after stop().
  void then(std::function<void()> action);
  // No action is called after this. Memory is still freed.
  void stop();
  bool idle();
  // Waits until everything is freed.
  void drain();

 private:
  struct Item {
    CUdeviceptr block;
    std::function<void()> action;  // if set, there is no block
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
  std::thread thread_;  // last, because it starts when the other members exist
};

}  // namespace heed::cuda
