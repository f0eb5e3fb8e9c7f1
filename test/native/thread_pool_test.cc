// Tests parallel loops: each task runs once, although a loop does not wait for threads that wake too late. Those in the
// background give way to others, miss no task, and go on beside others.
#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "check.h"

namespace heed::test {
namespace {

using cpu::run_parallel;

template <class Body>
void parallel(int64_t tasks, Body body) {
  run_parallel(tasks, [](void* context, int64_t i) { (*static_cast<Body*>(context))(i); }, &body);
}

// A thread that runs one loop in the background.
class Background {
 public:
  explicit Background(int64_t tasks) : counts_(tasks) {
    thread_ = std::thread([this, tasks] {
      cpu::set_background_loops(true);
      parallel(tasks, [this](int64_t i) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
        counts_[i]++;
        done_++;
      });
    });
  }
  ~Background() { thread_.join(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  int64_t done() const { return done_; }
  // Returns true if each task has run once. It may be called when all are done.
  bool whole() const {
    return std::all_of(counts_.begin(), counts_.end(), [](const auto& count) { return count == 1; });
  }

 private:
  std::vector<std::atomic<int>> counts_;
  std::atomic<int64_t> done_{0};
  std::thread thread_;
};

constexpr int64_t kTasks = 400;

}  // namespace

// Pauses of all lengths before a loop: threads spin still, fall asleep at that time, or sleep.
TEST(loops_run_each_task_once) {
  using namespace std::chrono;
  std::vector<int> counts;
  for (int loop = 0; loop < 4000; loop++) {
    const auto until = steady_clock::now() + nanoseconds(loop % 100 * 700);
    while (steady_clock::now() < until) {
    }
    counts.assign(1 + loop % 37, 0);
    parallel(static_cast<int64_t>(counts.size()), [&](int64_t i) { counts[i]++; });
    // A thread that took a task of this loop later would write to counts of the next one.
    EXPECT(std::all_of(counts.begin(), counts.end(), [](int count) { return count == 1; }));
  }
}

TEST(background_loops_give_way) {
  // The system may let this thread wait at any place, so the best of several tries counts.
  int64_t least = kTasks;
  for (int tries = 0; tries < 5; tries++) {
    Background background(kTasks);
    while (background.done() == 0) std::this_thread::yield();
    const int64_t before = background.done();
    int64_t after = 0;
    parallel(2, [&](int64_t i) {
      if (i == 0) after = background.done();
    });
    least = std::min(least, after - before);
    while (background.done() < kTasks) std::this_thread::yield();
    EXPECT(background.whole());
  }
  // Each thread completes the task that it is in, and may have begun another one.
  EXPECT(least <= 2 * cpu::thread_count());
}

TEST(background_loops_go_on_beside_others) {
  Background background(kTasks / 4);
  std::atomic<int64_t> sum{0};
  // On a busy machine the other thread may be done before this one runs.
  do parallel(8, [&](int64_t i) { sum += i; });
  while (background.done() < kTasks / 4);
  EXPECT(background.whole());
  EXPECT(sum % 28 == 0 && sum > 0);
}

}  // namespace heed::test
