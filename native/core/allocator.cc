#include "core/allocator.h"

#include <cstdio>

#include "core/error.h"

namespace heed {

CachingAllocator::CachingAllocator(bool caching) : caching_(caching) {}
CachingAllocator::~CachingAllocator() = default;

// Sizes are rounded so that near sizes share blocks: to 1/8 of their power of two, at most 12.5 % lost.
size_t CachingAllocator::rounded(size_t bytes) {
  constexpr size_t kSmallest = 512;
  if (bytes <= kSmallest) return kSmallest;
  const int top = 63 - __builtin_clzll(bytes - 1);
  const size_t step = (size_t{1} << top) >> 3;
  return (bytes + step - 1) / step * step;
}

void* CachingAllocator::allocate(size_t bytes, const char* op) {
  if (bytes > (size_t{1} << 46)) fail(Code::oom, "%s: expected to allocate less than 64 TiB, got %zu bytes", op, bytes);
  const size_t size = caching_ ? rounded(bytes) : bytes + !bytes;
  void* block = nullptr;
  // A larger block serves too while it wastes little; otherwise big odd sizes would each keep a block of their own.
  const auto found = cache_.lower_bound(size);
  size_t block_size = size;
  if (holding_ && (block = take_held(size, &block_size))) {
    // its size is no longer counted as cached
  } else if (found != cache_.end() && found->first <= size + size / 4) {
    block_size = found->first;
    block = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) cache_.erase(found);
    stats_.cached -= static_cast<int64_t>(block_size);
  } else {
    block = system_allocate(size);
    if (!block && !holding_) {
      wait_idle();
      release_cached();
      block = system_allocate(size);
    }
    if (!block) {
      char available[64] = "";
      const int64_t left = system_available();
      if (left >= 0) std::snprintf(available, sizeof available, ", %lld free", static_cast<long long>(left));
      fail(Code::oom, "%s: out of memory allocating %zu bytes (%lld bytes live, peak %lld%s)", op, bytes,
           static_cast<long long>(stats_.live), static_cast<long long>(stats_.peak), available);
    }
  }
  live_.emplace(block, Block{block_size, bytes});
  stats_.live += static_cast<int64_t>(bytes);
  stats_.allocations++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return block;
}

void CachingAllocator::free(void* block) {
  const auto found = live_.find(block);
  if (found == live_.end()) fail(Code::internal, "free: expected a block of this allocator");
  const Block info = found->second;
  live_.erase(found);
  stats_.live -= static_cast<int64_t>(info.requested);
  stats_.allocations--;
  if (holding_) {
    held_.push_back({block, info.size});
    return;
  }
  if (!caching_) return system_free(block, info.size);
  cache_[info.size].push_back(block);
  stats_.cached += static_cast<int64_t>(info.size);
}

void* CachingAllocator::take_held(size_t size, size_t* block_size) {
  if (!caching_) return nullptr;
  for (size_t i = 0; i < held_.size(); i++)
    if (held_[i].size >= size && held_[i].size <= size + size / 4) {
      const Held found = held_[i];
      held_[i] = held_.back();
      held_.pop_back();
      *block_size = found.size;
      return found.block;
    }
  return nullptr;
}

void CachingAllocator::begin_hold() { holding_ = true; }

std::vector<CachingAllocator::Held> CachingAllocator::end_hold() {
  holding_ = false;
  for (const Held& held : held_) {
    stats_.live += static_cast<int64_t>(held.size);
    stats_.allocations++;
  }
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return std::move(held_);
}

void CachingAllocator::give_back(const std::vector<Held>& blocks) {
  for (const Held& held : blocks) {
    live_.emplace(held.block, Block{held.size, held.size});
    free(held.block);
  }
}

void CachingAllocator::release_cached() {
  for (auto& [size, blocks] : cache_)
    for (void* block : blocks) system_free(block, size);
  cache_.clear();
  stats_.cached = 0;
  system_trim();
}

}  // namespace heed
