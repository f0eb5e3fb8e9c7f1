// The device's global memory: one reserved arena, so that a device address is the host address of the same byte.
//
// Allocations lie between redzones. For every four bytes of the arena, a shadow byte records which of them may be
// accessed (high nibble) and which have been written (low nibble). A word that is completely written has 0xff, so the
// check of a warp's access is a comparison of a few vectors. Freed memory is not handed out again as long as other
// memory is left, so that an access to it is recognised as a use after free.
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

  // Bytes that a stream will free. An allocation for this stream may have them already.
  using Promise = std::atomic<size_t>;
  // Returns memory aligned to 256 bytes, or null if the capacity would be exceeded. The contents count as uninitialised
  // until they are written.
  void* allocate(size_t bytes, const Promise* promised = nullptr);
  // Returns false if the address is not the start of a live allocation. The bytes are no longer promised.
  bool free(void* address, Promise* promised = nullptr);

  // Describes the error of an access ("12 bytes past the end of an allocation of 256 bytes"), or returns "" if it is
  // allowed. With `initialised`, reading bytes that were never written is an error too.
  std::string check(const void* address, size_t bytes, Access access, bool initialised = true) const;
  void mark_initialised(void* address, size_t bytes);

  // Copies and fills from the host's side. They check the device addresses and return a description of the error, or
  // "". A copy on the device copies the shadow too: copying bytes that were never written is no error, but reading the
  // copy later is.
  std::string copy_in(void* destination, const void* source, size_t bytes);
  std::string copy_out(void* destination, const void* source, size_t bytes) const;
  std::string copy_within(void* destination, const void* source, size_t bytes);
  std::string fill(void* destination, uint8_t value, size_t bytes);

  bool contains(const void* address) const { return offset(address) < arena_bytes_; }
  size_t capacity() const { return capacity_; }
  // Of a live allocation.
  size_t bytes_of(const void* address) const;
  size_t used() const;
  size_t peak() const;
  size_t allocations() const;

  // For the executor: the arena and its shadow.
  uint8_t* arena() const { return arena_; }
  size_t arena_bytes() const { return arena_bytes_; }
  uint8_t* shadow() const { return shadow_; }
  // access_records() returns two arrays with a number for each word of the arena (races.h), or null if there is no room
  // for them. next_launch() returns the number of a new launch, 1 to 255: records with a number are cleared before it
  // is reused.
  uint64_t* access_records() const { return reinterpret_cast<uint64_t*>(records_); }
  uint32_t next_launch();
  // Describes the place of an address, such as "byte 12 of an allocation of 1024 bytes".
  std::string place(const void* address) const;

 private:
  size_t offset(const void* address) const {
    return static_cast<size_t>(reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(arena_));
  }
  void set_shadow(size_t offset, size_t bytes, bool addressable, bool initialised);

  struct Allocation {
    size_t bytes;     // bytes that were requested
    size_t reserved;  // including padding and redzone
    bool live;
  };

  size_t capacity_;
  size_t arena_bytes_;
  uint8_t* arena_;
  uint8_t* shadow_;
  uint8_t* records_;
  uint32_t launch_ = 0;
  mutable std::mutex mutex_;
  std::map<size_t, Allocation> allocations_;  // ordered by offset; freed ones stay, so that messages can name them
  size_t top_ = 0;
  size_t used_ = 0;
  size_t peak_ = 0;
  size_t live_ = 0;
};

}  // namespace heed::simulator
