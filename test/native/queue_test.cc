// Tests Queue: order, failures, sleeping and stopping, with all combinations of speeds of the pushing thread and the
// worker.
#include "core/queue.h"

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"

namespace heed::test {
namespace {

// Stores the number of failures once it is reached.
class Signal final : public Fence {
 public:
  explicit Signal(std::atomic<int64_t>& failures) : failures_(failures) {}
  void reached(Failures failures) noexcept override { failures_ = static_cast<int64_t>(failures.operations.size()); }

 private:
  std::atomic<int64_t>& failures_;
};

void wait_for(const std::atomic<int64_t>& failures) {
  while (failures < 0) std::this_thread::yield();
}

// Pushes a task that holds this number of bytes.
template <size_t bytes>
void push(Queue& queue, std::vector<int>& seen, int i) {
  queue.push("task", [&seen, i, held = std::array<char, bytes>{static_cast<char>(i)}] {
    if (held[0] != static_cast<char>(i) || held[bytes - 1] != (bytes > 1 ? 0 : static_cast<char>(i))) return;
    seen.push_back(i);
  });
}

}  // namespace

TEST(queue_runs_tasks_of_all_sizes_in_order) {
  Queue queue;
  constexpr int kTasks = 100000;
  std::vector<int> seen;
  for (int i = 0; i < kTasks; i++) {
    switch (i % 7) {
      case 0:
        push<8000>(queue, seen, i);
        break;
      case 1:
        push<1500>(queue, seen, i);
        break;
      case 2:
        push<600>(queue, seen, i);
        break;
      default:
        push<16>(queue, seen, i);
    }
    // Sometimes the worker falls asleep between tasks, and sometimes they pile up.
    if (i % 20000 < 200) std::this_thread::sleep_for(std::chrono::microseconds(i % 100));
    if (i % 9000 == 0) queue.wait_idle();
  }
  std::atomic<int64_t> failures{-1};
  queue.push_fence(new Signal(failures));
  wait_for(failures);
  EXPECT(failures == 0);
  bool ordered = seen.size() == kTasks;
  for (int i = 0; ordered && i < kTasks; i++) ordered = seen[static_cast<size_t>(i)] == i;
  EXPECT(ordered);
}

TEST(queue_tells_each_fence_of_what_failed_since_the_last) {
  Queue queue;
  for (int64_t count : {0, 3, 0, 1}) {
    for (int64_t i = 0; i < count; i++) queue.push("task", [] { fail(Code::range, "task: out of range"); });
    queue.push("task", [] {});
    std::atomic<int64_t> failures{-1};
    queue.push_fence(new Signal(failures));
    wait_for(failures);
    EXPECT(failures == count);
  }
}

TEST(queue_runs_a_recording_in_its_place) {
  Queue queue;
  std::vector<int> seen;
  queue.begin_recording();
  push<16>(queue, seen, 1);
  push<3000>(queue, seen, 2);
  const auto recording = queue.end_recording();
  push<16>(queue, seen, 0);
  queue.push_recording(recording, 0);
  push<16>(queue, seen, 3);
  queue.push_recording(recording, 0);
  queue.wait_idle();
  EXPECT((seen == std::vector<int>{0, 1, 2, 3, 1, 2}));
}

TEST(queue_drops_what_waits_when_it_stops) {
  for (int round = 0; round < 200; round++) {
    auto held = std::make_shared<int>(0);
    Queue queue;
    for (int i = 0; i < round; i++) queue.push("task", [held] { std::this_thread::yield(); });
    queue.stop();
    queue.push("task", [held] { report("a task ran after stop()"); });
    queue.wait_idle();
    EXPECT(held.use_count() == 1);
  }
}

}  // namespace heed::test
