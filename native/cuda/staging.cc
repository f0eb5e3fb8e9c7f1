#include "cuda/staging.h"

#include <iterator>

#include "cuda/check.h"

namespace heed::cuda {
namespace {

constexpr size_t kSmallest = size_t{4} << 10;
// Pinning 16 MiB of memory takes milliseconds.
constexpr size_t kLargestAtOnce = size_t{1} << 20;

size_t rounded(size_t bytes) {
  size_t size = kSmallest;
  while (size < bytes && size < Staging::kBlock) size *= 2;
  return size;
}

}  // namespace

Staging::~Staging() {
  for (const auto& [size, data] : free_) driver()->mem_free_host(data);
}

Staging::Block Staging::take_free(size_t size) {
  const auto found = free_.find(size);
  if (found == free_.end()) return {};
  const Block block{found->second, size};
  free_.erase(found);
  in_use_++;
  return block;
}

Staging::Block Staging::allocate(size_t size) {
  if (bytes_ + size > kMost) return {};
  void* data = nullptr;
  refusal_ = driver()->mem_host_alloc(&data, size, CU_MEMHOSTALLOC_PORTABLE);
  if (refusal_ != CUDA_SUCCESS) return {};
  bytes_ += size;
  in_use_++;
  return {data, size};
}

// Gives the largest free block back to the system and returns true if there was one. It unlocks meanwhile, because the
// driver waits for the device.
bool Staging::discard_free(std::unique_lock<std::mutex>& lock) {
  if (free_.empty()) return false;
  const auto [size, data] = *std::prev(free_.end());
  free_.erase(std::prev(free_.end()));
  lock.unlock();
  driver()->mem_free_host(data);
  lock.lock();
  bytes_ -= size;
  return true;
}

Staging::Block Staging::try_take(size_t bytes) {
  const std::lock_guard lock(mutex_);
  const size_t size = rounded(bytes);
  const Block block = take_free(size);
  return block.data || size > kLargestAtOnce ? block : allocate(size);
}

Staging::Block Staging::take(size_t bytes, const char* op) {
  std::unique_lock lock(mutex_);
  for (size_t size = rounded(bytes);;) {
    Block block = take_free(size);
    if (!block.data) block = allocate(size);
    if (block.data) return block;
    if (discard_free(lock)) continue;
    if (in_use_ > 0)
      given_.wait(lock);
    else if (size > kSmallest)
      size /= 2;
    else
      expect_success(refusal_, op, "allocating pinned host memory");
  }
}

void Staging::give(Block block) {
  {
    const std::lock_guard lock(mutex_);
    in_use_--;
    free_.emplace(block.bytes, block.data);
  }
  given_.notify_one();
}

}  // namespace heed::cuda
