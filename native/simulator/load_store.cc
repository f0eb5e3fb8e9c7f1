// ld, st, and instructions about addresses.
#include <chrono>
#include <cstdio>
#include <cstring>

#include "simulator/access.h"
#include "simulator/handlers.h"
#include "simulator/races.h"

namespace heed::simulator {

namespace {

template <class T, class Stored>
void gather(const Warp& warp, Stored* d, uint8_t* const* pointer, uint32_t offset) {
  if (warp.mask == full_mask) {
    for (int i = 0; i < warp_size; i++) {
      T value;
      std::memcpy(&value, pointer[i] + offset, sizeof value);
      d[i] = static_cast<Stored>(value);
    }
    return;
  }
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int i = __builtin_ctz(m);
    T value;
    std::memcpy(&value, pointer[i] + offset, sizeof value);
    d[i] = static_cast<Stored>(value);
  }
}

template <class T, class Stored>
void scatter(const Warp& warp, const Stored* d, uint8_t* const* pointer, uint32_t offset) {
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int i = __builtin_ctz(m);
    const T value = static_cast<T>(d[i]);
    std::memcpy(pointer[i] + offset, &value, sizeof value);
  }
}

// Loads one element into a register of 32 or 64 bits, extended by its sign or by zeros.
template <class Stored>
void load_element(const Warp& warp, const Instruction& in, Slot slot, uint8_t* const* pointer, uint32_t offset) {
  Stored* d = lanes<Stored>(warp, slot);
  using Signed = std::make_signed_t<Stored>;
  Signed* s = reinterpret_cast<Signed*>(d);
  const bool extend = in.flags & sign_extend;
  switch (in.bytes) {
    case 1:
      return extend ? gather<int8_t>(warp, s, pointer, offset) : gather<uint8_t>(warp, d, pointer, offset);
    case 2:
      return extend ? gather<int16_t>(warp, s, pointer, offset) : gather<uint16_t>(warp, d, pointer, offset);
    case 4:
      return extend ? gather<int32_t>(warp, s, pointer, offset) : gather<uint32_t>(warp, d, pointer, offset);
    default:
      return gather<uint64_t>(warp, d, pointer, offset);
  }
}

template <class Stored>
void store_element(const Warp& warp, const Instruction& in, Slot slot, uint8_t* const* pointer, uint32_t offset) {
  const Stored* d = lanes<Stored>(warp, slot);
  switch (in.bytes) {
    case 1:
      return scatter<uint8_t>(warp, d, pointer, offset);
    case 2:
      return scatter<uint16_t>(warp, d, pointer, offset);
    case 4:
      return scatter<uint32_t>(warp, d, pointer, offset);
    default:
      return scatter<uint64_t>(warp, d, pointer, offset);
  }
}

const std::vector<uint32_t>& list(const Warp& warp, const Instruction& in) {
  return warp.block->launch->program->lists[in.e];
}

}  // namespace

void load(Warp& warp, const Instruction& in) {
  uint8_t* pointer[warp_size];
  locate(warp, in, uint32_t{in.bytes} * in.count, Access::read, pointer);
  const uint32_t* slots = in.count == 1 ? &in.d : list(warp, in).data();
  for (uint32_t j = 0; j < in.count; j++) {
    if (in.width == 8) {
      load_element<uint64_t>(warp, in, slots[j], pointer, j * in.bytes);
    } else {
      load_element<uint32_t>(warp, in, slots[j], pointer, j * in.bytes);
    }
  }
  if (in.flags & strong_access) observe(warp, in, pointer);
}

void fence(Warp& warp, const Instruction&) {
  if (warp.block->races && warp.block->races->order()) warp.block->races->order()->fence(warp.index);
}

void store(Warp& warp, const Instruction& in) {
  uint8_t* pointer[warp_size];
  locate(warp, in, uint32_t{in.bytes} * in.count, Access::write, pointer);
  const uint32_t* slots = in.count == 1 ? &in.d : list(warp, in).data();
  for (uint32_t j = 0; j < in.count; j++) {
    if (in.width == 8) {
      store_element<uint64_t>(warp, in, slots[j], pointer, j * in.bytes);
    } else {
      store_element<uint32_t>(warp, in, slots[j], pointer, j * in.bytes);
    }
  }
}

void load_uniform(Warp& warp, const Instruction& in) {
  uint8_t* pointer[warp_size];
  uint8_t* place = warp.block->launch->parameters.data() + in.offset;
  for (uint8_t*& p : pointer) p = place;
  const uint32_t* slots = in.count == 1 ? &in.d : list(warp, in).data();
  for (uint32_t j = 0; j < in.count; j++) {
    if (in.width == 8) {
      load_element<uint64_t>(warp, in, slots[j], pointer, j * in.bytes);
    } else {
      load_element<uint32_t>(warp, in, slots[j], pointer, j * in.bytes);
    }
  }
}

void convert_address(Warp& warp, const Instruction& in) {
  const uint64_t base = in.space == Space::shared      ? shared_window
                        : in.space == Space::local     ? local_window
                        : in.space == Space::parameter ? parameter_window
                                                       : 0;
  const uint64_t* a = lanes<uint64_t>(warp, in.a);
  uint64_t* d = lanes<uint64_t>(warp, in.d);
  for (int i = 0; i < warp_size; i++)
    if (warp.mask >> i & 1) d[i] = in.mode ? a[i] + base : a[i] - base;
}

void is_space(Warp& warp, const Instruction& in) {
  const uint64_t* a = lanes<uint64_t>(warp, in.a);
  uint32_t result = 0;
  for (int i = 0; i < warp_size; i++) {
    const uint64_t window = a[i] >> 56;
    const Space space = window == 1   ? Space::shared
                        : window == 2 ? Space::local
                        : window == 3 ? Space::parameter
                                      : Space::global;
    result |= static_cast<uint32_t>(space == in.space) << i;
  }
  set_predicate(warp, in.p, result);
}

void read_special(Warp& warp, const Instruction& in) {
  const Block& block = *warp.block;
  const LaunchState& launch = *block.launch;
  const Special special = static_cast<Special>(in.mode);
  const auto time = [] { return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()); };
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(m));
    const uint32_t thread = warp.index * warp_size + i;
    uint64_t value = 0;
    switch (special) {
      case Special::tid_x:
        value = thread % launch.block[0];
        break;
      case Special::tid_y:
        value = thread / launch.block[0] % launch.block[1];
        break;
      case Special::tid_z:
        value = thread / (launch.block[0] * launch.block[1]);
        break;
      case Special::ntid_x:
        value = launch.block[0];
        break;
      case Special::ntid_y:
        value = launch.block[1];
        break;
      case Special::ntid_z:
        value = launch.block[2];
        break;
      case Special::ctaid_x:
        value = block.index[0];
        break;
      case Special::ctaid_y:
        value = block.index[1];
        break;
      case Special::ctaid_z:
        value = block.index[2];
        break;
      case Special::nctaid_x:
        value = launch.grid[0];
        break;
      case Special::nctaid_y:
        value = launch.grid[1];
        break;
      case Special::nctaid_z:
        value = launch.grid[2];
        break;
      case Special::laneid:
        value = i;
        break;
      case Special::warpid:
        value = warp.index;
        break;
      case Special::nwarpid:
        value = launch.warps;
        break;
      case Special::smid:
        value = 0;
        break;
      case Special::nsmid:
        value = 1;
        break;
      case Special::gridid:
        value = 1;
        break;
      case Special::lanemask_eq:
        value = 1u << i;
        break;
      case Special::lanemask_le:
        value = full_mask >> (31 - i);
        break;
      case Special::lanemask_lt:
        value = (1u << i) - 1;
        break;
      case Special::lanemask_ge:
        value = full_mask << i;
        break;
      case Special::lanemask_gt:
        value = full_mask << i << 1;
        value &= full_mask;
        break;
      case Special::clock:
        value = warp.executed & full_mask;
        break;
      case Special::clock_hi:
        value = warp.executed >> 32;
        break;
      case Special::clock64:
        value = warp.executed;
        break;
      case Special::globaltimer:
        value = time();
        break;
      case Special::globaltimer_lo:
        value = time() & full_mask;
        break;
      case Special::globaltimer_hi:
        value = time() >> 32;
        break;
      case Special::dynamic_smem_size:
        value = launch.dynamic_bytes;
        break;
      case Special::total_smem_size:
        value = launch.shared_bytes;
        break;
    }
    if (in.width == 8) {
      lanes<uint64_t>(warp, in.d)[i] = value;
    } else {
      lanes<uint32_t>(warp, in.d)[i] = static_cast<uint32_t>(value);
    }
  }
}

void trap(Warp& warp, const Instruction&) {
  fail(warp, __builtin_ctz(warp.mask), error_launch_failed, "the kernel stopped itself");
}

void nothing(Warp&, const Instruction&) {}

}  // namespace heed::simulator
