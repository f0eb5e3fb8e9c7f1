// Runs the warps of a block.
//
// A warp is a set of splits; a split is the lanes at one instruction. The split with the lowest program counter runs,
// and splits that meet merge. So lanes reconverge where the compiler's layout lets them, and no later than the
// instruction that needs them: a barrier, a .sync instruction or a matrix instruction waits for the lanes of its mask,
// as Volta's independent threads do. From time to time another split gets its turn, so that lanes may wait for each
// other in loops.
//
// The warps take turns of random length in random order; a turn ends early at a barrier. When no warp can continue, the
// block is deadlocked, and the fault says what each warp waits for.
#pragma once
#include "simulator/races.h"
#include "simulator/shadow.h"
#include "simulator/state.h"

namespace heed::simulator {

class Scheduler {
 public:
  explicit Scheduler(LaunchState& launch);
  ~Scheduler();
  // Runs one block to its end; the seed determines the order of its warps. Throws FaultError.
  void run(const uint32_t index[3], uint64_t seed);

  KernelCounters counters;

 private:
  enum class Turn : uint8_t { over, blocked, finished };

  void start(Warp& warp, uint32_t index);
  Turn turn(Warp& warp, uint32_t slice, bool lowest);
  void branch_indexed(Warp& warp, size_t split, const Instruction& in, uint32_t mask);

  // Defined in synchronise.cc. synchronise() is called when the split is at an instruction that needs other lanes or
  // warps. Afterwards the split has passed it or waits.
  void synchronise(Warp& warp, size_t split, const Instruction& in);
  void take_waiting(Warp& warp, size_t& split);
  void exchange(Warp& warp, size_t split, const Instruction& in);
  void warp_barrier(Warp& warp, size_t split, const Instruction& in);
  void all_lanes(Warp& warp, size_t split, const Instruction& in);
  void arrive(Warp& warp, size_t split, const Instruction& in);
  void release(int barrier);
  [[noreturn]] void deadlock();
  void account();

  LaunchState& launch_;
  Random random_;
  Block block_;
  std::vector<uint8_t> registers_, locals_, shared_;
  std::vector<uint32_t> predicates_;
  uint8_t* register_base_ = nullptr;
  size_t register_stride_ = 0;
  SharedShadow shadow_;
  BlockRaces races_;
  uint64_t accounted_ = 0;
};

}  // namespace heed::simulator
