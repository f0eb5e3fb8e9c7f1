#include "core/allocator.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <utility>

#include "core/error.h"

namespace heed {

namespace {

constexpr size_t kLargestSmall = size_t{1} << 20;
constexpr size_t kPage = 4096;                 // large sizes are multiples of it
constexpr size_t kHugePage = size_t{2} << 20;  // sizes of segments are multiples of it
constexpr size_t kLargestGrowth = size_t{128} << 20;

// Sizes of small blocks: a smallest one, and then eight in each power of two. Near sizes share blocks, and at most 12.5
// % of a block is lost.
constexpr size_t kSmallest = 512;
constexpr int kSmallestBits = 9, kStepBits = 3;

// Returns the index of the first small size that holds `bytes`.
int small_size_for(size_t bytes) {
  if (bytes <= kSmallest) return 0;
  const int top = 63 - __builtin_clzll(bytes - 1);
  return (top - kSmallestBits) * (1 << kStepBits) + static_cast<int>(((bytes - 1) >> (top - kStepBits)) & 7) + 1;
}
size_t small_size(int at) {
  if (at == 0) return kSmallest;
  const int power = kSmallestBits + (at - 1) / 8;
  return (size_t{1} << power) + (static_cast<size_t>((at - 1) % 8 + 1) << (power - kStepBits));
}

constexpr size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }
constexpr bool is_large(size_t size) { return size > kLargestSmall; }

}  // namespace

CachingAllocator::CachingAllocator(bool caching) : caching_(caching) {}
CachingAllocator::~CachingAllocator() = default;

size_t CachingAllocator::rounded(size_t bytes) const {
  if (!caching_) return bytes + !bytes;
  return is_large(bytes) ? round_up(bytes, kPage) : small_size(small_size_for(bytes));
}

Block CachingAllocator::take_cached(size_t size) {
  Block block{nullptr, size};
  if (is_large(size)) {
    block.data = pool_.take(size);
  } else if (caching_) {
    // A larger block also serves as long as it wastes little. Otherwise odd sizes would each keep a block of their own.
    for (int at = small_size_for(size); at < kSmallSizes && small_size(at) <= size + size / 4; at++) {
      if (cache_[at].empty()) continue;
      block = {cache_[at].back(), small_size(at)};
      cache_[at].pop_back();
      break;
    }
  }
  if (block.data) stats_.cached -= static_cast<int64_t>(block.size);
  return block;
}

Block CachingAllocator::from_system(size_t size) {
  if (!caching_ || !is_large(size)) return {system_allocate(size), size};
  // Segments grow with the memory in use. So little memory is reserved in vain, and ranges have room to join.
  const size_t least = round_up(size, kHugePage), growth = pool_.reserved() / 2 / kHugePage * kHugePage;
  for (size_t bytes = std::max(least, std::min(growth, kLargestGrowth));; bytes = least) {
    if (void* segment = system_allocate(bytes)) {
      pool_.add(static_cast<char*>(segment), bytes, !system_lazy());
      stats_.cached += static_cast<int64_t>(bytes);
      return take_cached(size);
    }
    if (bytes == least) return {};
  }
}

Block CachingAllocator::allocate(size_t bytes, const char* op) {
  if (bytes > (size_t{1} << 46)) fail(Code::oom, "%s: expected to allocate less than 64 TiB, got %zu bytes", op, bytes);
  const size_t size = rounded(bytes);
  Block block = holding_ ? take_held(size) : Block{};  // no longer counted as cached
  if (!block.data) block = take_cached(size);
  if (!block.data) block = from_system(size);
  if (!block.data && !holding_ && waiting_helps()) {
    release_cached();
    block = from_system(size);
    for (bool more = true; !block.data && more; block = from_system(size)) more = wait_released();
  }
  if (!block.data) {
    char available[64] = "";
    const int64_t left = system_available();
    if (left >= 0) std::snprintf(available, sizeof available, ", %lld free", static_cast<long long>(left));
    fail(Code::oom, "%s: out of memory allocating %zu bytes (%lld bytes live, peak %lld%s)", op, bytes,
         static_cast<long long>(stats_.live), static_cast<long long>(stats_.peak), available);
  }
  block.requested = bytes;
  stats_.live += static_cast<int64_t>(bytes);
  stats_.allocations++;
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return block;
}

bool CachingAllocator::waiting_helps() {
  const auto holds = [](const std::vector<void*>& blocks) { return !blocks.empty(); };
  return std::any_of(std::begin(cache_), std::end(cache_), holds) || pool_.has_whole_segment() || system_releasing();
}

void CachingAllocator::free(const Block& block) {
  stats_.live -= static_cast<int64_t>(block.requested);
  stats_.allocations--;
  if (holding_) {
    held_.push_back(block);
    return;
  }
  if (!caching_) return system_free(block.data, block.size, position());
  if (is_large(block.size))
    pool_.put(static_cast<char*>(block.data), block.size, position());
  else
    cache_[small_size_for(block.size)].push_back(block.data);
  stats_.cached += static_cast<int64_t>(block.size);
}

Block CachingAllocator::take_held(size_t size) {
  if (!caching_) return {};
  for (size_t i = 0; i < held_.size(); i++)
    if (held_[i].size >= size && held_[i].size <= size + size / 4) {
      const Block found = held_[i];
      held_[i] = held_.back();
      held_.pop_back();
      return found;
    }
  return {};
}

void CachingAllocator::begin_hold() { holding_ = true; }

std::vector<Block> CachingAllocator::end_hold() {
  holding_ = false;
  for (Block& held : held_) {
    held.requested = held.size;
    stats_.live += static_cast<int64_t>(held.size);
    stats_.allocations++;
  }
  if (stats_.live > stats_.peak) stats_.peak = stats_.live;
  return std::move(held_);
}

void CachingAllocator::give_back(const std::vector<Block>& blocks) {
  for (const Block& block : blocks) free(block);
}

void CachingAllocator::release_cached() {
  for (int at = 0; at < kSmallSizes; at++)
    for (void* block : std::exchange(cache_[at], {})) system_free(block, small_size(at), position());
  stats_.cached = 0;
  for (const auto& [segment, bytes, last_use] : pool_.take_segments()) system_free(segment, bytes, last_use);
  for (const auto& [range, bytes] : pool_.free_ranges()) {
    system_discard(range, bytes);
    stats_.cached += static_cast<int64_t>(bytes);
  }
  if (system_lazy()) pool_.discarded();
  system_trim();
}

}  // namespace heed
