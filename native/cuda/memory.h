// The memory of a CUDA stream: the caching allocator on top of the driver's memory.
#pragma once
#include <atomic>
#include <map>
#include <vector>

#include "core/allocator.h"

namespace heed::cuda {

class Stream;

// Small blocks share slabs, because the driver hands out memory in pages of 2 MiB. If the driver has no whole page
// left, a block is a slab of its own. With HEED_CUDA_CACHE=0 each block gets memory of its own, with the size asked
// for, and returns it to the driver when it is freed; memory checkers need this.
//
// If the card has memory pools, the driver allocates and frees in the order of the stream, as this allocator itself
// does: freed memory serves for the next request, and no thread waits. Otherwise, and without the cache, the driver
// takes a block back only when everything in its streams has run (reaper.h).
class Allocator final : public CachingAllocator {
 public:
  static bool caches();  // HEED_CUDA_CACHE
  explicit Allocator(Stream& stream);
  ~Allocator() override;
  // From any thread: the driver takes back so many bytes in the order of the stream.
  void returned(size_t bytes) { returned_ += bytes; }

 private:
  struct Slab {
    size_t piece = 0;         // bytes of each piece
    size_t pieces = 0;        // number of pieces
    std::vector<char*> free;  // pieces that are not handed out
  };

  void* system_allocate(size_t bytes) override;
  void system_free(void* block, size_t bytes, uint64_t last_use) override;
  bool system_releasing() override;
  bool wait_released() override;
  uint64_t position() override;
  int64_t system_available() override;

  char* driver_allocate(size_t bytes);

  Stream& stream_;
  size_t refused_ = 0;                         // bytes of the last request that the driver refused
  std::atomic<size_t> returned_{0};            // bytes freed since the stream was last waited for
  const bool pieces_;                          // true if small blocks share slabs
  std::map<char*, Slab> slabs_;                // ordered by address
  std::map<size_t, std::vector<char*>> open_;  // slabs with free pieces, by the size of the pieces
};

}  // namespace heed::cuda
