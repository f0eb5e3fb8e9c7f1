// mov between a register and a vector of narrower ones, and logic of predicates.
#include "simulator/handlers.h"
#include "simulator/lanes.h"
#include "simulator/state.h"

namespace heed::simulator {

namespace {

uint64_t value(const Warp& warp, Slot slot, uint32_t bytes, int lane) {
  if (bytes == 8) return lanes<uint64_t>(warp, slot)[lane];
  return lanes<uint32_t>(warp, slot)[lane] & ((uint64_t{1} << 8 * bytes) - 1);
}

void put(const Warp& warp, Slot slot, uint32_t bytes, int lane, uint64_t bits) {
  if (bytes == 8) {
    lanes<uint64_t>(warp, slot)[lane] = bits;
  } else {
    lanes<uint32_t>(warp, slot)[lane] = static_cast<uint32_t>(bits & ((uint64_t{1} << 8 * bytes) - 1));
  }
}

}  // namespace

void pack(Warp& warp, const Instruction& in) {
  const std::vector<uint32_t>& slots = warp.block->launch->program->lists[in.e];
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    uint64_t bits = 0;
    for (size_t j = 0; j < slots.size(); j++) bits |= value(warp, slots[j], in.bytes, lane) << 8 * in.bytes * j;
    put(warp, in.d, in.width, lane, bits);
  }
}

void unpack(Warp& warp, const Instruction& in) {
  const std::vector<uint32_t>& slots = warp.block->launch->program->lists[in.e];
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint64_t bits = value(warp, in.a, in.width, lane);
    for (size_t j = 0; j < slots.size(); j++) put(warp, slots[j], in.bytes, lane, bits >> 8 * in.bytes * j);
  }
}

void move_predicate(Warp& warp, const Instruction& in) { set_predicate(warp, in.p, predicate(warp, in.q)); }

void combine_predicates(Warp& warp, const Instruction& in) {
  const uint32_t a = predicate(warp, in.q);
  const uint32_t b = predicate(warp, Predicate{static_cast<uint16_t>(in.e), in.flags != 0});
  set_predicate(warp, in.p, in.mode == combine_and ? a & b : in.mode == combine_or ? a | b : a ^ b);
}

}  // namespace heed::simulator
