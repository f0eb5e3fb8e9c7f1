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
    const std::optional<Error> error = queue_.take_error();
    fence_->reached(error ? &*error : nullptr);
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
    for (const auto& task : *recording_) queue_.run(*task);
  }

 private:
  Queue& queue_;
  const std::shared_ptr<const Recording> recording_;
};

Queue::Queue() : worker_([this] { work(); }) {}

Queue::~Queue() { stop(); }

void Queue::stop() {
  Task* dropped;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    dropped = head_;
    head_ = tail_ = nullptr;
  }
  wake_.notify_all();
  worker_.join();
  while (dropped) {
    Task* next = dropped->next;
    delete dropped;
    dropped = next;
  }
}

void Queue::push(Task* task) {
  if (recording_)
    recording_->emplace_back(task);
  else
    enqueue(task);
}

void Queue::enqueue(Task* task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      delete task;
      return;
    }
    if (tail_)
      tail_->next = task;
    else
      head_ = task;
    tail_ = task;
    if (busy_) return;  // the worker looks again before it sleeps
  }
  wake_.notify_one();
}

void Queue::push_fence(Fence* fence) { enqueue(new FenceTask(*this, fence)); }

void Queue::begin_recording() { recording_ = std::make_shared<Recording>(); }
std::shared_ptr<const Recording> Queue::end_recording() { return std::move(recording_); }
void Queue::push_recording(std::shared_ptr<const Recording> recording) {
  enqueue(new RecordedTasks(*this, std::move(recording)));
}

void Queue::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (!head_ && !busy_) || stopping_; });
}

std::optional<Error> Queue::take_error() { return std::exchange(error_, std::nullopt); }

void Queue::keep_error(const Error& error) {
  if (!error_) error_ = error;  // the first failure is the cause of what follows
}

void Queue::run(Task& task) {
  const auto record = [&](Code code, const char* reason) {
    char message[496];
    std::snprintf(message, sizeof message, "%s: %s", task.op, reason);
    keep_error(Error(code, message));
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

void Queue::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!head_ && !stopping_) {
      idle_.notify_all();
      wake_.wait(lock);
    }
    if (stopping_) return;
    Task* task = head_;
    head_ = task->next;
    if (!head_) tail_ = nullptr;
    busy_ = true;
    lock.unlock();
    run(*task);
    delete task;
    lock.lock();
    busy_ = false;
  }
}

}  // namespace heed
