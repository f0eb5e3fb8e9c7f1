// Makes lanes and warps wait for each other.
#include <algorithm>

#include "simulator/scheduler.h"

namespace heed::simulator {

namespace {

std::string hex(uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

}  // namespace

void Scheduler::synchronise(Warp& warp, size_t split, const Instruction& in) {
  take_waiting(warp, split);
  switch (in.control) {
    case Control::collective:
      return exchange(warp, split, in);
    case Control::warp_barrier:
      return warp_barrier(warp, split, in);
    case Control::aligned:
      return all_lanes(warp, split, in);
    default:
      return arrive(warp, split, in);
  }
}

// Lanes that wait at this instruction join the split.
void Scheduler::take_waiting(Warp& warp, size_t& split) {
  for (size_t i = warp.splits.size(); i-- > 0;) {
    const Split& other = warp.splits[i];
    if (i == split || other.state == Split::at_barrier || other.pc != warp.splits[split].pc) continue;
    warp.splits[split].mask |= other.mask;
    if (split == warp.splits.size() - 1) split = i;  // the last split takes the place of the removed one
    warp.splits[i] = warp.splits.back();
    warp.splits.pop_back();
  }
}

// shfl.sync and similar instructions. Lanes may name different masks, as the tiles of cooperative groups do.
void Scheduler::exchange(Warp& warp, size_t split, const Instruction& in) {
  const uint32_t* members = lanes<uint32_t>(warp, in.e);
  const uint32_t here = warp.splits[split].mask;
  uint32_t passed = 0;
  for (uint32_t rest = here; rest;) {
    const int lane = __builtin_ctz(rest);
    const uint32_t wanted = members[lane];
    if (!(wanted >> lane & 1))
      fail(warp, lane, error_launch_failed, "the thread is not in the member mask " + hex(wanted));
    uint32_t group = 0;
    for (uint32_t m = rest; m; m &= m - 1)
      if (members[__builtin_ctz(m)] == wanted) group |= 1u << __builtin_ctz(m);
    rest &= ~group;
    if ((wanted & warp.live()) & ~group) continue;
    warp.mask = group;
    in.execute(warp, in);
    passed |= group;
  }
  Split& s = warp.splits[split];
  if (passed == here) {
    s.pc++;
    s.state = Split::ready;
    return;
  }
  s.mask = here & ~passed;
  s.state = Split::converging;
  if (passed) warp.splits.push_back({s.pc + 1, passed, Split::ready, 0});
}

// bar.warp.sync: lanes may come from different instructions.
void Scheduler::warp_barrier(Warp& warp, size_t split, const Instruction& in) {
  const Instruction* const code = launch_.program->instructions.data();
  warp.splits[split].state = Split::converging;
  const auto wanted_by = [&](const Split& s, int lane) { return lanes<uint32_t>(warp, code[s.pc].e)[lane]; };
  const uint32_t here = warp.splits[split].mask;
  for (uint32_t m = here; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    const uint32_t wanted = wanted_by(warp.splits[split], lane);
    if (!(wanted >> lane & 1))
      fail(warp, lane, error_launch_failed, "the thread is not in the member mask " + hex(wanted));
  }
  for (uint32_t rest = here; rest;) {
    // Goes over the masks of the remaining lanes, one after the other.
    const int first = __builtin_ctz(rest);
    const uint32_t wanted = lanes<uint32_t>(warp, in.e)[first];
    uint32_t group = 0;
    for (const Split& s : warp.splits) {
      if (s.state != Split::converging || code[s.pc].control != Control::warp_barrier) continue;
      for (uint32_t m = s.mask; m; m &= m - 1)
        if (wanted_by(s, __builtin_ctz(m)) == wanted) group |= 1u << __builtin_ctz(m);
    }
    rest &= ~group & ~(1u << first);
    if ((wanted & warp.live()) & ~group) continue;
    if (block_.shadow) block_.shadow->warp_barrier(warp.index);
    for (size_t i = warp.splits.size(); i-- > 0;) {
      Split& s = warp.splits[i];
      if (s.state != Split::converging || code[s.pc].control != Control::warp_barrier || !(s.mask & group)) continue;
      const uint32_t passing = s.mask & group, pc = s.pc + 1;
      s.mask &= ~group;
      if (s.mask == 0) {
        s = {pc, passing, Split::ready, 0};
      } else {
        warp.splits.push_back({pc, passing, Split::ready, 0});
      }
    }
  }
}

// mma and ldmatrix: .aligned instructions of the whole warp.
void Scheduler::all_lanes(Warp& warp, size_t split, const Instruction& in) {
  Split& s = warp.splits[split];
  if (s.mask != warp.live()) {
    s.state = Split::converging;
    return;
  }
  if (s.mask != full_mask)
    fail(warp, __builtin_ctz(s.mask), error_launch_failed,
         "needs all 32 threads of the warp, has " + std::to_string(__builtin_popcount(s.mask)));
  warp.mask = s.mask;
  in.execute(warp, in);
  s.pc++;
  s.state = Split::ready;
}

void Scheduler::arrive(Warp& warp, size_t split, const Instruction& in) {
  const bool only_arrives = in.mode & 1, aligned = !(in.mode & 2);
  Split& s = warp.splits[split];
  if (aligned && s.mask != warp.live()) {
    s.state = Split::converging;
    return;
  }
  const uint32_t* number = lanes<uint32_t>(warp, in.a);
  const int first = __builtin_ctz(s.mask);
  for (uint32_t m = s.mask; m; m &= m - 1)
    if (number[__builtin_ctz(m)] != number[first])
      fail(warp, __builtin_ctz(m), error_launch_failed, "threads of a warp name different barriers");
  if (number[first] >= barrier_count)
    fail(warp, first, error_launch_failed, "there is no barrier " + std::to_string(number[first]));
  const int id = static_cast<int>(number[first]);
  Barrier& barrier = block_.barriers[id];
  const bool counted = in.b != no_slot;
  const uint32_t expected = counted ? lanes<uint32_t>(warp, in.b)[first] : launch_.warps * warp_size;
  if (expected == 0 || expected % warp_size || expected > 1024)
    fail(warp, first, error_launch_failed,
         "a barrier of " + std::to_string(expected) + " threads; expected a multiple of 32, at most 1024");
  if (barrier.arrived && barrier.expected != expected)
    fail(warp, first, error_launch_failed,
         "barrier divergence: barrier " + std::to_string(id) + " is for " + std::to_string(expected) +
             " threads here and for " + std::to_string(barrier.expected) + " at " +
             place_name(*launch_.program, barrier.pc));
  if (!barrier.arrived) {
    barrier.expected = expected;
    barrier.pc = s.pc;
  }
  // The missing lanes of a block's last warp count as arrived when its first thread arrives.
  barrier.arrived += static_cast<uint32_t>(__builtin_popcount(s.mask));
  if (s.mask & 1) barrier.arrived += static_cast<uint32_t>(__builtin_popcount(~warp.valid));
  if (warp.counters) warp.counters->barriers++;
  if (in.mode >> 2) {
    barrier.votes += static_cast<uint32_t>(__builtin_popcount(predicate(warp, in.q) & s.mask));
    barrier.voters += static_cast<uint32_t>(__builtin_popcount(s.mask));
  }
  if (block_.shadow) block_.shadow->arrive(warp.index, id);
  BlockOrder* const order = block_.races ? block_.races->order() : nullptr;
  if (order) order->arrive(warp.index, id);
  if (only_arrives) {
    s.pc++;
    s.state = Split::ready;
  } else {
    s.state = Split::at_barrier;
    s.barrier = static_cast<uint8_t>(id);
  }
  if (barrier.arrived > barrier.expected)
    fail(warp, first, error_launch_failed,
         "barrier divergence: more threads than the " + std::to_string(expected) + " that barrier " +
             std::to_string(id) + " is for");
  if (barrier.arrived == barrier.expected) release(id);
}

void Scheduler::release(int id) {
  Barrier& barrier = block_.barriers[id];
  BlockOrder* const order = block_.races ? block_.races->order() : nullptr;
  const Instruction* const code = launch_.program->instructions.data();
  for (Warp& warp : block_.warps) {
    for (Split& s : warp.splits) {
      if (s.state != Split::at_barrier || s.barrier != id) continue;
      const Instruction& in = code[s.pc];
      warp.mask = s.mask;
      switch (in.mode >> 2) {
        case 1:
          for (uint32_t m = s.mask; m; m &= m - 1) lanes<uint32_t>(warp, in.d)[__builtin_ctz(m)] = barrier.votes;
          break;
        case 2:
          set_predicate(warp, in.p, barrier.votes == barrier.voters ? full_mask : 0);
          break;
        case 3:
          set_predicate(warp, in.p, barrier.votes ? full_mask : 0);
          break;
        default:
          break;
      }
      if (block_.shadow) block_.shadow->leave(warp.index, id);
      if (order) order->leave(warp.index, id);
      s.pc++;
      s.state = Split::ready;
    }
  }
  if (block_.shadow) block_.shadow->complete(id);
  if (order) order->complete(id);
  barrier = Barrier();
}

// No warp can continue: the fault says what one thread waits for, and what one of the threads that it waits for does.
void Scheduler::deadlock() {
  const Program& program = *launch_.program;
  Warp* waiting = nullptr;
  const Split* split = nullptr;
  for (Warp& warp : block_.warps) {
    for (const Split& s : warp.splits) {
      if (split && !(split->state == Split::converging && s.state == Split::at_barrier)) continue;
      waiting = &warp;
      split = &s;
    }
  }
  waiting->pc = split->pc;
  const int lane = __builtin_ctz(split->mask);
  // Describes a thread that is not at the place where this one waits.
  const auto other = [&](const Warp& warp, uint32_t lanes_of_warp) -> std::string {
    for (const Split& s : warp.splits) {
      if (!(s.mask & lanes_of_warp) || (s.pc == split->pc && s.state == split->state)) continue;
      return thread_name(block_,
                         warp.index * warp_size + static_cast<uint32_t>(__builtin_ctz(s.mask & lanes_of_warp))) +
             " waits at " + place_name(program, s.pc);
    }
    if (const uint32_t gone = warp.exited & lanes_of_warp)
      return thread_name(block_, warp.index * warp_size + static_cast<uint32_t>(__builtin_ctz(gone))) + " has exited";
    return "";
  };
  if (split->state == Split::converging) {
    const std::string missing = other(*waiting, full_mask);
    fail(*waiting, lane, error_launch_failed,
         "deadlock: waits for other threads of its warp (" + hex(split->mask) + " are here)" +
             (missing.empty() ? "" : "; " + missing));
  }
  const Barrier& barrier = block_.barriers[split->barrier];
  std::string missing;
  for (const Warp& warp : block_.warps)
    if (missing.empty()) missing = other(warp, full_mask);
  fail(*waiting, lane, error_launch_failed,
       "barrier divergence: barrier " + std::to_string(split->barrier) + " has " + std::to_string(barrier.arrived) +
           " of " + std::to_string(barrier.expected) + " threads and no other can come" +
           (missing.empty() ? "" : "; " + missing));
}

}  // namespace heed::simulator
