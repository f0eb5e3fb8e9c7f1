#include "cuda/watcher.h"

#include "core/error.h"
#include "cuda/card.h"

namespace heed::cuda {

Watcher::Watcher(Card& card) : card_(card), thread_([this] { work(); }) {}

Watcher::~Watcher() {
  for (const CUevent event : events_) driver()->event_destroy(event);
}

CUresult Watcher::take_event(CUevent* event) {
  {
    const std::lock_guard lock(mutex_);
    if (!events_.empty()) {
      *event = events_.back();
      events_.pop_back();
      return CUDA_SUCCESS;
    }
  }
  return driver()->event_create(event, CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING);
}

void Watcher::after(CUstream stream, std::function<void(CUresult)> action) {
  CUevent event = nullptr;
  CUresult result = take_event(&event);
  if (result == CUDA_SUCCESS) result = driver()->event_record(event, stream);
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      items_.push_back({event, result, std::move(action)});
      wake_.notify_one();
      return;
    }
    if (event) events_.push_back(event);
  }
  action(driver()->stream_synchronize(stream));
}

void Watcher::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (items_.empty() && !busy_) || stopping_; });
}

void Watcher::stop(CUstream stream) {
  std::deque<Item> dropped;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    dropped.swap(items_);
  }
  wake_.notify_all();
  idle_.notify_all();
  thread_.join();
  driver()->stream_synchronize(stream);
  for (const Item& item : dropped)
    if (item.event) events_.push_back(item.event);
}

void Watcher::work() {
  card_.try_make_current();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !items_.empty() || stopping_; });
    if (stopping_) return;
    Item item = std::move(items_.front());
    items_.pop_front();
    busy_ = true;
    lock.unlock();
    item.action(item.result == CUDA_SUCCESS ? driver()->event_synchronize(item.event) : item.result);
    item.action = nullptr;
    lock.lock();
    busy_ = false;
    if (item.event) events_.push_back(item.event);
    if (items_.empty()) idle_.notify_all();
  }
}

}  // namespace heed::cuda
