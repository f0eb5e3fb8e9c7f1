// The sanitizer's view of global memory during a launch: it finds accesses that conflict with an access of another
// block.
//
// Every word of 4 bytes remembers its last write and a read since then: block, warp, instruction, and which of its
// bytes. An access races with one of another block if one of them writes, not both are atomic (or otherwise strong),
// and the earlier one is not known to have happened before. Only the following orders blocks: the writing block
// executes a fence (membar.gl, fence.acq_rel, …) and then an atomic operation or strong write; afterwards the other
// block executes an atomic operation or strong read of the same address, and then a fence. Within a block, barriers of
// the block pass on to all warps what one of them knows. A warp counts as one thread here.
//
// Bounds: 8 bytes per word that kernels read and 8 per word that they write, which are given back with the memory that
// they belong to. Records carry the number of their launch, so that nothing is cleared between launches. If a record's
// fields do not suffice (more than a million blocks, or a block with thousands of fences and barriers between its
// writes), or if a launch releases more than a million times, accesses whose order is unknown count as ordered. Two
// blocks that share a word hide each other's records of it.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "simulator/state.h"

namespace heed::simulator {

// An access to a word: launch (8 bits), block (20), strong (1), warp (5), bytes of the word (4), time in the block
// (11), instruction (15).
using AccessRecord = uint64_t;

// The releases at one address: who released, and how much of its own and others' writes.
class Releases {
 public:
  struct Seen {
    const Releases* at;
    uint32_t count;  // number of releases before this one
  };
  struct Entry {
    uint32_t block;
    std::vector<uint32_t> published;  // by warp: the writes before this time are published
    std::vector<Seen> acquired;       // acquired by the block before
  };

  uint32_t count() const { return static_cast<uint32_t>(entries_.size()); }
  // Returns false if the block's last release already says as much.
  bool add(Entry entry);
  // Returns true if one of the first `count` releases covers what this warp of a block wrote at this time.
  bool covers(uint32_t count, uint32_t block, uint32_t warp, uint32_t time) const;

 private:
  bool covers(uint32_t count, uint32_t block, uint32_t warp, uint32_t time,
              std::map<const Releases*, uint32_t>& visited) const;
  std::vector<Entry> entries_;
  std::unordered_map<uint32_t, std::vector<uint32_t>> by_block_;
};

// State that the blocks of a launch share.
class LaunchRaces {
 public:
  static constexpr uint64_t most_blocks = 1 << 20;
  // Returns null if there is no room for the records.
  static std::unique_ptr<LaunchRaces> of(Memory& memory);

  // By word of the arena: the last write, and the first read of the launch by a block that has not written it. Pages of
  // these arrays that are only read cost no memory.
  AccessRecord *const writes, *const reads;
  const uint64_t base;    // of the arena
  const uint64_t launch;  // number of the launch, in the form of the records

  std::mutex mutex;  // guards the members that follow
  Releases& at(uint64_t address) { return releases_[address]; }
  // Counts the releases that are kept for the launch.
  void keep();
  std::atomic<bool> blind{false};  // there was too much to remember, so everything counts as ordered

 private:
  explicit LaunchRaces(Memory& memory);
  std::unordered_map<uint64_t, Releases> releases_;
  size_t kept_ = 0;
};

// The order of a block's warps among each other, and what they know of other blocks.
class BlockOrder {
 public:
  void reset(LaunchRaces& launch, uint32_t block, uint32_t warps);

  // Called when a warp arrives at a barrier of the block; it leaves once all have arrived.
  void arrive(uint32_t warp, int barrier);
  void leave(uint32_t warp, int barrier);
  void complete(int barrier);

  void fence(uint32_t warp);
  // Called for an atomic operation or strong access of this address: release() before a write, observe() after a read.
  void release(uint32_t warp, uint64_t address);
  void observe(uint32_t warp, uint64_t address, bool acquire);

  // Returns the time of an access that is made now.
  uint32_t access_time();
  // Returns true if another block's access happened before what this warp does now.
  bool is_ordered(uint32_t warp, uint32_t other_block, uint32_t other_warp, uint32_t time);

 private:
  struct Observation {
    Releases* at;
    uint32_t count, warp, time;
    std::vector<uint32_t> acquired;  // by warp: the time of its fence; 0 if there is none
  };

  bool is_known(uint32_t warp, uint32_t other, uint32_t time) const {
    return warp == other || time < seen_[warp * warps_ + other];
  }
  bool has_acquired(uint32_t warp, const Observation& observation) const;
  void advance();

  LaunchRaces* launch_ = nullptr;
  uint32_t block_ = 0, warps_ = 0;
  uint32_t time_ = 1;
  bool dirty_ = false;               // true if a record has the current time
  std::vector<uint32_t> seen_;       // [warp][other warp]: the other warp's accesses before this time are known
  std::vector<uint32_t> published_;  // [warp][other warp]: the other warp's accesses before this time were also fenced
  std::vector<uint32_t> joined_seen_[barrier_count], joined_published_[barrier_count];
  std::vector<Observation> observations_;
  struct {
    uint32_t warp, other_block = UINT32_MAX, other_warp, before;
  } last_;  // the last positive answer of is_ordered(), until something is forgotten
};

// The accesses of a block.
class BlockRaces {
 public:
  // `ordered` says whether the kernel has fences, without which blocks are never ordered.
  void reset(LaunchRaces& launch, uint32_t block, uint32_t warps, bool ordered);

  // Checks an access by the warp's executing lanes, each of `bytes`, and faults if it races.
  void access(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, bool strong);
  // Returns null if nothing orders this block and others.
  BlockOrder* order() { return ordered_ ? &order_ : nullptr; }

 private:
  bool conflicts(const Warp& warp, AccessRecord record);
  void read(const Warp& warp, int lane, uint64_t word, AccessRecord now, bool strong);
  void write(const Warp& warp, int lane, uint64_t word, AccessRecord now, bool strong, bool reads);
  [[noreturn]] void fault(const Warp& warp, int lane, uint64_t word, AccessRecord record, const char* now,
                          const char* before) const;

  LaunchRaces* launch_ = nullptr;
  uint64_t own_ = 0;  // launch and block, in the form of the records
  bool ordered_ = false;
  BlockOrder order_;
};

}  // namespace heed::simulator
