// Tests CachingAllocator over a system with a limited number of bytes: when it waits for the queue to give back its
// cache.
#include "core/allocator.h"

#include <deque>

#include "check.h"
#include "core/platform.h"

namespace heed::test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class Limited final : public CachingAllocator {
 public:
  explicit Limited(size_t bytes) : left(bytes) {}
  ~Limited() override { release_cached(); }

  size_t left;
  std::deque<size_t> releasing;  // bytes that the system gets back, one entry after the other, as the queue runs
  uint64_t filled = 0;           // the point that the queue has been filled to
  uint64_t run = 0;              // the point that the queue has run to
  int waits = 0;

 private:
  void* system_allocate(size_t bytes) override {
    if (bytes > left) return nullptr;
    left -= bytes;
    return allocate_aligned(64, bytes);
  }
  void system_free(void* block, size_t bytes, uint64_t last_use) override {
    free_aligned(block);
    if (last_use > run)
      releasing.push_back(bytes);
    else
      left += bytes;
  }
  bool system_releasing() override { return !releasing.empty(); }
  bool wait_released() override {
    waits++;
    if (releasing.empty()) return false;
    left += releasing.front();
    releasing.pop_front();
    return !releasing.empty();
  }
  uint64_t position() override { return filled; }
};

bool fails(Limited& memory, size_t bytes) {
  return error_of([&] { memory.allocate(bytes, "alloc"); }).find("ERR_OOM: alloc: out of memory") == 0;
}

}  // namespace

TEST(allocator_waits_for_the_queue_only_to_give_something_back) {
  Limited memory(16 * kMiB);
  const auto large = memory.allocate(4 * kMiB, "alloc");
  EXPECT(fails(memory, 14 * kMiB) && memory.waits == 0);
  memory.filled = 1;
  memory.free(large);
  const auto larger = memory.allocate(14 * kMiB, "alloc");
  EXPECT(memory.waits == 1);
  memory.free(larger);

  const auto small = memory.allocate(1000, "alloc");
  memory.release_cached();
  memory.free(small);
  const auto all = memory.allocate(16 * kMiB, "alloc");
  EXPECT(memory.waits == 3);
  memory.free(all);
}

TEST(allocator_does_not_wait_for_what_the_queue_has_run) {
  Limited memory(16 * kMiB);
  const auto first = memory.allocate(6 * kMiB, "alloc");
  memory.filled = memory.run = 1;
  memory.free(first);
  memory.filled = 2;
  const auto second = memory.allocate(12 * kMiB, "alloc");
  EXPECT(memory.waits == 0);
  memory.free(second);
}

TEST(allocator_waits_for_no_more_than_it_needs) {
  Limited memory(16 * kMiB);
  Block blocks[4];
  for (Block& block : blocks) block = memory.allocate(4 * kMiB, "alloc");
  memory.filled = 1;
  for (const Block& block : blocks) memory.free(block);
  const auto half = memory.allocate(7 * kMiB, "alloc");
  EXPECT(memory.waits == 2 && memory.releasing.size() == 2);
  memory.free(half);
}

TEST(allocator_does_not_wait_for_what_is_cached_beside_live_blocks) {
  Limited memory(16 * kMiB);
  memory.free(memory.allocate(8 * kMiB, "alloc"));
  const auto part = memory.allocate(2 * kMiB, "alloc");
  EXPECT(memory.stats().cached == static_cast<int64_t>(6 * kMiB));
  EXPECT(fails(memory, 10 * kMiB) && memory.waits == 0);
  memory.free(part);
}

TEST(allocator_waits_for_what_the_queue_releases) {
  Limited memory(4 * kMiB);
  memory.releasing = {4 * kMiB};
  const auto block = memory.allocate(8 * kMiB, "alloc");
  EXPECT(memory.waits == 1);
  EXPECT(fails(memory, 8 * kMiB) && memory.waits == 1);
  memory.free(block);
}

}  // namespace heed::test
