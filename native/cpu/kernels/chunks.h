// One parallel loop over all elements of a list of tensors. They are cut into chunks that never span two tensors, so
// that many small tensors cost one loop, and a large one is shared among the threads.
#pragma once
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kChunk = 16384;

inline int64_t chunk_count(const ViewList& list) {
  int64_t chunks = 0;
  for (int64_t t = 0; t < list.size(); t++) chunks += ceil_div(list[t].numel(), kChunk);
  return chunks;
}

// Calls body(chunk, tensor, begin, n) for elements [begin, begin + n) of list[tensor]. `starts` is memory for
// list.size() numbers, the first chunk of each tensor.
template <class Body>
inline void over_chunks(const ViewList& list, int64_t* starts, const Body& body) {
  int64_t chunks = 0;
  for (int64_t t = 0; t < list.size(); t++) {
    starts[t] = chunks;
    chunks += ceil_div(list[t].numel(), kChunk);
  }
  parallel_for(chunks, 1, [&](int64_t chunk, int64_t) {
    int64_t low = 0,
            high =
                list.size();  // finds the last tensor that starts at `chunk` or before, because empty ones come earlier
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (starts[middle] <= chunk ? low : high) = middle;
    }
    const int64_t begin = (chunk - starts[low]) * kChunk;
    body(chunk, low, begin, min_of(kChunk, list[low].numel() - begin));
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
