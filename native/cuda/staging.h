// Pinned host memory through which uploads and reads go, so that copies are asynchronous. Its amount is bounded, and
// its blocks are kept for reuse.
//
// A block is taken when the copy through it is about to be submitted, never for a copy that waits behind others. So a
// thread that waits for a block waits only for copies that are already in the driver's stream.
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
  // Returns a block of `bytes`, or of kBlock if `bytes` is larger. Returns an empty block instead of waiting.
  Block try_take(size_t bytes);
  // Waits if there is no block. If the host has too little memory to pin, the block is smaller; throws ERR_OOM if there
  // is none at all. For the submitter's thread, because it may wait for the device.
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
  int in_use_ = 0;    // number of blocks that are taken
  int refusal_ = 0;   // the driver's reason the last time that it gave no memory
};

}  // namespace heed::cuda
