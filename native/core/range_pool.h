// Free ranges of memory segments, which are handed out by best fit, split, and joined again.
//
// It is best fit because blocks come in few sizes that repeat: a range that one size left is not cut up for another
// size as long as another range fits better. Ranges of different segments never join. Not thread-safe.
#pragma once
#include <cstddef>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace heed {

class RangePool {
 public:
  using Range = std::pair<char*, size_t>;

  // Adds a new segment, all of which is free.
  void add(char* segment, size_t bytes);
  // Returns `bytes` from the smallest free range that has them, or null if there is none. Among equal ranges it takes
  // the first in memory.
  char* take(size_t bytes);
  // Gives back memory from take(), or a part of it.
  void put(char* block, size_t bytes);
  // Segments that are completely free. take_segments() removes them from the pool.
  std::vector<Range> whole_segments() const;
  std::vector<Range> take_segments();
  std::vector<Range> free_ranges() const { return {free_.begin(), free_.end()}; }
  size_t reserved() const { return reserved_; }  // bytes of all segments

 private:
  void insert(char* range, size_t bytes);
  void erase(std::map<char*, size_t>::iterator range);

  std::map<char*, size_t> segments_;
  std::map<char*, size_t> free_;                // ordered by address
  std::set<std::pair<size_t, char*>> by_size_;  // the same ranges
  size_t reserved_ = 0;
};

}  // namespace heed
