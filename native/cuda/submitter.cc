#include "cuda/submitter.h"

#include <utility>

#include "core/error.h"
#include "cuda/card.h"

namespace heed::cuda {

Submitter::Submitter(Card& card) : card_(card), thread_([this] { work(); }) {}

Submitter::~Submitter() { stop(); }

void Submitter::later(std::function<void()> submit) {
  if (!thread_.joinable()) return;  // runs on the same thread as stop()
  waiting_.fetch_add(1, std::memory_order_relaxed);
  given_++;
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::move(submit));
  }
  wake_.notify_one();
}

void Submitter::after(uint64_t number, std::function<void()> action) {
  {
    const std::lock_guard lock(mutex_);
    if (done_ < number && thread_.joinable()) {
      actions_.emplace(number, std::move(action));
      to_act_++;
      return;
    }
  }
  action();
}

// Calls those that are due.
void Submitter::act(std::unique_lock<std::mutex>& lock) {
  while (!actions_.empty() && actions_.begin()->first <= done_) {
    const auto due = actions_.extract(actions_.begin());
    lock.unlock();
    due.mapped()();
    lock.lock();
    to_act_--;
    acted_.notify_all();
  }
}

bool Submitter::will_act() {
  const std::lock_guard lock(mutex_);
  return to_act_ > 0;
}

bool Submitter::wait_action() {
  std::unique_lock lock(mutex_);
  const size_t before = to_act_;
  acted_.wait(lock, [&] { return !before || to_act_ != before; });
  return before != 0;
}

void Submitter::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return idle(); });
}

void Submitter::stop() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true, std::memory_order_relaxed);
    dropped.swap(calls_);
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const auto& [number, action] : std::exchange(actions_, {})) action();
  to_act_ = 0;
  waiting_.store(0, std::memory_order_release);
}

void Submitter::work() {
  card_.try_make_current();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !calls_.empty() || stopping(); });
    if (stopping()) return;
    std::function<void()> submit = std::move(calls_.front());
    calls_.pop_front();
    lock.unlock();
    submit();
    submit = nullptr;  // the captured objects are destroyed before other threads learn that the call is done
    lock.lock();
    done_++;
    act(lock);
    if (waiting_.fetch_sub(1, std::memory_order_release) == 1) idle_.notify_all();
  }
}

}  // namespace heed::cuda
