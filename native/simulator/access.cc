#include "simulator/access.h"

#include <algorithm>

#include "simulator/races.h"

namespace heed::simulator {

namespace {

[[noreturn]] void bad_address(const Warp& warp, int lane, Space space, uint64_t address, uint32_t bytes, Access access,
                              const std::string& why) {
  static const char* const names[] = {"generic", "global", "shared", "local", "constant", "parameter"};
  static const char* const kinds[] = {"read", "write", "atomic operation"};
  char hex[32];
  std::snprintf(hex, sizeof hex, "0x%llx", static_cast<unsigned long long>(address));
  fail(warp, lane, error_illegal_address,
       std::string(kinds[static_cast<int>(access)]) + " of " + std::to_string(bytes) +
           (bytes == 1 ? " byte" : " bytes") + " of " + names[static_cast<int>(space)] + " memory at " + hex + ": " +
           why);
}

void check_alignment(const Warp& warp, const uint64_t* address, uint32_t mask, uint32_t bytes) {
  uint64_t bits = 0;
  for (int i = 0; i < warp_size; i++) bits |= address[i] & (mask >> i & 1 ? ~uint64_t{0} : 0);
  if ((bits & (bytes - 1)) == 0) return;
  for (uint32_t m = mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    if (address[lane] & (bytes - 1)) {
      char hex[32];
      std::snprintf(hex, sizeof hex, "0x%llx", static_cast<unsigned long long>(address[lane]));
      fail(warp, lane, error_misaligned, "misaligned access of " + std::to_string(bytes) + " bytes at address " + hex);
    }
  }
}

// Tests the nibbles of bytes [offset, offset + bytes) in the shadow; returns true if they all allow the access.
bool allowed(const uint8_t* shadow, uint64_t offset, uint32_t bytes, bool initialised) {
  if (bytes >= 4) {
    const uint8_t need = initialised ? 0xff : 0xf0;
    for (uint32_t i = 0; i < bytes / 4; i++)
      if ((shadow[offset / 4 + i] & need) != need) return false;
    return true;
  }
  const unsigned nibble = ((1u << bytes) - 1) << offset % 4;
  const unsigned need = initialised ? nibble | nibble << 4 : nibble << 4;
  return (shadow[offset / 4] & need) == need;
}

void mark_written(uint8_t* shadow, uint64_t offset, uint32_t bytes) {
  if (bytes >= 4) {
    for (uint32_t i = 0; i < bytes / 4; i++) shadow[offset / 4 + i] |= 0x0f;
    return;
  }
  const uint8_t nibble = static_cast<uint8_t>(((1u << bytes) - 1) << offset % 4);
  // Another block may write neighbours in the same word at the same time.
  if ((shadow[offset / 4] & nibble) != nibble) __atomic_fetch_or(shadow + offset / 4, nibble, __ATOMIC_RELAXED);
}

void check_races(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, uint8_t flags) {
  const bool strong = (access == Access::atomic || flags & strong_access) && !(flags & block_scope);
  BlockRaces& races = *warp.block->races;
  races.access(warp, address, bytes, access, strong);
  BlockOrder* const order = strong && access != Access::read ? races.order() : nullptr;
  if (!order) return;
  if (flags & release_access) order->fence(warp.index);
  uint64_t last = 0;
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const uint64_t at = address[__builtin_ctz(m)];
    if (at != last) order->release(warp.index, at);
    last = at;
  }
}

void resolve_global(const Warp& warp, Space space, const uint64_t* address, uint32_t bytes, Access access,
                    uint8_t flags, uint8_t** pointer) {
  const LaunchState& launch = *warp.block->launch;
  const Memory& memory = *launch.memory;
  const uint64_t base = reinterpret_cast<uint64_t>(memory.arena()), size = memory.arena_bytes();
  const bool sanitize = launch.options.sanitize, reads = access != Access::write;
  uint8_t* shadow = memory.shadow();
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t offset = address[lane] - base;
    pointer[lane] = reinterpret_cast<uint8_t*>(address[lane]);
    if (offset <= size - bytes && (!sanitize || allowed(shadow, offset, bytes, reads))) continue;
    const std::string why = memory.check(pointer[lane], bytes, access);
    bad_address(warp, lane, space, address[lane], bytes, access, why.empty() ? "not allowed" : why);
  }
  if (warp.block->races) check_races(warp, address, bytes, access, flags);
  // This also happens without the sanitizer, so that a later launch with it knows.
  if (access == Access::read) return;
  for (uint32_t m = warp.mask; m; m &= m - 1) mark_written(shadow, address[__builtin_ctz(m)] - base, bytes);
}

void resolve_shared(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, bool strong,
                    uint8_t** pointer) {
  const Block& block = *warp.block;
  const uint32_t size = block.launch->shared_bytes;
  alignas(64) uint32_t place[warp_size];
  for (int i = 0; i < warp_size; i++) {
    place[i] = static_cast<uint32_t>(address[i]);
    pointer[i] = block.shared + place[i];
  }
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    if (uint64_t{place[lane]} + bytes > size)
      bad_address(warp, lane, Space::shared, place[lane], bytes, access,
                  "the block has " + std::to_string(size) + " bytes of it");
  }
  if (!block.shadow) return;
  if (strong || access == Access::atomic) {
    block.shadow->strong(warp, place, bytes, access != Access::write, access != Access::read);
  } else if (access == Access::read) {
    block.shadow->read(warp, place, bytes);
  } else {
    block.shadow->write(warp, place, bytes);
  }
}

void resolve_local(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, uint8_t** pointer) {
  const uint32_t size = warp.block->launch->program->local_bytes;
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t offset = address[lane] & ~(uint64_t{255} << 56);
    if (offset + bytes > size)
      bad_address(warp, lane, Space::local, offset, bytes, access,
                  "the thread has " + std::to_string(size) + " bytes of it");
    pointer[lane] = warp.local + static_cast<uint64_t>(lane) * size + offset;
  }
  if (warp.counters) warp.counters->local_accesses++;
}

void resolve_parameter(const Warp& warp, const uint64_t* address, uint32_t bytes, Access access, uint8_t** pointer) {
  std::vector<uint8_t>& parameters = warp.block->launch->parameters;
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t offset = address[lane] & ~(uint64_t{255} << 56);
    if (offset + bytes > parameters.size() || access != Access::read)
      bad_address(warp, lane, Space::parameter, offset, bytes, access,
                  "the kernel has " + std::to_string(parameters.size()) + " bytes of it, for reading");
    pointer[lane] = parameters.data() + offset;
  }
}

Space window(uint64_t address) {
  switch (address >> 56) {
    case 1:
      return Space::shared;
    case 2:
      return Space::local;
    case 3:
      return Space::parameter;
    default:
      return Space::global;
  }
}

}  // namespace

void addresses(const Warp& warp, const Instruction& in, uint64_t* address) {
  if (in.flags & narrow_address) {
    const uint32_t* a = lanes<uint32_t>(warp, in.a);
    for (int i = 0; i < warp_size; i++) address[i] = a[i] + static_cast<uint32_t>(in.offset);
  } else {
    const uint64_t* a = lanes<uint64_t>(warp, in.a);
    for (int i = 0; i < warp_size; i++) address[i] = a[i] + static_cast<uint64_t>(int64_t{in.offset});
  }
}

void resolve(const Warp& warp, Space space, const uint64_t* address, uint32_t bytes, Access access, uint8_t flags,
             uint8_t** pointer) {
  if (space == Space::generic) {
    uint32_t by_space[6] = {};
    for (uint32_t m = warp.mask; m; m &= m - 1) {
      const int lane = __builtin_ctz(m);
      by_space[static_cast<int>(window(address[lane]))] |= 1u << lane;
    }
    Warp part = warp;
    for (int s = 1; s < 6; s++) {
      if (!by_space[s]) continue;
      if (by_space[s] == warp.mask) return resolve(warp, static_cast<Space>(s), address, bytes, access, flags, pointer);
      part.mask = by_space[s];
      resolve(part, static_cast<Space>(s), address, bytes, access, flags, pointer);
    }
    return;
  }
  check_alignment(warp, address, warp.mask, bytes);
  switch (space) {
    case Space::shared:
      resolve_shared(warp, address, bytes, access, flags & strong_access, pointer);
      if (warp.counters) count_shared(warp, address, warp.mask, bytes, access != Access::read);
      break;
    case Space::local:
      resolve_local(warp, address, bytes, access, pointer);
      break;
    case Space::parameter:
      resolve_parameter(warp, address, bytes, access, pointer);
      break;
    default:
      resolve_global(warp, space, address, bytes, access, flags, pointer);
      if (warp.counters) count_global(warp, address, warp.mask, bytes, access != Access::read);
  }
  if (warp.counters && access == Access::atomic) warp.counters->atomics++;
}

void locate(const Warp& warp, const Instruction& in, uint32_t bytes, Access access, uint8_t** pointer) {
  alignas(64) uint64_t address[warp_size];
  addresses(warp, in, address);
  resolve(warp, in.space, address, bytes, access, in.flags, pointer);
}

void observe(const Warp& warp, const Instruction& in, uint8_t* const* pointer) {
  BlockOrder* const order = warp.block->races ? warp.block->races->order() : nullptr;
  if (!order || in.flags & block_scope) return;
  const Memory& memory = *warp.block->launch->memory;
  const uint8_t* last = nullptr;
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const uint8_t* const at = pointer[__builtin_ctz(m)];
    if (at != last && memory.contains(at))
      order->observe(warp.index, reinterpret_cast<uint64_t>(at), in.flags & acquire_access);
    last = at;
  }
}

}  // namespace heed::simulator
