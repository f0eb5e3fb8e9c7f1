// Parallel loops in which it matters which thread does a task.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// For work that is bound by memory: a thread knows its next task while it does the one that it has, so that it can ask
// for the next one's memory, and for no other thread's. Calls body(task, next) for tasks 0 to n - 1. `next` is the
// thread's next task, or n if it has none. A thread does up to `most` tasks before it lets others use the pool; tasks
// of a thread may be any, as with parallel_for.
template <class Body>
inline void parallel_ahead(int64_t n, int64_t most, const Body& body) {
  int64_t claimed = 0;
  const auto claim = [&] { return min_of(n, __atomic_fetch_add(&claimed, int64_t{1}, __ATOMIC_RELAXED)); };
  const int64_t turns = max_of(min_of<int64_t>(n, thread_count()), ceil_div(n, most));
  parallel_for(turns, 1, [&](int64_t, int64_t) {
    int64_t left = most;
    for (int64_t task = claim(); task < n;) {
      const int64_t next = --left > 0 ? claim() : n;
      body(task, next);
      task = next;
    }
  });
}

// For a loop that runs many times over the same memory: a thread begins with the part of the tasks that it had the last
// time, which its caches still have, and then helps with other parts.
class RepeatedLoop {
 public:
  // Of n tasks, of which `least` are worth a turn at the counter.
  RepeatedLoop(int64_t n, int64_t least)
      : n_(n), parts_(min_of(kMostParts, min_of<int64_t>(thread_count(), max_of<int64_t>(1, n / least)))) {}

  template <class Body>
  void run(const Body& body) {
    for (int64_t i = 0; i < parts_; i++) counters_[i].next = begin(i);
    parallel_for(parts_, 1, [&](int64_t first, int64_t) {
      const int64_t mine = own_part(first);
      for (int64_t i = 0; i < parts_; i++) {
        const int64_t part = (mine + i) % parts_, last = begin(part + 1);
        for (;;) {
          const int64_t task = __atomic_fetch_add(&counters_[part].next, int64_t{1}, __ATOMIC_RELAXED);
          if (task >= last) break;
          body(task);
        }
      }
    });
  }

 private:
  static constexpr int64_t kMostParts = 64;

  int64_t begin(int64_t part) const { return n_ * part / parts_; }
  int64_t own_part(int64_t first) const {
    thread_local struct {
      const void* loop;
      int64_t part;
    } last{};
    if (last.loop != this || last.part >= parts_) last = {this, first};
    return last.part;
  }

  const int64_t n_, parts_;
  struct alignas(64) {
    int64_t next;
  } counters_[kMostParts];
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
