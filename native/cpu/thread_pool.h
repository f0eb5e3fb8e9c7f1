// The CPU backend's threads. Each process has one pool, which every environment's queue shares; it runs one parallel
// loop after the other. Loops of queues in the background give way to the others.
#pragma once
#include <cstdint>

namespace heed::cpu {

// Runs body(context, i) for i in [0, tasks) on the pool and the calling thread, and returns when all have run. Tasks
// are handed out one by one, so uneven ones balance. The thread that runs a task must not affect its result. A body
// must not throw and must not start a loop of its own.
void run_parallel(int64_t tasks, void (*body)(void* context, int64_t task), void* context);

// Says whether the loops that the calling thread runs from now on are in the background. Such a loop goes on only while
// no other loop has run for some time. If others keep the pool busy, it still gets a tenth of the time.
void set_background_loops(bool background);

int thread_count();
// Sets the number of threads, from 1 to 256; waits for the loop in progress.
void set_thread_count(int threads);
// Returns the number of cores that this process may use.
int core_count();

}  // namespace heed::cpu
