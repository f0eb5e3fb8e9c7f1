#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/platform.h"

namespace heed::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// The time without other loops after which a background loop goes on: longer than the gap between two operations of a
// queue, shorter than what a person or a request notices.
constexpr std::chrono::microseconds kQuiet{300};
// While others keep the pool busy, a background loop gets a slice of kSlice after each kPatience.
constexpr std::chrono::milliseconds kPatience{45};
constexpr std::chrono::milliseconds kSlice{5};

thread_local bool background_loops = false;

// What the other loops do, for those in the background. The clock is read only if there are some of these.
class Traffic {
 public:
  // Counts a loop that is not in the background, from the time at which it begins to wait for the pool.
  class Loop {
   public:
    explicit Loop(Traffic& traffic) : traffic_(traffic) { traffic_.loops_.fetch_add(1, std::memory_order_relaxed); }
    ~Loop() {
      if (traffic_.watched_.load(std::memory_order_relaxed))
        traffic_.last_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
      traffic_.loops_.fetch_sub(1, std::memory_order_relaxed);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

   private:
    Traffic& traffic_;
  };

  void watch() { watched_.store(true, std::memory_order_relaxed); }
  bool busy() const { return loops_.load(std::memory_order_relaxed) > 0; }
  bool quiet() const {
    return !busy() &&
           Clock::now().time_since_epoch() - Clock::duration(last_.load(std::memory_order_relaxed)) >= kQuiet;
  }

 private:
  std::atomic<int> loops_{0};
  std::atomic<bool> watched_{false};
  std::atomic<Clock::rep> last_{0};  // when the latest of them ended
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads) { start(threads); }
  ~ThreadPool() { stop(); }

  int size() const { return size_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    const std::lock_guard loop(loop_mutex_);
    stop();
    start(threads);
  }

  void run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    if (background_loops) return run_in_background(tasks, body, context);
    const Traffic::Loop counted(traffic_);
    while (due_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
    const std::lock_guard loop(loop_mutex_);
    if (tasks == 1) return body(context, 0);
    yields_ = false;
    share(0, tasks, body, context);
  }

  void watch_traffic() { traffic_.watch(); }

 private:
  // About 30 µs: longer than the gap between two loops of one operation, shorter than a scheduler's slice.
  static constexpr int kSpins = 1000;
  // About 100 µs more in which a worker gives its core to whoever wants it, since JavaScript takes about so long
  // between two operations that it waits for.
  static constexpr int kYields = 200;

  // Runs the loop in parts, each of which ends when another loop wants the pool, but not within a slice.
  void run_in_background(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    thread_local Clock::time_point slice_ends;  // a slice may be of many short loops
    for (int64_t first = 0; first < tasks;) {
      const auto begun = Clock::now();
      while (Clock::now() >= slice_ends && !traffic_.quiet()) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        if (Clock::now() - begun >= kPatience) slice_ends = Clock::now() + kSlice;
      }
      // In its slice a loop is not the last of all that wait for the mutex.
      const bool due = Clock::now() < slice_ends;
      due_.fetch_add(due, std::memory_order_relaxed);
      const std::lock_guard loop(loop_mutex_);
      due_.fetch_sub(due, std::memory_order_relaxed);
      yields_ = true;
      slice_ends_ = slice_ends;
      first = share(first, tasks, body, context);
    }
  }

  // Runs the tasks from `first` on all threads, and returns the first that has not run.
  int64_t share(int64_t first, int64_t tasks, void (*body)(void*, int64_t), void* context) {
    body_ = body;
    context_ = context;
    tasks_ = tasks;
    next_.store(first, std::memory_order_relaxed);
    if (workers_.empty()) {
      work_off();
      return std::min(next_.load(std::memory_order_relaxed), tasks);
    }
    open_.store(true, std::memory_order_seq_cst);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    // A worker that still spins has seen the new generation; only a sleeping one needs the lock.
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      {
        const std::lock_guard lock(mutex_);
      }
      wake_.notify_all();
    }
    work_off();
    // A worker that wakes too late finds the loop closed: small loops do not wait for sleepers.
    open_.store(false, std::memory_order_seq_cst);
    for (int spins = 0; inside_.load(std::memory_order_seq_cst) > 0; spins++) {
      if (spins < kSpins)
        relax();
      else
        std::this_thread::yield();
    }
    return std::min(next_.load(std::memory_order_relaxed), tasks);
  }

  // If the system gives no more threads, the pool has fewer: loops only take longer.
  void start(int threads) {
    stopping_ = false;
    try {
      for (int i = 1; i < threads; i++) workers_.emplace_back([this, seen = generation_.load()] { work(seen); });
    } catch (const std::system_error&) {
    }
    size_.store(static_cast<int>(workers_.size()) + 1, std::memory_order_relaxed);
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

  void work_off() {
    // A background loop runs at least one task on each thread, so that it ends.
    for (bool began = false; !began || !yields_ || !interrupted(); began = true) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= tasks_) return;
      body_(context_, i);
    }
  }

  bool interrupted() const { return traffic_.busy() && Clock::now() >= slice_ends_; }

  void work(uint64_t seen) {
    for (;;) {
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < kSpins; spins++) relax();
      for (int yields = 0; generation_.load(std::memory_order_acquire) == seen && yields < kYields; yields++)
        std::this_thread::yield();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
        sleeping_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      // Whoever closes a loop sees that this worker is inside, or this worker sees that the loop is closed. If the next
      // one is open by then, the worker takes part in that.
      inside_.fetch_add(1, std::memory_order_seq_cst);
      if (open_.load(std::memory_order_seq_cst)) work_off();
      inside_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex loop_mutex_;  // one loop at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> open_{false};  // the loop's tasks may be taken
  std::atomic<int> inside_{0};     // workers that take them, or are about to look
  std::atomic<int64_t> next_{0};
  std::atomic<int> due_{0};  // background loops in a slice that wait for the pool
  int64_t tasks_ = 0;
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  bool yields_ = false;           // the loop is in the background
  Clock::time_point slice_ends_;  // and goes on until then in any case
  Traffic traffic_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
  std::atomic<int> size_{1};  // kernels ask while another thread may change it
};

// Leaked on purpose: a process that exits with a loop in progress must not destroy it under the loop.
ThreadPool& pool() {
  static ThreadPool* const instance = new ThreadPool(core_count());
  return *instance;
}

}  // namespace

int core_count() { return processor_count(); }

void run_parallel(int64_t tasks, void (*body)(void*, int64_t), void* context) {
  if (tasks > 0) pool().run(tasks, body, context);
}

void set_background_loops(bool background) {
  background_loops = background;
  if (background) pool().watch_traffic();
}

int thread_count() { return pool().size(); }
void set_thread_count(int threads) { pool().resize(threads); }

}  // namespace heed::cpu
