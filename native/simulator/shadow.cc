#include "simulator/shadow.h"

#include <algorithm>

#include "simulator/clones.h"

namespace heed::simulator {

namespace {

HEED_CLONES uint32_t equal_lanes(const uint32_t* values, uint32_t value) {
  uint32_t equal = 0;
  for (int i = 0; i < warp_size; i++) equal |= values[i] == value ? 1u << i : 0;
  return equal;
}

}  // namespace

void SharedShadow::reset(uint32_t bytes, uint32_t granule_shift, uint32_t warps) {
  shift_ = granule_shift;
  warps_ = warps;
  granules_ = (bytes + (1u << shift_) - 1) >> shift_;
  time_ = 1;
  write_.assign(granules_, 0);
  read_.assign(granules_, 0);
  readers_.resize(granules_);
  seen_.assign(warps * warps, 1);
  floor_.assign(warps, 1u << stamp_shift);
  for (auto& joined : joined_) joined.assign(warps, 0);
}

// ---- time

void SharedShadow::advance() {
  if (++time_ <= last_time) return;
  // All times are used up, so everything so far counts as ordered.
  for (auto* records : {&write_, &read_}) {
    for (uint32_t& record : *records)
      if (record && record != pending) record = 1u << stamp_shift;
  }
  time_ = 2;
  std::fill(seen_.begin(), seen_.end(), 2);
  std::fill(floor_.begin(), floor_.end(), 2u << stamp_shift);
  for (auto& joined : joined_) std::fill(joined.begin(), joined.end(), 2);
}

void SharedShadow::update_floor(uint32_t warp) {
  const auto row = seen_.begin() + warp * warps_;
  floor_[warp] = *std::min_element(row, row + warps_) << stamp_shift;
}

void SharedShadow::arrive(uint32_t warp, int barrier) {
  advance();
  std::vector<uint32_t>& joined = joined_[barrier];
  for (uint32_t v = 0; v < warps_; v++) joined[v] = std::max(joined[v], seen_[warp * warps_ + v]);
  joined[warp] = time_;
}

void SharedShadow::leave(uint32_t warp, int barrier) {
  for (uint32_t v = 0; v < warps_; v++)
    seen_[warp * warps_ + v] = std::max(seen_[warp * warps_ + v], joined_[barrier][v]);
  update_floor(warp);
}

void SharedShadow::complete(int barrier) { std::fill(joined_[barrier].begin(), joined_[barrier].end(), 0); }

void SharedShadow::warp_barrier(uint32_t warp) {
  advance();
  seen_[warp * warps_ + warp] = time_;
  update_floor(warp);
}

// ---- accesses

bool SharedShadow::ordered(uint32_t warp, uint32_t record) const {
  const uint32_t other = (record & (many_bit - 1)) / warp_size;
  return (record >> stamp_shift) < seen_[warp * warps_ + other];
}

void SharedShadow::fault(const Warp& warp, int lane, uint32_t granule, uint32_t record, const char* now,
                         const char* before) const {
  const uint32_t address = granule << shift_;
  if (record == pending)
    fail(warp, lane, error_launch_failed,
         std::string(now) + " of shared memory at byte " + std::to_string(address) +
             ", where a cp.async is under way that has not been waited for");
  fail(warp, lane, error_launch_failed,
       "race in shared memory at byte " + std::to_string(address) + ": this " + now + " and a " + before + " by " +
           thread_name(*warp.block, record & (many_bit - 1)) + " have no barrier between them");
}

void SharedShadow::check_written(const Warp& warp, int lane, uint32_t granule) const {
  if (write_[granule] == 0)
    fail(warp, lane, error_launch_failed,
         "read of shared memory at byte " + std::to_string(granule << shift_) + ", which has never been written");
}

void SharedShadow::read(const Warp& warp, int lane, uint32_t address, uint32_t bytes) {
  const uint32_t thread = warp.index * warp_size + static_cast<uint32_t>(lane), floor = floor_[warp.index];
  const uint32_t now = time_ << stamp_shift | thread;
  for (uint32_t g = address >> shift_, end = (address + bytes - 1) >> shift_; g <= end; g++) {
    const uint32_t w = write_[g];
    if (w == 0) check_written(warp, lane, g);
    if (w >= floor && (w == pending || ((w & (many_bit - 1)) != thread && !ordered(warp.index, w))))
      fault(warp, lane, g, w, "read", "write");
    const uint32_t r = read_[g];
    if (r >> stamp_shift != time_) {
      read_[g] = now;
    } else if (r & many_bit) {
      readers_[g] |= 1u << warp.index;
    } else if (r != now) {
      readers_[g] = 1u << warp.index | 1u << (r & (many_bit - 1)) / warp_size;
      read_[g] = r | many_bit;
    }
  }
}

void SharedShadow::write(const Warp& warp, int lane, uint32_t address, uint32_t bytes) {
  const uint32_t thread = warp.index * warp_size + static_cast<uint32_t>(lane), floor = floor_[warp.index];
  const uint32_t now = time_ << stamp_shift | thread;
  for (uint32_t g = address >> shift_, end = (address + bytes - 1) >> shift_; g <= end; g++) {
    const uint32_t w = write_[g], r = read_[g];
    if (w >= floor && (w == pending || ((w & (many_bit - 1)) != thread && !ordered(warp.index, w))))
      fault(warp, lane, g, w, "write", "write");
    if (r >= floor) {
      if (r & many_bit) {
        for (uint32_t v = 0; v < warps_; v++)
          if (readers_[g] >> v & 1 && (r >> stamp_shift) >= seen_[warp.index * warps_ + v])
            fault(warp, lane, g, r, "write", "read");
      } else if ((r & (many_bit - 1)) != thread && !ordered(warp.index, r)) {
        fault(warp, lane, g, r, "write", "read");
      }
    }
    write_[g] = now;
  }
}

bool SharedShadow::share(const Warp& warp, uint32_t address, uint32_t bytes) {
  const uint32_t first = address >> shift_, end = (address + bytes - 1) >> shift_, floor = floor_[warp.index];
  for (uint32_t g = first; g <= end; g++)
    if (write_[g] >= floor) return false;
  for (uint32_t g = first; g <= end; g++) {
    if (read_[g] & many_bit) continue;
    read_[g] |= many_bit;
    readers_[g] = 1u << warp.index;
  }
  return true;
}

// The lanes of a warp often read few different addresses: the rows and columns of a tile.
void SharedShadow::read(const Warp& warp, const uint32_t* address, uint32_t bytes) {
  for (uint32_t m = warp.mask; m;) {
    const int lane = __builtin_ctz(m);
    uint32_t others = equal_lanes(address, address[lane]) & m & ~(1u << lane);
    read(warp, lane, address[lane], bytes);
    m &= ~(others | 1u << lane);
    if (!others || share(warp, address[lane], bytes)) continue;
    for (; others; others &= others - 1) read(warp, __builtin_ctz(others), address[lane], bytes);
  }
}

void SharedShadow::write(const Warp& warp, const uint32_t* address, uint32_t bytes) {
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    write(warp, lane, address[lane], bytes);
  }
}

void SharedShadow::strong(const Warp& warp, const uint32_t* address, uint32_t bytes, bool reads, bool writes) {
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    for (uint32_t g = address[lane] >> shift_, end = (address[lane] + bytes - 1) >> shift_; g <= end; g++) {
      if (write_[g] == pending) fault(warp, lane, g, pending, "access", "");
      if (reads) check_written(warp, lane, g);
      if (writes && write_[g] == 0) write_[g] = 1;
    }
  }
}

void SharedShadow::begin_copy(const Warp& warp, int lane, uint32_t address, uint32_t bytes) {
  write(warp, lane, address, bytes);
  for (uint32_t g = address >> shift_, end = (address + bytes - 1) >> shift_; g <= end; g++) write_[g] = pending;
}

void SharedShadow::end_copy(const Warp& warp, int lane, uint32_t address, uint32_t bytes) {
  const uint32_t thread = warp.index * warp_size + static_cast<uint32_t>(lane);
  for (uint32_t g = address >> shift_, end = (address + bytes - 1) >> shift_; g <= end; g++)
    write_[g] = time_ << stamp_shift | thread;
}

}  // namespace heed::simulator
