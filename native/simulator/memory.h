// The device's global memory: one reserved arena, so that a device address is the host address of the same byte.
//
// Allocations lie between redzones. A shadow byte for every four bytes of the arena knows which of them may be accessed
// (high nibble) and which have been written (low nibble); a word that is wholly written is 0xff, so the check of a
// warp's access is a comparison of a few vectors. Freed memory is never handed out again while other memory is left:
// an access to it is a fault that says so.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace heed::simulator {

enum class Access { read, write, atomic };

class Memory {
 public:
  explicit Memory(size_t capacity);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // 256-byte aligned; null when the capacity would be exceeded. Contents are poison until written.
  void* allocate(size_t bytes);
  // False if the address is not the start of a live allocation.
  bool free(void* address);

  // What is wrong with an access, in words ("12 bytes past the end of an allocation of 256 bytes"), or "" if nothing
  // is. `initialised`: reading bytes that nothing has written is wrong too.
  std::string check(const void* address, size_t bytes, Access access, bool initialised = true) const;
  void mark_initialised(void* address, size_t bytes);

  // Copies and fills from the host's side; they check the device side's addresses and return what is wrong, or "".
  // A copy on the device takes the shadow along: copying what was never written is no error, reading it later is.
  std::string copy_in(void* destination, const void* source, size_t bytes);
  std::string copy_out(void* destination, const void* source, size_t bytes) const;
  std::string copy_within(void* destination, const void* source, size_t bytes);
  std::string fill(void* destination, uint8_t value, size_t bytes);

  bool contains(const void* address) const { return offset(address) < arena_bytes_; }
  size_t capacity() const { return capacity_; }
  size_t used() const;
  size_t peak() const;
  size_t allocations() const;

  // For the executor: the arena and its shadow.
  uint8_t* arena() const { return arena_; }
  size_t arena_bytes() const { return arena_bytes_; }
  uint8_t* shadow() const { return shadow_; }
  // Two arrays of a number for each word of the arena (races.h), null if there is no room for them, and the number of a
  // new launch, 1 to 255: what carries a number is forgotten before it comes again.
  uint64_t* access_records() const { return reinterpret_cast<uint64_t*>(records_); }
  uint32_t next_launch();
  // "byte 12 of an allocation of 1024 bytes".
  std::string place(const void* address) const;

 private:
  size_t offset(const void* address) const {
    return static_cast<size_t>(reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(arena_));
  }
  void set_shadow(size_t offset, size_t bytes, bool addressable, bool initialised);

  struct Allocation {
    size_t bytes;     // as asked for
    size_t reserved;  // with padding and redzone
    bool live;
  };

  size_t capacity_;
  size_t arena_bytes_;
  uint8_t* arena_;
  uint8_t* shadow_;
  uint8_t* records_;
  uint32_t launch_ = 0;
  mutable std::mutex mutex_;
  std::map<size_t, Allocation> allocations_;  // by offset; freed ones stay, to name them
  size_t top_ = 0;
  size_t used_ = 0;
  size_t peak_ = 0;
  size_t live_ = 0;
};

}  // namespace heed::simulator
