#include "cuda/reaper.h"

#include <utility>

#include "core/error.h"
#include "cuda/card.h"

namespace heed::cuda {

Reaper::Reaper(Card& card) : card_(card), thread_([this] { work(); }) {}

Reaper::~Reaper() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Reaper::free(CUdeviceptr block) { push({block, nullptr}); }
void Reaper::then(std::function<void()> action) { push({0, std::move(action)}); }

void Reaper::push(Item item) {
  {
    const std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
  }
  wake_.notify_one();
}

void Reaper::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
}

bool Reaper::idle() {
  const std::lock_guard lock(mutex_);
  return items_.empty() && !busy_;
}

void Reaper::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return items_.empty() && !busy_; });
}

void Reaper::work() {
  card_.try_make_current();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !items_.empty() || ending_; });
    if (items_.empty()) return;
    const Item item = std::move(items_.front());
    items_.pop_front();
    if (item.action) {
      // Called while locked, so that no action is called any more after stop() has returned.
      if (!stopped_) item.action();
    } else {
      busy_ = true;
      lock.unlock();
      driver()->mem_free(item.block);
      lock.lock();
      busy_ = false;
    }
    if (items_.empty()) idle_.notify_all();
  }
}

}  // namespace heed::cuda
