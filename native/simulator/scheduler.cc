#include "simulator/scheduler.h"

#include <algorithm>
#include <cstring>

namespace heed::simulator {

namespace {

constexpr uint32_t no_limit = UINT32_MAX;
constexpr uint8_t poison = 0xcb;

// The last split takes the place of the removed one.
void remove(Warp& warp, size_t split) {
  warp.splits[split] = warp.splits.back();
  warp.splits.pop_back();
}

// Returns true for a collective that needs the whole warp and has all of it.
bool is_complete(const Warp& warp, const Instruction& in) {
  if (in.control == Control::aligned) return true;
  const uint32_t* members = lanes<uint32_t>(warp, in.e);
  uint32_t common = full_mask;
  for (int i = 0; i < warp_size; i++) common &= members[i];
  return common == full_mask && in.control == Control::collective;
}

}  // namespace

Scheduler::Scheduler(LaunchState& launch) : launch_(launch), random_(0) {
  const Program& program = *launch.program;
  register_stride_ = (program.register_file_bytes + 255) / 256 * 256 + 64;  // staggered for the host's caches
  registers_.resize(register_stride_ * launch.warps + 64);
  register_base_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(registers_.data()) + 63) / 64 * 64);
  predicates_.resize(size_t{program.predicates} * launch.warps);
  locals_.resize(size_t{program.local_bytes} * warp_size * launch.warps);
  shared_.resize(launch.shared_bytes + 16);
  block_.launch = &launch;
  block_.warps.resize(launch.warps);
}

Scheduler::~Scheduler() = default;

void Scheduler::start(Warp& warp, uint32_t index) {
  const Program& program = *launch_.program;
  warp.base[0] = register_base_ + register_stride_ * index;
  warp.base[1] = launch_.constants.data();
  warp.predicates = predicates_.data() + size_t{program.predicates} * index;
  std::memset(warp.predicates, 0, program.predicates * sizeof(uint32_t));
  warp.predicates[always] = full_mask;
  warp.index = index;
  const uint32_t left = launch_.threads - index * warp_size;
  warp.valid = left >= warp_size ? full_mask : (1u << left) - 1;
  warp.exited = 0;
  warp.block = &block_;
  warp.local = locals_.data() + size_t{program.local_bytes} * warp_size * index;
  warp.splits.clear();
  warp.splits.push_back({0, warp.valid, Split::ready, 0});
  warp.copies.clear();
  std::fill(std::begin(warp.groups), std::end(warp.groups), 0);
  warp.executed = 0;
  warp.counters = launch_.options.count ? &counters : nullptr;
}

void Scheduler::run(const uint32_t index[3], uint64_t seed) {
  std::copy(index, index + 3, block_.index);
  random_ = Random(seed);
  const uintptr_t shared = reinterpret_cast<uintptr_t>(shared_.data());
  block_.shared = reinterpret_cast<uint8_t*>((shared + 15) / 16 * 16);
  std::memset(block_.shared, poison, launch_.shared_bytes);
  block_.shadow = nullptr;
  if (launch_.options.sanitize) {
    shadow_.reset(launch_.shared_bytes, launch_.program->access_shift, launch_.warps);
    block_.shadow = &shadow_;
  }
  block_.races = nullptr;
  if (launch_.races) {
    const uint32_t* grid = launch_.grid;
    const uint32_t number = index[0] + grid[0] * (index[1] + grid[1] * index[2]);
    races_.reset(*launch_.races, number, launch_.warps, launch_.program->orders_blocks);
    block_.races = &races_;
  }
  std::fill(std::begin(block_.barriers), std::end(block_.barriers), Barrier());
  for (uint32_t w = 0; w < launch_.warps; w++) start(block_.warps[w], w);
  counters.blocks++;

  // Warps that can continue come first.
  std::vector<uint32_t> order(launch_.warps);
  for (uint32_t w = 0; w < launch_.warps; w++) order[w] = w;
  uint32_t finished = 0;
  while (finished < launch_.warps) {
    bool progress = false;
    for (uint32_t left = static_cast<uint32_t>(order.size()); left > 0; left--) {
      std::swap(order[random_.below(left)], order[left - 1]);
      Warp& warp = block_.warps[order[left - 1]];
      const uint64_t before = warp.executed;
      const uint32_t slice = 64 + random_.below(960);
      const Turn result = turn(warp, slice, random_.below(8) != 0);
      block_.executed += warp.executed - before;
      if (warp.executed != before) progress = true;
      if (result == Turn::finished) {
        progress = true;
        finished++;
        std::swap(order[left - 1], order.back());
        order.pop_back();
      }
    }
    account();
    if (!progress) deadlock();
  }
}

void Scheduler::account() {
  const uint64_t executed = block_.executed - accounted_;
  accounted_ = block_.executed;
  const uint64_t total = launch_.instructions.fetch_add(executed, std::memory_order_relaxed) + executed;
  if (total > launch_.options.limit) {
    size_t running = 0;
    while (block_.warps[running].splits.empty() && running + 1 < block_.warps.size()) running++;
    Warp& warp = block_.warps[running];
    if (!warp.splits.empty()) warp.pc = warp.splits[0].pc;
    fail(warp, -1, error_timeout,
         "the launch has executed more than " + std::to_string(launch_.options.limit) +
             " warp instructions (HEED_SIMULATOR_LIMIT)");
  }
  if (launch_.stop.load(std::memory_order_relaxed)) throw FaultError{0, ""};
}

// ---- a warp's turn

Scheduler::Turn Scheduler::turn(Warp& warp, uint32_t slice, bool lowest) {
  const Instruction* const code = launch_.program->instructions.data();
  uint32_t left = slice;
  while (true) {
    if (warp.splits.empty()) return Turn::finished;
    // Chooses the split to run, after merging those that are at the same place.
    size_t chosen = SIZE_MAX;
    uint32_t ready = 0;
    for (size_t i = 0; i < warp.splits.size(); i++) {
      if (warp.splits[i].state != Split::ready) continue;
      ready++;
      if (chosen == SIZE_MAX || warp.splits[i].pc < warp.splits[chosen].pc) chosen = i;
    }
    if (chosen == SIZE_MAX) return Turn::blocked;
    if (left == 0) return Turn::over;
    if (!lowest && ready > 1) {
      uint32_t pick = random_.below(ready);
      for (size_t i = 0; i < warp.splits.size(); i++)
        if (warp.splits[i].state == Split::ready && pick-- == 0) chosen = i;
      lowest = true;
    }
    for (size_t i = warp.splits.size(); i-- > 0;) {
      if (i == chosen || warp.splits[i].state != Split::ready || warp.splits[i].pc != warp.splits[chosen].pc) continue;
      warp.splits[chosen].mask |= warp.splits[i].mask;
      if (chosen == warp.splits.size() - 1) chosen = i;  // remove() moves the last split
      remove(warp, i);
    }
    // The split runs until it arrives at the place of another one.
    uint32_t limit = no_limit;
    const uint32_t start_pc = warp.splits[chosen].pc;
    for (const Split& other : warp.splits)
      if (other.state == Split::ready && other.pc > start_pc) limit = std::min(limit, other.pc);

    uint32_t pc = start_pc;
    const uint32_t active = warp.splits[chosen].mask;
    bool again = false;
    while (left > 0 && !again) {
      const Instruction& in = code[pc];
      left--;
      warp.executed++;
      uint32_t mask = active;
      if (in.guard.index != always) mask &= warp.predicates[in.guard.index] ^ (in.guard.negated ? full_mask : 0);
      switch (in.control) {
        case Control::next:
          if (mask) {
            warp.mask = mask;
            warp.pc = pc;
            in.execute(warp, in);
          }
          pc++;
          break;
        case Control::branch:
          if (mask == active) {
            pc = in.target;
          } else if (mask == 0) {
            pc++;
          } else {
            if (warp.counters) warp.counters->divergent_branches++;
            warp.splits[chosen].pc = pc + 1;
            warp.splits[chosen].mask = active & ~mask;
            warp.splits.push_back({in.target, mask, Split::ready, 0});
            again = true;
            continue;
          }
          break;
        case Control::branch_indexed:
          warp.pc = pc;
          warp.splits[chosen].pc = pc + 1;
          branch_indexed(warp, chosen, in, mask);
          again = true;
          continue;
        case Control::exit:
          if (mask == 0) {
            pc++;
            break;
          }
          warp.exited |= mask;
          warp.splits[chosen].mask = active & ~mask;
          warp.splits[chosen].pc = pc + 1;
          if (mask == active) remove(warp, chosen);
          // Lanes that wait for lanes that have exited need not wait any more.
          for (Split& split : warp.splits)
            if (split.state == Split::converging) split.state = Split::ready;
          again = true;
          continue;
        default: {
          if (mask == 0) {
            pc++;
            break;
          }
          warp.pc = pc;
          warp.mask = mask;
          // Usually the warp is whole.
          if (mask == full_mask && in.control != Control::barrier && is_complete(warp, in)) {
            in.execute(warp, in);
            pc++;
            break;
          }
          warp.splits[chosen].pc = pc;
          warp.splits[chosen].mask = mask;
          if (mask != active) warp.splits.push_back({pc + 1, active & ~mask, Split::ready, 0});
          synchronise(warp, chosen, in);
          again = true;
          continue;
        }
      }
      if (pc >= limit) {
        warp.splits[chosen].pc = pc;
        again = true;
      }
    }
    if (!again) warp.splits[chosen].pc = pc;
  }
}

void Scheduler::branch_indexed(Warp& warp, size_t split, const Instruction& in, uint32_t mask) {
  const std::vector<uint32_t>& targets = launch_.program->lists[in.e];
  const uint32_t* index = lanes<uint32_t>(warp, in.a);
  const uint32_t passing = warp.splits[split].mask & ~mask;
  for (uint32_t rest = mask; rest;) {
    const int lane = __builtin_ctz(rest);
    const uint32_t which = index[lane];
    if (which >= targets.size())
      fail(warp, lane, error_launch_failed, "index " + std::to_string(which) + " is beyond the targets");
    uint32_t same = 0;
    for (uint32_t m = rest; m; m &= m - 1)
      if (index[__builtin_ctz(m)] == which) same |= 1u << __builtin_ctz(m);
    rest &= ~same;
    warp.splits.push_back({targets[which], same, Split::ready, 0});
  }
  warp.splits[split].mask = passing;
  if (passing == 0) remove(warp, split);
}

}  // namespace heed::simulator
