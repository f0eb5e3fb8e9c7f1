// A parallel loop for work that is bound by memory: a thread knows its next task while it does the one that it has, so
// that it can ask for the next one's memory, and for no other thread's.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Calls body(task, next) for tasks 0 to n - 1. `next` is the thread's next task, or n if it has none. A thread does up
// to `most` tasks before it lets others use the pool; tasks of a thread may be any, as with parallel_for.
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

}  // namespace
}  // namespace heed::cpu::HEED_ISA
