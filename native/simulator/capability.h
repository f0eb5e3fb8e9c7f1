// What cards of a compute capability have (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability"), as far as a program can act on it.
#pragma once
#include <cstdint>

namespace heed::simulator {

// Bytes of shared memory that the system keeps for itself of each block's, from 8.0 on.
constexpr uint32_t reserved_shared = 1024;

struct Capability {
  int number;                    // 80 is 8.0
  uint32_t shared_memory;        // bytes of a multiprocessor
  uint32_t block_shared_memory;  // bytes of it that a block can have when it opts in
  int threads, blocks;           // of a multiprocessor, at most
};

// The figures of this capability, or of the highest known one below it.
const Capability& capability(int number);

}  // namespace heed::simulator
