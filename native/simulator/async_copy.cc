// cp.async: the instruction checks both addresses and notes the copy; the bytes move when the lane waits for their
// group. If a thread accesses the destination in between, the sanitizer reports it; without the sanitizer the thread
// sees the old content.
#include <cstring>

#include "simulator/access.h"
#include "simulator/handlers.h"

namespace heed::simulator {

namespace {

// Makes those copies of the executing lanes arrive that belong to groups before `group[lane]`.
template <class F>
void arrive(Warp& warp, F last_group) {
  Block& block = *warp.block;
  size_t kept = 0;
  const uint32_t pc = warp.pc;
  for (size_t c = 0; c < warp.copies.size(); c++) {
    AsyncCopy& copy = warp.copies[c];
    for (uint32_t m = copy.mask & warp.mask; m; m &= m - 1) {
      const int lane = __builtin_ctz(m);
      if (static_cast<int32_t>(last_group(lane) - copy.group[lane]) <= 0) continue;
      uint8_t* to = block.shared + copy.destination[lane];
      const uint32_t bytes = copy.source_bytes[lane];
      std::memcpy(to, reinterpret_cast<const void*>(copy.source[lane]), bytes);
      std::memset(to + bytes, 0, copy.bytes - bytes);
      if (block.shadow) {
        warp.pc = copy.pc;
        block.shadow->end_copy(warp, lane, copy.destination[lane], copy.bytes);
      }
      copy.mask &= ~(1u << lane);
    }
    if (copy.mask) {
      if (kept != c) warp.copies[kept] = copy;
      kept++;
    }
  }
  warp.copies.resize(kept);
  warp.pc = pc;
}

}  // namespace

void async_copy(Warp& warp, const Instruction& in) {
  Block& block = *warp.block;
  warp.copies.emplace_back();
  AsyncCopy& copy = warp.copies.back();
  copy.mask = warp.mask;
  copy.bytes = in.bytes;
  copy.pc = warp.pc;
  alignas(64) uint64_t destination[warp_size], from[warp_size];
  uint8_t* pointer[warp_size];
  addresses(warp, in, destination);
  const uint64_t* b = lanes<uint64_t>(warp, in.b);
  const uint32_t* size = in.c == no_slot ? nullptr : lanes<uint32_t>(warp, in.c);
  const uint32_t ignored = in.q.index ? predicate(warp, in.q) : 0;
  for (int i = 0; i < warp_size; i++) from[i] = b[i] + static_cast<uint64_t>(int64_t{static_cast<int32_t>(in.target)});

  // The destination is checked for bounds and alignment like a write, and is then pending.
  SharedShadow* shadow = block.shadow;
  block.shadow = nullptr;
  resolve(warp, Space::shared, destination, in.bytes, Access::write, 0, pointer);
  block.shadow = shadow;
  const uint32_t executing = warp.mask;
  for (uint32_t m = executing; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    uint32_t bytes = size ? size[lane] : in.bytes;
    if (ignored >> lane & 1) bytes = 0;
    if (bytes > in.bytes)
      fail(warp, lane, error_launch_failed, "source size " + std::to_string(bytes) + " is larger than the copy");
    copy.group[lane] = warp.groups[lane];
    copy.destination[lane] = static_cast<uint32_t>(destination[lane]);
    copy.source[lane] = from[lane];
    copy.source_bytes[lane] = static_cast<uint8_t>(bytes);
    if (shadow) shadow->begin_copy(warp, lane, copy.destination[lane], in.bytes);
  }
  // The source's address must be aligned for every source size, even if nothing is read.
  for (uint32_t m = executing; m; m &= m - 1) {
    const int lane = __builtin_ctz(m);
    if (from[lane] % in.bytes)
      fail(warp, lane, error_misaligned,
           "misaligned source of a copy of " + std::to_string(in.bytes) + " bytes, " +
               std::to_string(copy.source_bytes[lane]) + " of them read");
  }
  // Processes the source in groups of lanes that read the same number of bytes, usually all lanes at once.
  uint32_t rest = executing;
  for (uint32_t m = rest; m; m &= m - 1)
    if (copy.source_bytes[__builtin_ctz(m)] == 0) rest &= ~(1u << __builtin_ctz(m));
  while (rest) {
    const uint32_t bytes = copy.source_bytes[__builtin_ctz(rest)];
    uint32_t same = 0;
    for (uint32_t m = rest; m; m &= m - 1)
      if (copy.source_bytes[__builtin_ctz(m)] == bytes) same |= 1u << __builtin_ctz(m);
    rest &= ~same;
    warp.mask = same;
    if ((bytes & (bytes - 1)) == 0) {
      resolve(warp, Space::global, from, bytes, Access::read, 0, pointer);
    } else {
      for (uint32_t i = 0; i < bytes; i++) {
        uint64_t byte[warp_size];
        for (int lane = 0; lane < warp_size; lane++) byte[lane] = from[lane] + i;
        resolve(warp, Space::global, byte, 1, Access::read, 0, pointer);
      }
    }
  }
  warp.mask = executing;
}

void async_commit(Warp& warp, const Instruction&) {
  for (uint32_t m = warp.mask; m; m &= m - 1) warp.groups[__builtin_ctz(m)]++;
}

void async_wait(Warp& warp, const Instruction& in) {
  arrive(warp, [&](int lane) { return warp.groups[lane] - in.e; });
}

void async_wait_all(Warp& warp, const Instruction& in) {
  async_commit(warp, in);
  arrive(warp, [&](int lane) { return warp.groups[lane]; });
}

}  // namespace heed::simulator
