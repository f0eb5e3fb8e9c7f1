#include "core/allocator.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace heed {

namespace {

constexpr size_t kLargestSmall = size_t{1} << 20;
constexpr size_t kPage = 4096;                 // large sizes are multiples of it
constexpr size_t kHugePage = size_t{2} << 20;  // segments' sizes are
constexpr size_t kLargestGrowth = size_t{128} << 20;

constexpr size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }
constexpr bool is_large(size_t size) { return size > kLargestSmall; }

}  // namespace

CachingAllocator::CachingAllocator(bool caching) : caching_(caching) {}
CachingAllocator::~CachingAllocator() = default;

// Small sizes are rounded so that near sizes share blocks: to 1/8 of their power of two, at most 12.5 % lost.
size_t CachingAllocator::rounded(size_t bytes) const {
  constexpr size_t kSmallest = 512;
  if (!caching_) return bytes + !bytes;
  if (is_large(bytes)) return round_up(bytes, kPage);
  if (bytes <= kSmallest) return kSmallest;
  const int top = 63 - __builtin_clzll(bytes - 1);
  return round_up(bytes, (size_t{1} << top) >> 3);
}

void* CachingAllocator::take_cached(size_t size, size_t* block_size) {
  void* block = nullptr;
  if (is_large(size)) {
    block = pool_.take(size);
  } else {
    // A larger block serves too while it wastes little; otherwise odd sizes would each keep a block of their own.
    const auto found = cache_.lower_bound(size);
    if (found == cache_.end() || found->first > size + size / 4) return nullptr;
    *block_size = found->first;
    block = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) cache_.erase(found);
  }
  if (block) stats_.cached -= static_cast<int64_t>(*block_size);
  return block;
}

void* CachingAllocator::from_system(size_t size) {
  if (!caching_ || !is_large(size)) return system_allocate(size);
  // Segments grow with the memory in use, so that little is reserved for nothing and ranges have room to join.
  const size_t least = round_up(size, kHugePage), growth = pool_.reserved() / 2 / kHugePage * kHugePage;
  for (size_t bytes = std::max(least, std::min(growth, kLargestGrowth));; bytes = least) {
    if (void* segment = system_allocate(bytes)) {
      pool_.add(static_cast<char*>(segment), bytes);
      stats_.cached += static_cast<int64_t>(bytes);
      size_t block_size = size;
      return take_cached(size, &block_size);
    }
    if (bytes == least) return nullptr;
  }
}

void* CachingAllocator::allocate(size_t bytes, const char* op) {
  if (bytes > (size_t{1} << 46)) fail(Code::oom, "%s: expected to allocate less than 64 TiB, got %zu bytes", op, bytes);
  const size_t size = rounded(bytes);
  size_t block_size = size;
  void* block = holding_ ? take_held(size, &block_size) : nullptr;  // no longer counted as cached
  if (!block) block = take_cached(size, &block_size);
  if (!block) block = from_system(size);
  if (!block && !holding_ && waiting_helps()) {
    wait_idle();
    release_cached();
    block = from_system(size);
  }
  if (!block) {
    char available[64] = "";
    const int64_t left = system_available();
    if (left >= 0) std::snprintf(available, sizeof available, ", %lld free", static_cast<long long>(left));
    fail(Code::oom, "%s: out of memory allocating %zu bytes (%lld bytes live, peak %lld%s)", op, bytes,
         static_cast<long long>(stats_.live), static_cast<long long>(stats_.peak), available);
  }
  live_.emplace(block, Block{block_size, bytes});
  stats_.live += static_cast<int64_t>(bytes);
  stats_.allocations++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return block;
}

bool CachingAllocator::waiting_helps() {
  return !cache_.empty() || !pool_.whole_segments().empty() || system_releasing();
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
  if (is_large(info.size))
    pool_.put(static_cast<char*>(block), info.size);
  else
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
  for (const auto& [segment, bytes] : pool_.take_segments()) system_free(segment, bytes);
  for (const auto& [range, bytes] : pool_.free_ranges()) {
    system_discard(range, bytes);
    stats_.cached += static_cast<int64_t>(bytes);
  }
  system_trim();
}

}  // namespace heed
