// The sanitizer's view of a block's shared memory: what was written, by whom and when. It finds accesses that race with
// another thread's access, and reads of memory that was never written.
//
// Time is a counter that advances at every arrival at a barrier. A granule (the smallest access of the kernel, 1, 2 or
// 4 bytes) remembers the time and thread of its last write and of its last read; a read by several threads at the same
// time remembers their warps too. For every other warp, each warp knows up to which time that warp's accesses happened
// before its own. Barriers pass this knowledge from the warps that arrive to those that wait, so producers and
// consumers on named barriers are handled. An access races with an earlier one of another thread if one of them writes
// and the earlier one is later than what the warp knows.
//
// Within a warp, only bar.warp.sync (and block barriers) order lanes: in the memory model, shuffles, votes and
// lock-step execution do not. Atomics and other strong operations (.volatile, .relaxed, …) do not race. The destination
// of a cp.async is pending from the instruction to the wait; no thread may access it in between.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "simulator/state.h"

namespace heed::simulator {

class SharedShadow {
 public:
  // Prepares for a new block.
  void reset(uint32_t bytes, uint32_t granule_shift, uint32_t warps);

  // Check an access by the warp's executing lanes, each `bytes` long, and fault if it races.
  void read(const Warp& warp, const uint32_t* address, uint32_t bytes);
  void write(const Warp& warp, const uint32_t* address, uint32_t bytes);
  void strong(const Warp& warp, const uint32_t* address, uint32_t bytes, bool reads, bool writes);
  // The same for one lane.
  void read(const Warp& warp, int lane, uint32_t address, uint32_t bytes);
  void write(const Warp& warp, int lane, uint32_t address, uint32_t bytes);

  void begin_copy(const Warp& warp, int lane, uint32_t address, uint32_t bytes);
  void end_copy(const Warp& warp, int lane, uint32_t address, uint32_t bytes);

  // Called when a warp arrives at a barrier; it leaves once all have arrived.
  void arrive(uint32_t warp, int barrier);
  void leave(uint32_t warp, int barrier);
  void complete(int barrier);
  void warp_barrier(uint32_t warp);

 private:
  static constexpr uint32_t thread_bits = 10, many_bit = 1u << thread_bits, stamp_shift = thread_bits + 1;
  static constexpr uint32_t pending = UINT32_MAX, last_time = (1u << (32 - stamp_shift)) - 2;

  void advance();
  void update_floor(uint32_t warp);
  bool ordered(uint32_t warp, uint32_t record) const;
  [[noreturn]] void fault(const Warp& warp, int lane, uint32_t granule, uint32_t record, const char* now,
                          const char* before) const;
  void check_written(const Warp& warp, int lane, uint32_t granule) const;
  // Records that other lanes of the warp read what one of them has just read. Returns false, and records nothing, if
  // each of them must be checked.
  bool share(const Warp& warp, uint32_t address, uint32_t bytes);

  uint32_t shift_ = 2, warps_ = 0, granules_ = 0;
  uint32_t time_ = 1;
  std::vector<uint32_t> write_, read_, readers_;
  std::vector<uint32_t> seen_;   // [warp][other warp]: accesses before this time are ordered
  std::vector<uint32_t> floor_;  // least of seen_[warp], shifted like a record
  std::vector<uint32_t> joined_[barrier_count];
};

}  // namespace heed::simulator
