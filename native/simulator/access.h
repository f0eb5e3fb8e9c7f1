// Maps the addresses of a warp's lanes to host memory: state spaces, bounds, alignment, the sanitizer's checks, and the
// counters of memory traffic.
#pragma once
#include "simulator/shadow.h"
#include "simulator/state.h"

namespace heed::simulator {

// Values of Instruction::flags for memory instructions.
enum AccessFlags : uint8_t {
  narrow_address = 1,  // the address register has 32 bits
  sign_extend = 2,     // a loaded element is sign-extended
  strong_access = 4,   // .volatile, .relaxed, .acquire, .release
  acquire_access = 8,
  release_access = 16,
  block_scope = 32,  // .cta: not strong for other blocks
};

// Computes the addresses of the executing lanes in the instruction's own space (0 for other lanes).
void addresses(const Warp& warp, const Instruction& instruction, uint64_t* address);

// Checks an access of `bytes` at `address` in `space` and finds its place on the host. Faults if the access is not
// allowed. `flags` are AccessFlags.
void resolve(const Warp& warp, Space space, const uint64_t* address, uint32_t bytes, Access access, uint8_t flags,
             uint8_t** pointer);
// Combines addresses() and resolve().
void locate(const Warp& warp, const Instruction& instruction, uint32_t bytes, Access access, uint8_t** pointer);

// Called after an atomic operation or strong read: what other blocks have released there may be acquired.
void observe(const Warp& warp, const Instruction& instruction, uint8_t* const* pointer);

// Records the bytes of device memory that a launch touched, for unique_load_bytes and unique_store_bytes.
class Footprint {
 public:
  explicit Footprint(const Memory& memory);
  ~Footprint();
  void touch(bool store, uint64_t offset, uint32_t bytes);
  uint64_t bytes(bool store) const;

 private:
  size_t bytes_;
  uint8_t* bits_[2];
};

void count_global(const Warp& warp, const uint64_t* address, uint32_t lane_mask, uint32_t bytes, bool store);
void count_shared(const Warp& warp, const uint64_t* address, uint32_t lane_mask, uint32_t bytes, bool store);

}  // namespace heed::simulator
