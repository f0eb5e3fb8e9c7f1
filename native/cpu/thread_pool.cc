#include "cpu/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/platform.h"

namespace heed::cpu {
namespace {

class ThreadPool {
 public:
  explicit ThreadPool(int threads) { start(threads); }
  ~ThreadPool() { stop(); }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void resize(int threads) {
    const std::lock_guard loop(loop_mutex_);
    stop();
    start(threads);
  }

  void run(int64_t tasks, void (*body)(void*, int64_t), void* context) {
    const std::lock_guard loop(loop_mutex_);
    if (tasks == 1 || workers_.empty()) {
      for (int64_t i = 0; i < tasks; i++) body(context, i);
      return;
    }
    body_ = body;
    context_ = context;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    // A worker that still spins has seen the new generation; only a sleeping one needs the lock.
    if (sleeping_.load(std::memory_order_seq_cst) > 0) {
      {
        const std::lock_guard lock(mutex_);
      }
      wake_.notify_all();
    }
    share();
    for (int spins = 0; running_.load(std::memory_order_acquire) > 0; spins++) {
      if (spins < kSpins)
        relax();
      else
        sched_yield();
    }
  }

 private:
  // About 30 µs: longer than the gap between two loops of one operation, shorter than a scheduler's slice.
  static constexpr int kSpins = 1000;

  // If the system gives no more threads, the pool has fewer: loops only take longer.
  void start(int threads) {
    stopping_ = false;
    try {
      for (int i = 1; i < threads; i++) workers_.emplace_back([this, seen = generation_.load()] { work(seen); });
    } catch (const std::system_error&) {
    }
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

  void share() {
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= tasks_) return;
      body_(context_, i);
    }
  }

  void work(uint64_t seen) {
    for (;;) {
      for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && spins < kSpins; spins++) relax();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
        sleeping_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      share();
      running_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex loop_mutex_;  // one loop at a time
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<int> running_{0};
  std::atomic<int64_t> next_{0};
  int64_t tasks_ = 0;
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
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

int thread_count() { return pool().size(); }
void set_thread_count(int threads) { pool().resize(threads); }

}  // namespace heed::cpu
