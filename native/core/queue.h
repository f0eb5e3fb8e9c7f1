// An in-order queue of work with one worker thread of its own: the execution model of the CPU device.
//
// A task that throws is dropped and its error kept for the next fence; tasks after it run as if nothing had happened.
// Fences are how reading waits. What a failure means for whom is OperationLog's to say.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "core/task.h"

namespace heed {

// Told on the worker thread that everything before it has run, and what has failed since the last fence.
class Fence {
 public:
  virtual ~Fence();
  virtual void reached(Failures failures) noexcept = 0;
};

// Tasks that were recorded instead of run, in their order.
using Recording = std::vector<std::unique_ptr<Task, TaskDeleter>>;

class Queue {
 public:
  Queue();
  ~Queue();  // stops
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // On one thread only, as all but stop(): makes a task that calls `function`; after `stop`, drops it.
  template <class Function>
  void push(const char* op, Function&& function) {
    push(blocks_.make<FunctionTask<Function>>(op, static_cast<Function&&>(function)));
  }
  void push_fence(Fence* fence);  // deletes it after `reached`
  void wait_idle();
  // Tasks that are pushed between the two are kept and not run; push_recording runs all of them in its place in the
  // queue, as often as it is called. On the pushing thread only.
  void begin_recording();
  std::shared_ptr<const Recording> end_recording();
  void push_recording(std::shared_ptr<const Recording> recording, int64_t operation);
  // The operation that the tasks pushed next belong to.
  void begin_operation(int64_t operation) { operation_ = operation; }
  // Drops what has not begun, waits for what has, ends the worker. For the end of an environment.
  void stop();

 private:
  class FenceTask;
  class RecordedTasks;
  void push(Task* task);  // takes ownership, as what follows
  void enqueue(Task* task);
  void work();
  Task* take();  // all that waits, in order; null at the end
  // Keeps the error of one that fails. `graph` is the operation that launched a graph, for a task of its recording.
  void run(Task& task, int64_t graph = -1);

  // What waits, the latest first, on a cache line that both threads write; or that the worker sleeps, having run
  // everything; or that the queue has stopped.
  alignas(64) std::atomic<Task*> waiting_{nullptr};
  alignas(64) std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // of those who sleep until waiting_ changes
  std::condition_variable wake_;
  std::condition_variable idle_;
  TaskBlocks blocks_;
  std::shared_ptr<Recording> recording_;  // pushing thread only, as what follows
  int64_t operation_ = 0;
  std::vector<Failure> failures_;  // since the last fence; worker thread only, as what follows
  bool fenced_ = false;            // the last task was a fence
  std::thread worker_;             // last: starts when the rest is there
};

}  // namespace heed
