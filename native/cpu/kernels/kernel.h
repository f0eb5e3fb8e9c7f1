// Every CPU kernel file includes this header: the declarations of all operations in this build's instruction-set
// namespace, parallel loops, and the vector type.
//
// A kernel file defines `void HEED_ISA::name(Stream& stream, ...)` inside `namespace heed::cpu`. Because it is
// qualified, a definition whose signature differs from the one in ops.def does not compile. Helpers go into an
// anonymous namespace: a helper with external linkage, or a standard-library template that is instantiated over common
// types only, could be linked in its AVX-512 form and run on a machine without AVX-512 (scripts/check-isa.mjs checks
// this).
//
// The function is the host side and runs on the JavaScript thread. It checks its arguments (layout, shape, dtype),
// returns early if there is nothing to do, and enqueues the kernel with `stream.launch(op, [=] { … })`, which captures
// views by value. The kernel runs on the queue's thread and spreads its work with `parallel_for`.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "core/params.h"
#include "cpu/stream.h"
#include "cpu/thread_pool.h"

#ifndef HEED_ISA
#error "compile with -DHEED_ISA=portable, avx2 or avx512"
#endif

namespace heed::cpu::HEED_ISA {

#define HEED_UNPACK(...) __VA_ARGS__
#define OP(name, params) void name(Stream& stream, HEED_UNPACK params);
#include "core/ops.def"
#undef OP
#undef HEED_UNPACK

namespace {

template <class T>
inline T min_of(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max_of(T a, T b) {
  return a < b ? b : a;
}
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls body(begin, end) over [0, n) in chunks of `grain`. Chunks do not depend on the number of threads.
template <class Body>
inline void parallel_for(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  grain = max_of<int64_t>(grain, 1);
  struct Range {
    const Body* body;
    int64_t n, grain;
  } range{&body, n, grain};
  if (n <= grain) return body(int64_t{0}, n);
  run_parallel(
      ceil_div(n, grain),
      [](void* context, int64_t task) {
        const Range& r = *static_cast<Range*>(context);
        const int64_t begin = task * r.grain;
        (*r.body)(begin, min_of(begin + r.grain, r.n));
      },
      &range);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA

#include "cpu/kernels/simd.h"
