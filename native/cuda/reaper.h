// A thread that returns memory to the driver, the device's and pinned memory of the host. The driver waits for
// everything that is enqueued before it takes a block back, and that may wait for bytes of another device: neither the
// JavaScript thread, which has them sent, nor the watcher, which signals that they have come, can be the one to wait.
#pragma once
#include <condition_variable>
#include <deque>
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
  void free_host(void* block);
  bool idle();
  // Waits until everything is freed.
  void drain();

 private:
  struct Block {
    CUdeviceptr device;  // one of the two
    void* host;
  };
  void push(Block block);
  void work();

  Card& card_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Block> blocks_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace heed::cuda
