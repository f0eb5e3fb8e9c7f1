// Caching allocator in queue order, one per device and environment.
//
// Storage is handed out and taken back at the moment JavaScript calls, while the work on it waits in the device's
// queue. A block that is freed may be given out again at once: whatever uses it next is enqueued later, and the queue
// runs in order. So the memory a program needs follows from the order of its calls, never from their timing. The one
// writer that does not go through the queue, the host, must not touch a block (Stream::upload copies through one of
// its own). Used from the JavaScript thread only.
//
// Small blocks are kept by size. Large ones are cut from segments (RangePool), so that what an activation leaves serves
// for a gradient of another size: kept by size, the blocks of a training step's forward pass lay idle while its
// backward pass asked for others, a sixth of its memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/range_pool.h"

namespace heed {

// Memory that allocate() gave.
struct Block {
  void* data = nullptr;
  size_t size = 0;       // what it has
  size_t requested = 0;  // what was asked for
};

struct MemoryStats {
  int64_t live = 0;         // bytes asked for and not yet freed
  int64_t peak = 0;         // highest `live`
  int64_t cached = 0;       // bytes held from the system and not live
  int64_t allocations = 0;  // blocks live
};

class CachingAllocator {
 public:
  // Not caching: every block comes from the system, with the size asked for, and returns to it when freed.
  explicit CachingAllocator(bool caching = true);
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;
  // A backend releases its blocks in its own destructor: the system calls are virtual.
  virtual ~CachingAllocator();

  // 64-byte aligned at least. Where the system has none left, the cache is given back, the queue waited for and the
  // system asked again, unless that cannot help. Throws ERR_OOM.
  Block allocate(size_t bytes, const char* op);
  void free(const Block& block);
  const MemoryStats& stats() const { return stats_; }
  void reset_peak() { stats_.peak = stats_.live; }
  // Between the two, what is allocated and freed keeps to memory of its own: blocks from the cache, once taken, and
  // from the system go only to what is allocated meanwhile. end_hold() returns those not live, which count as live
  // until give_back(): work that has been recorded uses them whenever it is run again.
  void begin_hold();
  std::vector<Block> end_hold();
  void give_back(const std::vector<Block>& blocks);
  // Returns every unused block to the system, in queue order: the system has them once what was enqueued has run.
  void release_cached();

 protected:
  virtual void* system_allocate(size_t bytes) = 0;  // null when there is none
  // In queue order, as what follows: what was enqueued before may still use the block.
  virtual void system_free(void* block, size_t bytes) = 0;
  // The bytes are in use no more, but part of a block that is: the system may take the memory behind them.
  virtual void system_discard(void*, size_t) {}
  virtual void system_trim() {}  // after many blocks were freed: the system may have kept some for this process
  // Whether the system gets memory back, besides the cache, once the queue has run everything.
  virtual bool system_releasing() = 0;
  virtual void wait_idle() = 0;  // until the queue has run everything and the system has what was freed
  // Bytes the system has left, for messages; -1 where it is not known.
  virtual int64_t system_available() { return -1; }

 private:
  size_t rounded(size_t bytes) const;
  Block take_held(size_t size);
  Block take_cached(size_t size);
  Block from_system(size_t size);
  bool waiting_helps();  // whether the system gets anything back then

  const bool caching_;
  static constexpr int kSmallSizes = 89;
  std::vector<void*> cache_[kSmallSizes];  // small blocks, by size
  RangePool pool_;                         // of large ones
  std::vector<Block> held_;
  bool holding_ = false;
  MemoryStats stats_;
};

}  // namespace heed
