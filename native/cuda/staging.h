// Pinned host memory through which uploads and reads go, so that copies are asynchronous. Blocks are kept for reuse up
// to a limit.
#pragma once
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace heed::cuda {

class Reaper;

class Staging {
 public:
  explicit Staging(Reaper& reaper) : reaper_(reaper) {}
  ~Staging();

  struct Block {
    void* data;
    size_t bytes;
  };
  // Throws ERR_OOM where the host has no such memory left.
  Block take(size_t bytes, const char* op);
  void give(Block block);

 private:
  static constexpr size_t kKept = size_t{64} << 20;

  Reaper& reaper_;
  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  size_t free_bytes_ = 0;
};

}  // namespace heed::cuda
