// The memory of a CUDA stream: the caching allocator over the driver's.
#pragma once
#include <map>
#include <vector>

#include "core/allocator.h"

namespace heed::cuda {

class Stream;

// Small blocks share slabs: the driver hands out memory in pages of 2 MiB. Where it has no whole page left, a block is
// a slab of its own. HEED_CUDA_CACHE=0 gives each block memory of its own, of the size asked for, and returns it to the
// driver when it is freed: what memory checkers need to see.
class Allocator final : public CachingAllocator {
 public:
  explicit Allocator(Stream& stream);
  ~Allocator() override;

 private:
  struct Slab {
    size_t piece = 0;         // bytes of each
    size_t pieces = 0;        // all of them
    std::vector<char*> free;  // those not handed out
  };

  void* system_allocate(size_t bytes) override;
  void system_free(void* block, size_t bytes) override;
  bool system_releasing() override;
  void wait_idle() override;
  int64_t system_available() override;

  Stream& stream_;
  const bool pieces_;                          // whether small blocks share slabs
  std::map<char*, Slab> slabs_;                // by address
  std::map<size_t, std::vector<char*>> open_;  // slabs with free pieces, by the size of those
};

}  // namespace heed::cuda
