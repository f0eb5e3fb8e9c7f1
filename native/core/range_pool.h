// Free ranges of memory segments, handed out by best fit, split, and joined again.
//
// Best fit, because blocks come in few sizes that repeat: a range that was left by one size is not cut up for another
// while there is one that fits better. Ranges of different segments never join. Not thread-safe.
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

  // A new segment, all of it free.
  void add(char* segment, size_t bytes);
  // `bytes` of the smallest free range that has them, of equal ones the first in memory; null where there is none.
  char* take(size_t bytes);
  // Gives back what `take` gave, or a part of it.
  void put(char* block, size_t bytes);
  // Segments that are free as a whole; once taken they are no longer part of the pool.
  std::vector<Range> whole_segments() const;
  std::vector<Range> take_segments();
  std::vector<Range> free_ranges() const { return {free_.begin(), free_.end()}; }
  size_t reserved() const { return reserved_; }  // bytes of all segments

 private:
  void insert(char* range, size_t bytes);
  void erase(std::map<char*, size_t>::iterator range);

  std::map<char*, size_t> segments_;
  std::map<char*, size_t> free_;                // by address
  std::set<std::pair<size_t, char*>> by_size_;  // the same
  size_t reserved_ = 0;
};

}  // namespace heed
