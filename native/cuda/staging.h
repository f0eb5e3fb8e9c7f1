// Pinned host memory through which uploads and reads go, so that copies are asynchronous: a bounded amount of it in
// blocks, which are kept for reuse.
//
// A block is taken when the copy through it is about to be submitted, never for a copy that waits behind others. So
// whoever waits for one waits only for copies that are in the driver's stream already.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>

namespace heed::cuda {

class Staging {
 public:
  static constexpr size_t kMost = size_t{64} << 20;   // bytes of all blocks
  static constexpr size_t kBlock = size_t{16} << 20;  // bytes of the largest block

  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  struct Block {
    void* data = nullptr;
    size_t bytes = 0;
  };
  // A block of `bytes`, or of kBlock for more; an empty one where that would mean waiting.
  Block try_take(size_t bytes);
  // Waits for a block where there is none. Where the host has too little memory to pin, the block is smaller; throws
  // ERR_OOM where there is none at all. For the submitter's thread: it may wait for the device.
  Block take(size_t bytes, const char* op);
  void give(Block block);

 private:
  Block take_free(size_t size);
  Block allocate(size_t size);
  bool discard_free(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable given_;
  std::multimap<size_t, void*> free_;
  size_t bytes_ = 0;  // of all blocks
  int in_use_ = 0;    // blocks that are taken
  int refusal_ = 0;   // why the driver gave no memory, the last time that it did not
};

}  // namespace heed::cuda
