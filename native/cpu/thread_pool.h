// The CPU backend's threads: one pool a process, shared by every environment's queue, one parallel loop at a time.
#pragma once
#include <cstdint>

namespace heed::cpu {

// Runs body(context, i) for i in [0, tasks) on the pool and the calling thread; returns when all have run. Tasks are
// handed out one by one, so uneven ones balance; which thread runs a task must not change its result. A body must not
// throw and must not start a loop of its own.
void run_parallel(int64_t tasks, void (*body)(void* context, int64_t task), void* context);

int thread_count();
// From 1 to 256; waits for the loop in progress.
void set_thread_count(int threads);
// The cores this process may use.
int core_count();

}  // namespace heed::cpu
