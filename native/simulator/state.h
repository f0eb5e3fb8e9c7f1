// The state of a running launch: the part that all blocks share, a block, and a warp. Handlers of instructions see a
// warp and its `mask`, the lanes that execute.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "simulator/counters.h"
#include "simulator/executor.h"
#include "simulator/program.h"

namespace heed::simulator {

struct Block;
class SharedShadow;
class LaunchRaces;
class BlockRaces;
class Footprint;

// Thrown by handlers and the scheduler.
struct FaultError {
  int cuda_error;
  std::string message;
};
constexpr int error_illegal_address = 700, error_timeout = 702, error_assert = 710, error_misaligned = 716,
              error_launch_failed = 719, error_out_of_resources = 701, error_invalid_image = 200;

struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t next() {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 32) * n >> 32); }
};

struct LaunchState {
  const Program* program = nullptr;
  Memory* memory = nullptr;
  Options options;
  uint32_t grid[3], block[3];
  uint32_t threads = 0, warps = 0;  // per block
  uint32_t shared_bytes = 0;        // static and dynamic
  uint32_t dynamic_bytes = 0;
  std::vector<uint8_t> parameters;
  std::vector<uint8_t> constants;  // the program's constant slots
  Footprint* footprint = nullptr;  // only when counting
  LaunchRaces* races = nullptr;    // only when sanitizing several blocks
  std::atomic<uint64_t> instructions{0};
  std::atomic<bool> stop{false};
};

// Lanes of a warp that are at the same instruction.
struct Split {
  enum State : uint8_t { ready, converging, at_barrier };
  uint32_t pc = 0;
  uint32_t mask = 0;
  State state = ready;
  uint8_t barrier = 0;
};

// A pending cp.async: the data are copied when a thread waits for it.
struct AsyncCopy {
  uint32_t mask;
  uint8_t bytes;
  uint32_t pc;
  uint32_t group[warp_size];
  uint32_t destination[warp_size];
  uint64_t source[warp_size];
  uint8_t source_bytes[warp_size];
};

struct Warp {
  uint8_t* base[2];  // the register file; the program's constants
  uint32_t* predicates;
  uint32_t mask = 0;  // the lanes that execute the current instruction
  uint32_t pc = 0;
  uint32_t index = 0;  // in the block
  uint32_t valid = 0;  // lanes that are threads
  uint32_t exited = 0;
  Block* block = nullptr;
  uint8_t* local = nullptr;  // local memory of the first lane
  std::vector<Split> splits;
  std::vector<AsyncCopy> copies;
  uint32_t groups[warp_size] = {};  // cp.async groups committed, by lane
  uint64_t executed = 0;
  KernelCounters* counters = nullptr;  // only when counting

  uint32_t live() const { return valid & ~exited; }
};

struct Barrier {
  uint32_t expected = 0;  // threads; 0 if no thread waits
  uint32_t arrived = 0;
  uint32_t votes = 0, voters = 0;  // bar.red
  bool counted = false;            // true if the count was given
  uint32_t pc = 0;                 // pc of the first arrival
};

constexpr int barrier_count = 16;

struct Block {
  LaunchState* launch = nullptr;
  uint32_t index[3] = {};
  uint8_t* shared = nullptr;
  SharedShadow* shadow = nullptr;  // only when sanitizing
  BlockRaces* races = nullptr;     // also only when sanitizing, and only for several blocks
  std::vector<Warp> warps;
  Barrier barriers[barrier_count];
  uint64_t executed = 0;
};

// ---- access to registers

template <class T>
inline T* lanes(const Warp& warp, Slot slot) {
  return reinterpret_cast<T*>(warp.base[slot >> 31] + (slot & ~constant_bit));
}
inline uint32_t predicate(const Warp& warp, Predicate p) {
  const uint32_t value = warp.predicates[p.index];
  return p.negated ? ~value : value;
}
inline void set_predicate(Warp& warp, Predicate p, uint32_t value) {
  uint32_t& old = warp.predicates[p.index];
  old = (old & ~warp.mask) | (value & warp.mask);
}

// ---- faults

// Throws a fault of a lane (or of the warp if lane is -1) at the current instruction.
[[noreturn]] void fail(const Warp& warp, int lane, int cuda_error, const std::string& what);
// Returns a name such as "thread (3, 0, 0)".
std::string thread_name(const Block& block, uint32_t thread);
// Returns a name such as "block (3, 0, 0)" for the number of a block.
std::string block_name(const LaunchState& launch, uint32_t block);
// Describes the place of an instruction, such as "PTX line 12 (gemm.cu:34): bar.sync 0".
std::string place_name(const Program& program, uint32_t pc);

}  // namespace heed::simulator
