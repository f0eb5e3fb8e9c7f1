// Properties of cards of a compute capability (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability") on which a program can act.
#pragma once
#include <cstdint>

namespace heed::simulator {

// Bytes of each block's shared memory that the system keeps for itself, from 8.0 on.
constexpr uint32_t reserved_shared = 1024;

struct Capability {
  int number;                    // 80 is 8.0
  uint32_t shared_memory;        // bytes per multiprocessor
  uint32_t block_shared_memory;  // bytes of it that a block can have if it opts in
  int threads, blocks;           // largest numbers per multiprocessor
};

// Returns the figures of this capability, or of the highest known one below it.
const Capability& capability(int number);

}  // namespace heed::simulator
