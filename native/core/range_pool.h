// Free ranges of memory segments, which are handed out by best fit, split, and joined again.
//
// It is best fit because blocks come in few sizes that repeat: a range that one size left is not cut up for another
// size as long as another range fits better. Ranges of different segments never join. Not thread-safe.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace heed {

class RangePool {
 public:
  using Range = std::pair<char*, size_t>;

  // Adds a new segment, all of which is free. `backed` says if the system has given memory for it already: it may also
  // give it when a page is first written.
  void add(char* segment, size_t bytes, bool backed = true);
  // Returns `bytes` from the smallest free range that has them, or null if there is none. Among equal ranges it takes
  // the first in memory.
  char* take(size_t bytes);
  // Gives back memory from take(), or a part of it. `last_use` is the point of the queue after which nothing uses it.
  // It never falls from one call to the next.
  void put(char* block, size_t bytes, uint64_t last_use = 0);
  // A segment that is completely free, and the last use of all its ranges. take_segments() removes these segments from
  // the pool.
  struct Segment {
    char* data;
    size_t bytes;
    uint64_t last_use;
  };
  bool has_whole_segment() const;
  std::vector<Segment> take_segments();
  std::vector<Range> free_ranges() const;
  // Notes that the system has taken back what is behind the free ranges.
  void discarded();
  // Returns the bytes of free ranges that have no memory behind them, about: if one was joined from ranges with and
  // without, take() is assumed to take the memory first.
  size_t unbacked() const;
  size_t reserved() const { return reserved_; }  // bytes of all segments

 private:
  struct Free {
    size_t bytes;
    size_t unbacked;
  };
  void insert(char* range, const Free& free);
  void erase(std::map<char*, Free>::iterator range);
  bool is_whole(char* segment, size_t bytes) const;

  struct Extent {
    size_t bytes;
    uint64_t last_use;
  };
  std::map<char*, Extent> segments_;
  std::map<char*, Free> free_;                  // ordered by address
  std::set<std::pair<size_t, char*>> by_size_;  // the same ranges
  size_t reserved_ = 0;
};

}  // namespace heed
