#include "core/range_pool.h"

#include <algorithm>
#include <iterator>

namespace heed {

void RangePool::insert(char* range, const Free& free) {
  free_.emplace(range, free);
  by_size_.emplace(free.bytes, range);
}

void RangePool::erase(std::map<char*, Free>::iterator range) {
  by_size_.erase({range->second.bytes, range->first});
  free_.erase(range);
}

void RangePool::add(char* segment, size_t bytes, bool backed) {
  segments_.emplace(segment, Extent{bytes, 0});
  reserved_ += bytes;
  insert(segment, {bytes, backed ? 0 : bytes});
}

std::vector<RangePool::Range> RangePool::free_ranges() const {
  std::vector<Range> ranges;
  for (const auto& [range, free] : free_) ranges.emplace_back(range, free.bytes);
  return ranges;
}

void RangePool::discarded() {
  for (auto& [range, free] : free_) free.unbacked = free.bytes;
}

size_t RangePool::unbacked() const {
  size_t bytes = 0;
  for (const auto& [range, free] : free_) bytes += free.unbacked;
  return bytes;
}

char* RangePool::take(size_t bytes) {
  const auto found = by_size_.lower_bound({bytes, nullptr});
  if (found == by_size_.end()) return nullptr;
  const auto [size, range] = *found;
  const auto at = free_.find(range);
  const size_t unbacked = at->second.unbacked;
  erase(at);
  if (size > bytes) insert(range + bytes, {size - bytes, std::min(unbacked, size - bytes)});
  return range;
}

void RangePool::put(char* block, size_t bytes, uint64_t last_use) {
  std::prev(segments_.upper_bound(block))->second.last_use = last_use;
  size_t unbacked = 0;
  const auto after = free_.find(block + bytes);
  if (after != free_.end() && !segments_.count(after->first)) {
    bytes += after->second.bytes;
    unbacked += after->second.unbacked;
    erase(after);
  }
  const auto next = free_.lower_bound(block);
  if (next != free_.begin() && !segments_.count(block)) {
    const auto before = std::prev(next);
    if (before->first + before->second.bytes == block) {
      block = before->first;
      bytes += before->second.bytes;
      unbacked += before->second.unbacked;
      erase(before);
    }
  }
  insert(block, {bytes, unbacked});
}

bool RangePool::is_whole(char* segment, size_t bytes) const {
  const auto range = free_.find(segment);
  return range != free_.end() && range->second.bytes == bytes;
}

bool RangePool::has_whole_segment() const {
  return std::any_of(segments_.begin(), segments_.end(),
                     [this](const auto& entry) { return is_whole(entry.first, entry.second.bytes); });
}

std::vector<RangePool::Segment> RangePool::take_segments() {
  std::vector<Segment> whole;
  for (auto at = segments_.begin(); at != segments_.end();) {
    const auto [segment, extent] = *at;
    if (!is_whole(segment, extent.bytes)) {
      ++at;
      continue;
    }
    whole.push_back({segment, extent.bytes, extent.last_use});
    erase(free_.find(segment));
    reserved_ -= extent.bytes;
    at = segments_.erase(at);
  }
  return whole;
}

}  // namespace heed
