// shfl, vote, match, redux and activemask: exchanges between the lanes of a warp. The scheduler ensures that the
// executing lanes are those of the member mask.
#include "simulator/handlers.h"
#include "simulator/state.h"

namespace heed::simulator {

namespace {

void fill(const Warp& warp, Slot slot, uint32_t value) {
  uint32_t* d = lanes<uint32_t>(warp, slot);
  for (int i = 0; i < warp_size; i++) d[i] = warp.mask >> i & 1 ? value : d[i];
}

}  // namespace

void shuffle_lanes(Warp& warp, const Instruction& in) {
  const Shuffled shuffled =
      shuffle(static_cast<Shuffle>(in.mode), lanes<uint32_t>(warp, in.a), lanes<uint32_t>(warp, in.b),
              lanes<uint32_t>(warp, in.c), warp.mask, lanes<uint32_t>(warp, in.d));
  if (in.p.index) set_predicate(warp, in.p, shuffled.in_range);
}

void vote_lanes(Warp& warp, const Instruction& in) {
  set_predicate(warp, in.p, vote(static_cast<Vote>(in.mode), predicate(warp, in.q), warp.mask) ? full_mask : 0);
}

void ballot(Warp& warp, const Instruction& in) { fill(warp, in.d, predicate(warp, in.q) & warp.mask); }

void match_lanes(Warp& warp, const Instruction& in) {
  if (in.mode) {
    const uint32_t same = in.width == 8 ? match_all(lanes<uint64_t>(warp, in.a), warp.mask)
                                        : match_all(lanes<uint32_t>(warp, in.a), warp.mask);
    fill(warp, in.d, same);
    if (in.p.index) set_predicate(warp, in.p, same ? full_mask : 0);
  } else if (in.width == 8) {
    match_any(lanes<uint64_t>(warp, in.a), warp.mask, lanes<uint32_t>(warp, in.d));
  } else {
    match_any(lanes<uint32_t>(warp, in.a), warp.mask, lanes<uint32_t>(warp, in.d));
  }
}

void reduce_lanes(Warp& warp, const Instruction& in) {
  fill(warp, in.d, redux(static_cast<Reduce>(in.mode), lanes<uint32_t>(warp, in.a), warp.mask));
}

void active_mask(Warp& warp, const Instruction& in) { fill(warp, in.d, warp.mask); }

}  // namespace heed::simulator
