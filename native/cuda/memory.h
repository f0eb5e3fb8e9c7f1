// The memory of a CUDA stream: the caching allocator on top of the driver's memory.
#pragma once
#include <map>
#include <vector>

#include "core/allocator.h"

namespace heed::cuda {

class Stream;

// Small blocks share slabs, because the driver hands out memory in pages of 2 MiB. If the driver has no whole page
// left, a block is a slab of its own. With HEED_CUDA_CACHE=0 each block gets memory of its own, with the size asked
// for, and returns it to the driver when it is freed; memory checkers need this.
class Allocator final : public CachingAllocator {
 public:
  explicit Allocator(Stream& stream);
  ~Allocator() override;

 private:
  struct Slab {
    size_t piece = 0;         // bytes of each piece
    size_t pieces = 0;        // number of pieces
    std::vector<char*> free;  // pieces that are not handed out
  };

  void* system_allocate(size_t bytes) override;
  void system_free(void* block, size_t bytes) override;
  bool system_releasing() override;
  void wait_idle() override;
  int64_t system_available() override;

  Stream& stream_;
  const bool pieces_;                          // true if small blocks share slabs
  std::map<char*, Slab> slabs_;                // ordered by address
  std::map<size_t, std::vector<char*>> open_;  // slabs with free pieces, by the size of the pieces
};

}  // namespace heed::cuda
