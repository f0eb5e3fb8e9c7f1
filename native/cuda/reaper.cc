#include "cuda/reaper.h"

#include "core/error.h"
#include "cuda/card.h"

namespace heed::cuda {

Reaper::Reaper(Card& card) : card_(card), thread_([this] { work(); }) {}

Reaper::~Reaper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Reaper::free(CUdeviceptr block) { push({block, nullptr}); }
void Reaper::free_host(void* block) { push({0, block}); }

void Reaper::push(Block block) {
  {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(block);
  }
  wake_.notify_one();
}

bool Reaper::idle() {
  const std::lock_guard lock(mutex_);
  return blocks_.empty() && !busy_;
}

void Reaper::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return blocks_.empty() && !busy_; });
}

void Reaper::work() {
  try {
    card_.make_current("free");
  } catch (const Error&) {
    // A lost device has no memory to take back.
  }
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !blocks_.empty() || stopping_; });
    if (blocks_.empty()) return;
    const Block block = blocks_.front();
    blocks_.pop_front();
    busy_ = true;
    lock.unlock();
    if (block.host)
      driver()->mem_free_host(block.host);
    else
      driver()->mem_free(block.device);
    lock.lock();
    busy_ = false;
    if (blocks_.empty()) idle_.notify_all();
  }
}

}  // namespace heed::cuda
