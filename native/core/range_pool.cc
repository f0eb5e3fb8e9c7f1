#include "core/range_pool.h"

#include <iterator>

namespace heed {

void RangePool::insert(char* range, size_t bytes) {
  free_.emplace(range, bytes);
  by_size_.emplace(bytes, range);
}

void RangePool::erase(std::map<char*, size_t>::iterator range) {
  by_size_.erase({range->second, range->first});
  free_.erase(range);
}

void RangePool::add(char* segment, size_t bytes) {
  segments_.emplace(segment, bytes);
  reserved_ += bytes;
  insert(segment, bytes);
}

char* RangePool::take(size_t bytes) {
  const auto found = by_size_.lower_bound({bytes, nullptr});
  if (found == by_size_.end()) return nullptr;
  const auto [size, range] = *found;
  erase(free_.find(range));
  if (size > bytes) insert(range + bytes, size - bytes);
  return range;
}

void RangePool::put(char* block, size_t bytes) {
  const auto after = free_.find(block + bytes);
  if (after != free_.end() && !segments_.count(after->first)) {
    bytes += after->second;
    erase(after);
  }
  const auto next = free_.lower_bound(block);
  if (next != free_.begin() && !segments_.count(block)) {
    const auto before = std::prev(next);
    if (before->first + before->second == block) {
      block = before->first;
      bytes += before->second;
      erase(before);
    }
  }
  insert(block, bytes);
}

std::vector<RangePool::Range> RangePool::whole_segments() const {
  std::vector<Range> whole;
  for (const auto& [segment, bytes] : segments_) {
    const auto range = free_.find(segment);
    if (range != free_.end() && range->second == bytes) whole.emplace_back(segment, bytes);
  }
  return whole;
}

std::vector<RangePool::Range> RangePool::take_segments() {
  std::vector<Range> whole = whole_segments();
  for (const auto& [segment, bytes] : whole) {
    erase(free_.find(segment));
    segments_.erase(segment);
    reserved_ -= bytes;
  }
  return whole;
}

}  // namespace heed
