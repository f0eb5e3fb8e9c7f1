#include "cuda/staging.h"

#include "core/error.h"
#include "cuda/check.h"
#include "cuda/reaper.h"

namespace heed::cuda {
namespace {

size_t rounded(size_t bytes) {
  size_t size = size_t{4} << 10;
  while (size < bytes && size < (size_t{16} << 20)) size *= 2;
  constexpr size_t kPage = 4096;
  return size < bytes ? (bytes + kPage - 1) / kPage * kPage : size;
}

}  // namespace

Staging::~Staging() {
  for (const auto& [size, data] : free_) driver()->mem_free_host(data);
}

Staging::Block Staging::take(size_t bytes, const char* op) {
  const size_t size = rounded(bytes);
  {
    const std::lock_guard lock(mutex_);
    const auto found = free_.find(size);
    if (found != free_.end()) {
      const Block block{found->second, size};
      free_.erase(found);
      free_bytes_ -= size;
      return block;
    }
  }
  void* data = nullptr;
  const CUresult result = driver()->mem_host_alloc(&data, size, CU_MEMHOSTALLOC_PORTABLE);
  expect_success(result, op, "allocating pinned host memory");
  return {data, size};
}

void Staging::give(Block block) {
  bool keep;
  {
    const std::lock_guard lock(mutex_);
    keep = free_bytes_ + block.bytes <= kKept;
    if (keep) {
      free_.emplace(block.bytes, block.data);
      free_bytes_ += block.bytes;
    }
  }
  if (!keep) reaper_.free_host(block.data);
}

}  // namespace heed::cuda
