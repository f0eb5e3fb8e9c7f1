#include "core/queue.h"

#include <cstdio>
#include <new>
#include <utility>

namespace heed {

Task::~Task() = default;
Fence::~Fence() = default;

class Queue::FenceTask final : public Task {
 public:
  FenceTask(Queue& queue, Fence* fence) : Task("fence"), queue_(queue), fence_(fence) {}
  ~FenceTask() override { delete fence_; }
  void run() override {
    queue_.fenced_ = true;
    fence_->reached({std::exchange(queue_.failures_, {}), nullptr});
  }

 private:
  Queue& queue_;
  Fence* fence_;
};

class Queue::RecordedTasks final : public Task {
 public:
  RecordedTasks(Queue& queue, std::shared_ptr<const Recording> recording)
      : Task("graph"), queue_(queue), recording_(std::move(recording)) {}
  void run() override {
    for (const auto& task : *recording_) queue_.run(*task, operation);
  }

 private:
  Queue& queue_;
  const std::shared_ptr<const Recording> recording_;
};

namespace {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// About 30 µs: small operations arrive closer together than that, and waking a thread for each costs more than they do.
constexpr int kSpins = 1000;

void drop(Task* task) {
  while (task) {
    Task* next = task->next;
    delete task;
    task = next;
  }
}

}  // namespace

Queue::Queue() : worker_([this] { work(); }) {}

Queue::~Queue() { stop(); }

void Queue::stop() {
  Task* dropped;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    dropped = head_.exchange(nullptr);
    tail_ = nullptr;
  }
  wake_.notify_all();
  worker_.join();
  drop(dropped);
}

void Queue::push(Task* task) {
  task->operation = operation_;
  if (recording_)
    recording_->emplace_back(task);
  else
    enqueue(task);
}

void Queue::enqueue(Task* task) {
  bool wake;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      delete task;
      return;
    }
    if (tail_)
      tail_->next = task;
    else
      head_.store(task, std::memory_order_release);
    tail_ = task;
    wake = std::exchange(sleeping_, false);
  }
  if (wake) wake_.notify_one();
}

void Queue::push_fence(Fence* fence) { enqueue(new FenceTask(*this, fence)); }

void Queue::begin_recording() { recording_ = std::make_shared<Recording>(); }
std::shared_ptr<const Recording> Queue::end_recording() { return std::move(recording_); }
void Queue::push_recording(std::shared_ptr<const Recording> recording, int64_t operation) {
  auto* task = new RecordedTasks(*this, std::move(recording));
  task->operation = operation;
  enqueue(task);
}

void Queue::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return sleeping_ || stopping_; });
}

void Queue::run(Task& task, int64_t graph) {
  const auto record = [&](Code code, const char* reason) {
    char message[496];
    std::snprintf(message, sizeof message, "%s: %s", task.op, reason);
    const bool recorded = graph >= 0;
    failures_.push_back({recorded ? graph : task.operation, recorded ? task.operation : -1, Error(code, message)});
  };
  try {
    task.run();
  } catch (const Error& error) {
    record(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    record(Code::oom, "out of memory");
  } catch (...) {
    record(Code::internal, "failed");
  }
}

Task* Queue::take() {
  // After a fence nothing comes before JavaScript has run, which may need this very core.
  for (int spins = fenced_ ? kSpins : 0; spins < kSpins; spins++) {
    if (head_.load(std::memory_order_relaxed) || stopping_.load(std::memory_order_relaxed)) break;
    relax();
  }
  std::unique_lock lock(mutex_);
  while (!head_ && !stopping_) {
    sleeping_ = true;
    idle_.notify_all();
    wake_.wait(lock);
  }
  tail_ = nullptr;
  return head_.exchange(nullptr);  // null where stop() was first
}

void Queue::work() {
  while (Task* task = take()) {
    while (task) {
      if (stopping_.load(std::memory_order_relaxed)) return drop(task);
      Task* next = task->next;
      fenced_ = false;
      run(*task);
      delete task;
      task = next;
    }
  }
}

}  // namespace heed
