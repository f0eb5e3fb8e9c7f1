// The tasks of a queue and the memory that holds them.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace heed {

class Task {
 public:
  explicit Task(const char* op) : op(op) {}
  virtual ~Task();
  virtual void run() = 0;

  const char* const op;   // a string literal, for messages
  int64_t operation = 0;  // the operation of OperationLog, or of a recording, that it belongs to
  Task* next = nullptr;
  size_t room = 0;  // bytes of its block
};

template <class Function>
class FunctionTask final : public Task {
 public:
  FunctionTask(const char* op, Function&& function) : Task(op), function_(static_cast<Function&&>(function)) {}
  void run() override { function_(); }

 private:
  Function function_;
};

// Memory of tasks. The memory of tasks that have run is reused for the next ones: with malloc on one thread and free on
// the other, the two would wait for each other's lock at every small operation.
class TaskBlocks {
 public:
  TaskBlocks() = default;
  ~TaskBlocks();
  TaskBlocks(const TaskBlocks&) = delete;
  TaskBlocks& operator=(const TaskBlocks&) = delete;

  // Pushing thread only.
  template <class Made, class... Arguments>
  Made* make(Arguments&&... arguments) {
    static_assert(alignof(Made) <= alignof(std::max_align_t));
    size_t room;
    void* block = take(sizeof(Made), &room);
    try {
      auto* task = new (block) Made(static_cast<Arguments&&>(arguments)...);
      task->room = room;
      return task;
    } catch (...) {
      ::operator delete(block);
      throw;
    }
  }
  // Destroys the task and gives its block back to the system. May be called on any thread.
  static void destroy(Task* task);
  // Worker thread only: destroys the task but keeps its block. The pushing thread may take the block after publish().
  void keep(Task* task);
  void publish();

 private:
  struct Block {
    Block* next;
    size_t room;
  };
  static constexpr size_t kSmallest = 256;
  static constexpr int kClasses = 5;                    // each is twice the size of the one before
  static constexpr size_t kMostKept = size_t{1} << 20;  // bytes that are kept for the next tasks

  void* take(size_t bytes, size_t* room);  // returns a block of at least `bytes`; `*room` receives its size
  void collect();                          // takes the blocks that the worker has published

  // The members of each thread lie on a cache line of their own.
  alignas(64) Block* free_[kClasses] = {};  // pushing thread only, like the members that follow
  size_t free_bytes_ = 0;
  alignas(64) Block* done_ = nullptr;  // worker thread only, like the members that follow
  Block* done_last_ = nullptr;
  int64_t done_count_ = 0;
  std::atomic<Block*> published_{nullptr};
};

struct TaskDeleter {
  void operator()(Task* task) const { TaskBlocks::destroy(task); }
};

}  // namespace heed
