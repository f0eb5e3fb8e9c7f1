#include "core/queue.h"

#include <cstdio>
#include <new>
#include <utility>

#include "core/platform.h"

namespace heed {

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

// About 30 µs. Small operations arrive in shorter intervals than that, and waking a thread for each would cost more
// than the operations themselves.
constexpr int kSpins = 1000;

void drop(Task* task) {
  while (task) {
    Task* next = task->next;
    TaskBlocks::destroy(task);
    task = next;
  }
}

// Special values of Queue::waiting_ that stand in place of tasks; these pointers are never dereferenced.
Task* sleeping() {
  static char mark;
  return reinterpret_cast<Task*>(&mark);
}
Task* stopped() {
  static char mark;
  return reinterpret_cast<Task*>(&mark);
}

Task* reversed(Task* task) {
  Task* before = nullptr;
  while (task) {
    Task* next = std::exchange(task->next, before);
    before = task;
    task = next;
  }
  return before;
}

}  // namespace

Queue::Queue() : worker_([this] { work(); }) {}

Queue::~Queue() { stop(); }

void Queue::stop() {
  if (stopping_.exchange(true)) return;
  Task* dropped = waiting_.exchange(stopped(), std::memory_order_acquire);
  {
    const std::lock_guard lock(mutex_);  // a thread that looked before is asleep by now
  }
  wake_.notify_all();
  idle_.notify_all();
  worker_.join();
  if (dropped != sleeping()) drop(reversed(dropped));
}

void Queue::push(Task* task) {
  task->operation = operation_;
  if (recording_)
    recording_->emplace_back(task);
  else
    enqueue(task);
}

void Queue::enqueue(Task* task) {
  Task* before = waiting_.load(std::memory_order_relaxed);
  do {
    if (before == stopped()) return TaskBlocks::destroy(task);
    task->next = before == sleeping() ? nullptr : before;
  } while (!waiting_.compare_exchange_weak(before, task, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (before != sleeping()) return;
  {
    const std::lock_guard lock(mutex_);  // the worker is asleep by now, or has seen the task
  }
  wake_.notify_one();
}

void Queue::push_fence(Fence* fence) { enqueue(blocks_.make<FenceTask>(*this, fence)); }

void Queue::begin_recording() { recording_ = std::make_shared<Recording>(); }
std::shared_ptr<const Recording> Queue::end_recording() { return std::move(recording_); }
void Queue::push_recording(std::shared_ptr<const Recording> recording, int64_t operation) {
  auto* task = blocks_.make<RecordedTasks>(*this, std::move(recording));
  task->operation = operation;
  enqueue(task);
}

void Queue::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] {
    const Task* waiting = waiting_.load(std::memory_order_acquire);
    return waiting == sleeping() || waiting == stopped();
  });
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
  blocks_.publish();
  // After a fence no task comes before JavaScript has run, which may need this very core.
  for (int spins = fenced_ ? kSpins : 0; spins < kSpins; spins++) {
    if (waiting_.load(std::memory_order_relaxed)) break;
    relax();
  }
  Task* nothing = nullptr;
  if (waiting_.compare_exchange_strong(nothing, sleeping(), std::memory_order_acq_rel, std::memory_order_relaxed)) {
    std::unique_lock lock(mutex_);
    idle_.notify_all();
    wake_.wait(lock, [this] { return waiting_.load(std::memory_order_relaxed) != sleeping(); });
  }
  Task* waiting = waiting_.load(std::memory_order_relaxed);
  while (waiting != stopped())
    if (waiting_.compare_exchange_weak(waiting, nullptr, std::memory_order_acquire, std::memory_order_relaxed))
      return reversed(waiting);
  return nullptr;
}

void Queue::work() {
  while (Task* task = take()) {
    while (task) {
      if (stopping_.load(std::memory_order_relaxed)) return drop(task);
      Task* next = task->next;
      fenced_ = false;
      run(*task);
      blocks_.keep(task);
      task = next;
    }
  }
}

}  // namespace heed
