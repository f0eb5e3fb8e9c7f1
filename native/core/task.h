// What a queue runs, and the memory that it lies in.
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
  int64_t operation = 0;  // which one of OperationLog it belongs to, or of a recording
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

// Memory of tasks. That of those that have run is used again for the next ones: with malloc on one thread and free on
// the other, the two would wait for each other's lock at every small operation.
class TaskBlocks {
 public:
  TaskBlocks() = default;
  ~TaskBlocks();
  TaskBlocks(const TaskBlocks&) = delete;
  TaskBlocks& operator=(const TaskBlocks&) = delete;

  // On the pushing thread.
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
  // On any thread: destroys the task and gives its block back to the system.
  static void destroy(Task* task);
  // On the worker thread: as destroy(), but the block is kept; the pushing thread may take it from publish() on.
  void keep(Task* task);
  void publish();

 private:
  struct Block {
    Block* next;
    size_t room;
  };
  static constexpr size_t kSmallest = 256;
  static constexpr int kClasses = 5;                    // each of twice the size of the one before
  static constexpr size_t kMostKept = size_t{1} << 20;  // bytes that wait for the next task

  void* take(size_t bytes, size_t* room);  // a block of at least that size; `*room` is what it has
  void collect();                          // what the worker has published

  // Each thread's own beside a cache line of the other's.
  alignas(64) Block* free_[kClasses] = {};  // pushing thread only, as what follows
  size_t free_bytes_ = 0;
  alignas(64) Block* done_ = nullptr;  // worker thread only, as what follows
  Block* done_last_ = nullptr;
  int64_t done_count_ = 0;
  std::atomic<Block*> published_{nullptr};
};

struct TaskDeleter {
  void operator()(Task* task) const { TaskBlocks::destroy(task); }
};

}  // namespace heed
