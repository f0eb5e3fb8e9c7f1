// Tests RangePool with ranges of fake addresses, against a map of the free bytes.
#include "core/range_pool.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "check.h"

namespace heed::test {
namespace {

char* at(uintptr_t address) { return reinterpret_cast<char*>(address); }

void expect(bool holds, const char* what) {
  if (!holds) report("%s", what);
}

std::vector<RangePool::Range> taken(RangePool& pool) {
  std::vector<RangePool::Range> ranges;
  for (const auto& segment : pool.take_segments()) ranges.emplace_back(segment.data, segment.bytes);
  return ranges;
}

}  // namespace

TEST(range_pool_fits_best) {
  RangePool pool;
  pool.add(at(1000), 500);
  pool.add(at(3000), 100);
  pool.add(at(2000), 100);
  expect(pool.reserved() == 700, "700 bytes reserved");
  expect(pool.take(90) == at(2000), "the smallest that fits, of equal ones the first in memory");
  expect(pool.take(100) == at(3000), "the one left of 100");
  expect(pool.take(501) == nullptr, "none of 501");
  expect(pool.take(11) == at(1000), "not the rest of 10");
  expect(pool.take(10) == at(2090), "the rest of 10");
}

TEST(range_pool_knows_what_has_no_memory_behind_it) {
  RangePool pool;
  pool.add(at(1000), 500, /*backed=*/false);
  pool.add(at(2000), 300);
  expect(pool.unbacked() == 500, "a new segment has none");
  char* first = pool.take(400);
  expect(first == at(1000) && pool.unbacked() == 100, "its rest has none");
  pool.put(first, 400);
  expect(pool.unbacked() == 100, "what was used has some, also when it has joined the rest");
  char* again = pool.take(450);
  expect(pool.unbacked() == 50, "what is taken is backed from then on");
  pool.put(again, 450);
  char* whole = pool.take(300);
  expect(whole == at(2000), "the other segment");
  pool.discarded();
  expect(pool.unbacked() == 500, "all of what is free was given back");
  pool.put(whole, 300);
  expect(pool.unbacked() == 500, "what comes back later is backed");
}

TEST(range_pool_joins_neighbours_of_a_segment) {
  RangePool pool;
  // Segments that happen to lie side by side are not joined.
  pool.add(at(1000), 300);
  pool.add(at(1300), 300);
  char* blocks[6];
  for (char*& block : blocks) block = pool.take(100);
  expect(pool.take(1) == nullptr, "nothing left");
  expect(pool.take_segments().empty(), "no segment free as a whole");
  for (int i : {1, 3, 5, 0, 4, 2}) pool.put(blocks[i], 100);
  using Ranges = std::vector<RangePool::Range>;
  expect(pool.free_ranges() == Ranges{{at(1000), 300}, {at(1300), 300}}, "two ranges");
  expect(pool.take(301) == nullptr, "none across segments");
  char* block = pool.take(200);
  expect(taken(pool) == Ranges{{at(1300), 300}}, "the segment that nobody uses");
  expect(pool.reserved() == 300 && pool.free_ranges() == Ranges{{at(1200), 100}}, "it is gone");
  pool.put(block + 100, 100, 5);
  expect(!pool.has_whole_segment(), "a part is in use");
  pool.put(block, 50, 7);
  pool.put(block + 50, 50, 9);
  expect(pool.has_whole_segment(), "a block that comes back in parts");
  const RangePool::Segment last = pool.take_segments().at(0);
  expect(last.data == at(1000) && last.bytes == 300 && last.last_use == 9, "the last use of all its parts");
  expect(pool.reserved() == 0 && pool.free_ranges().empty() && pool.take(1) == nullptr, "nothing left");
}

TEST(range_pool_never_hands_out_what_is_in_use) {
  RangePool pool;
  std::vector<bool> used(3000);
  for (uintptr_t segment : {0, 1000, 2000}) pool.add(at(4096 + segment), 1000);
  std::vector<std::pair<char*, size_t>> blocks;
  uint32_t state = 1;
  const auto random = [&](uint32_t limit) { return (state = state * 1664525 + 1013904223) / 65536 % limit; };
  const auto mark = [&](const std::pair<char*, size_t>& block, bool in_use) {
    for (size_t i = 0; i < block.second; i++) {
      const size_t byte = reinterpret_cast<uintptr_t>(block.first) - 4096 + i;
      expect(used.at(byte) != in_use, "a byte is in use once");
      used[byte] = in_use;
    }
  };
  for (int i = 0; i < 20000; i++) {
    if (const size_t bytes = 1 + random(200); random(2) != 0) {
      if (char* block = pool.take(bytes)) mark(blocks.emplace_back(block, bytes), true);
    } else if (!blocks.empty()) {
      std::swap(blocks[random(static_cast<uint32_t>(blocks.size()))], blocks.back());
      mark(blocks.back(), false);
      pool.put(blocks.back().first, blocks.back().second);
      blocks.pop_back();
    }
  }
  for (const auto& [block, bytes] : blocks) pool.put(block, bytes);
  expect(pool.free_ranges().size() == 3 && pool.take_segments().size() == 3, "everything joins again");
}

}  // namespace heed::test
