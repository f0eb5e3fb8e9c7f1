// An in-order queue of work with one worker thread of its own: the execution model of the CPU device.
//
// A task that throws is dropped, and its error is kept for the next fence; the tasks after it run as if nothing had
// happened. Readers wait by means of fences. OperationLog decides which tensors a failure concerns.
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

// Called on the worker thread when everything before it has run, with the failures since the last fence.
class Fence {
 public:
  virtual ~Fence();
  virtual void reached(Failures failures) noexcept = 0;
};

// Tasks that were recorded instead of run, in order.
using Recording = std::vector<std::unique_ptr<Task, TaskDeleter>>;

class Queue {
 public:
  Queue();
  ~Queue();  // stops the queue
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Makes a task that calls `function`; after stop() it is dropped. All members but stop() must be called on the same
  // thread.
  template <class Function>
  void push(const char* op, Function&& function) {
    push(blocks_.make<FunctionTask<Function>>(op, static_cast<Function&&>(function)));
  }
  void push_fence(Fence* fence);  // deletes it after `reached`
  void wait_idle();
  // Tasks that are pushed between begin_recording() and end_recording() are kept and not run. push_recording() runs all
  // of them at its place in the queue, each time it is called. Pushing thread only.
  void begin_recording();
  std::shared_ptr<const Recording> end_recording();
  void push_recording(std::shared_ptr<const Recording> recording, int64_t operation);
  // Sets the operation that the tasks pushed next belong to.
  void begin_operation(int64_t operation) { operation_ = operation; }
  // Drops the tasks that have not begun, waits for the one that has, and ends the worker. For the end of an
  // environment.
  void stop();

 private:
  class FenceTask;
  class RecordedTasks;
  void push(Task* task);  // takes ownership, like the functions that follow
  void enqueue(Task* task);
  void work();
  Task* take();  // returns all waiting tasks in order, or null at the end
  // Runs a task and keeps its error if it fails. For a task of a graph's recording, `graph` is the operation that
  // launched the graph.
  void run(Task& task, int64_t graph = -1);

  // The waiting tasks, latest first, on a cache line that both threads write. Special values say that the worker has
  // run everything and sleeps, or that the queue has stopped.
  alignas(64) std::atomic<Task*> waiting_{nullptr};
  alignas(64) std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // for the threads that sleep until waiting_ changes
  std::condition_variable wake_;
  std::condition_variable idle_;
  TaskBlocks blocks_;
  std::shared_ptr<Recording> recording_;  // pushing thread only, like the members that follow
  int64_t operation_ = 0;
  std::vector<Failure> failures_;  // since the last fence; worker thread only, like the members that follow
  bool fenced_ = false;            // the last task was a fence
  std::thread worker_;             // last, because it starts when the other members exist
};

}  // namespace heed
