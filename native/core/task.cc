#include "core/task.h"

#include <new>
#include <utility>

namespace heed {

Task::~Task() = default;

TaskBlocks::~TaskBlocks() {
  publish();
  collect();
  for (Block* block : free_)
    while (block) ::operator delete(std::exchange(block, block->next));
}

void* TaskBlocks::take(size_t bytes, size_t* room) {
  int at = 0;
  while (at < kClasses && kSmallest << at < bytes) at++;
  *room = at < kClasses ? kSmallest << at : bytes;
  if (at == kClasses) return ::operator new(bytes);
  if (!free_[at]) collect();
  if (!free_[at]) return ::operator new(*room);
  free_bytes_ -= *room;
  return std::exchange(free_[at], free_[at]->next);
}

void TaskBlocks::destroy(Task* task) {
  task->~Task();
  ::operator delete(task);
}

void TaskBlocks::keep(Task* task) {
  const size_t room = task->room;
  task->~Task();
  done_ = new (task) Block{done_, room};
  if (!done_last_) done_last_ = done_;
  // The blocks are published in batches, so that the pushing thread need not wait until many tasks have ended.
  constexpr int64_t kMostDone = 32;
  if (++done_count_ == kMostDone) publish();
}

void TaskBlocks::publish() {
  if (!done_) return;
  Block* before = published_.load(std::memory_order_relaxed);
  do done_last_->next = before;
  while (!published_.compare_exchange_weak(before, done_, std::memory_order_release, std::memory_order_relaxed));
  done_ = done_last_ = nullptr;
  done_count_ = 0;
}

void TaskBlocks::collect() {
  if (!published_.load(std::memory_order_relaxed)) return;
  for (Block *block = published_.exchange(nullptr, std::memory_order_acquire), *next; block; block = next) {
    next = block->next;
    const size_t room = block->room;
    if (room > kSmallest << (kClasses - 1) || free_bytes_ + room > kMostKept) {
      ::operator delete(block);
      continue;
    }
    int at = 0;
    while (kSmallest << at < room) at++;
    block->next = std::exchange(free_[at], block);
    free_bytes_ += room;
  }
}

}  // namespace heed
