// Caching allocator in queue order. Each device of each environment has one.
//
// Storage is handed out and taken back at the moment when JavaScript calls, while the work on it still waits in the
// device's queue. A block that is freed may be handed out again at once: its next user is enqueued later, and the queue
// runs in order. So the memory that a program needs follows from the order of its calls, never from their timing. The
// host is the one writer that does not go through the queue, and it must not touch a block (Stream::upload copies
// through a block of its own). The allocator is used from the JavaScript thread only.
//
// Small blocks are kept by size. Large blocks are cut from segments (RangePool), so that the memory of an activation
// can serve a gradient of another size. When large blocks too were kept by size, the blocks of a training step's
// forward pass lay idle while its backward pass asked for other sizes; that cost a sixth of the memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/range_pool.h"

namespace heed {

// Memory that allocate() returned.
struct Block {
  void* data = nullptr;
  size_t size = 0;       // bytes that it has
  size_t requested = 0;  // bytes that were asked for
};

struct MemoryStats {
  int64_t live = 0;         // bytes that were asked for and are not yet freed
  int64_t peak = 0;         // highest value of `live`
  int64_t cached = 0;       // bytes that are held from the system and are not live
  int64_t allocations = 0;  // number of live blocks
};

class CachingAllocator {
 public:
  // If `caching` is false, every block comes from the system with the size asked for and returns to it when it is
  // freed.
  explicit CachingAllocator(bool caching = true);
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;
  // A backend releases its blocks in its own destructor, because the system calls are virtual.
  virtual ~CachingAllocator();

  // Returns a block that is aligned to 64 bytes at least. If the system has no memory left, the allocator gives the
  // cache back. It asks the system again at once, and each time that the system has got something back, unless that
  // cannot help. Throws ERR_OOM.
  Block allocate(size_t bytes, const char* op);
  void free(const Block& block);
  const MemoryStats& stats() const { return stats_; }
  // Returns the bytes that the system has left, or -1 if it is not known.
  int64_t available() { return system_available(); }
  // Returns the bytes of `cached` that have no memory behind them: the system has taken it back, or has yet to give it.
  int64_t unbacked() const { return static_cast<int64_t>(pool_.unbacked()); }
  void reset_peak() { stats_.peak = stats_.live; }
  // Between begin_hold() and end_hold(), allocations and frees use memory of their own: a block from the cache or from
  // the system that was handed out meanwhile is reused only for what is allocated meanwhile. end_hold() returns those
  // blocks that are not live. They count as live until give_back(), because recorded work uses them whenever it runs
  // again.
  void begin_hold();
  std::vector<Block> end_hold();
  void give_back(const std::vector<Block>& blocks);
  // Returns every unused block to the system in queue order: the system has them once the work enqueued before has run.
  void release_cached();

 protected:
  virtual void* system_allocate(size_t bytes) = 0;  // null when there is none
  // This call and the next two take effect in queue order, because work that was enqueued before, or before `last_use`,
  // may still use the block.
  virtual void system_free(void* block, size_t bytes, uint64_t last_use) = 0;
  // The bytes are part of a block that is still in use, but they are no longer used: the system may take the memory
  // behind them.
  virtual void system_discard(void*, size_t) {}
  virtual void system_trim() {}  // called after many blocks were freed: the system may have kept some for this process
  // Returns true if the system gets back memory besides the cache once the queue has run everything.
  virtual bool system_releasing() = 0;
  // Waits until the system has got back some of the freed memory. Returns true if there may be more to wait for.
  virtual bool wait_released() = 0;
  // Returns the point that the queue has been filled to: a number that never falls.
  virtual uint64_t position() { return 0; }
  // Returns the bytes that the system has left, or -1 if it is not known.
  virtual int64_t system_available() { return -1; }
  // Returns true if the system gives memory when it is first written, and system_discard() gives it back.
  virtual bool system_lazy() const { return false; }

 private:
  size_t rounded(size_t bytes) const;
  Block take_held(size_t size);
  Block take_cached(size_t size);
  Block from_system(size_t size);
  bool waiting_helps();  // true if the system gets memory back by waiting

  const bool caching_;
  static constexpr int kSmallSizes = 89;
  std::vector<void*> cache_[kSmallSizes];  // small blocks, by size
  RangePool pool_;                         // memory of large blocks
  std::vector<Block> held_;
  bool holding_ = false;
  MemoryStats stats_;
};

}  // namespace heed
