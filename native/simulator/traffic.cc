// Counters of memory traffic.
//
// Global: a request of a warp touches sectors of 32 bytes. The ideal number is the number that its bytes would fill
// side by side. Shared: there are 32 banks of 4 bytes. Half-warps or quarter-warps make a request of 64 or 128 bits per
// lane. In each such phase, a bank serves one 4-byte word after another, and lanes that request the same word share it.
// A phase takes as many wavefronts as the busiest bank has words.
#include <sys/mman.h>

#include <algorithm>

#include "simulator/access.h"

namespace heed::simulator {

namespace {

constexpr uint64_t page = 4096;

}  // namespace

Footprint::Footprint(const Memory& memory) : bytes_((memory.arena_bytes() / 8 + page - 1) / page * page) {
  for (auto& bits : bits_) {
    void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    bits = p == MAP_FAILED ? nullptr : static_cast<uint8_t*>(p);
  }
}

Footprint::~Footprint() {
  for (uint8_t* bits : bits_)
    if (bits) munmap(bits, bytes_);
}

void Footprint::touch(bool store, uint64_t offset, uint32_t bytes) {
  uint8_t* bits = bits_[store];
  if (!bits) return;
  for (uint32_t i = 0; i < bytes;) {
    const uint64_t bit = offset + i;
    const uint32_t n = std::min<uint32_t>(bytes - i, 8 - static_cast<uint32_t>(bit % 8));
    const uint8_t mask = static_cast<uint8_t>(((1u << n) - 1) << bit % 8);
    if ((bits[bit / 8] & mask) != mask) __atomic_fetch_or(bits + bit / 8, mask, __ATOMIC_RELAXED);
    i += n;
  }
}

// Pages that were never touched are not resident and contain nothing.
uint64_t Footprint::bytes(bool store) const {
  const uint8_t* bits = bits_[store];
  if (!bits) return 0;
  std::vector<unsigned char> resident(bytes_ / page);
  if (mincore(const_cast<uint8_t*>(bits), bytes_, resident.data()) != 0) std::fill(resident.begin(), resident.end(), 1);
  uint64_t count = 0;
  for (size_t p = 0; p < resident.size(); p++) {
    if (!(resident[p] & 1)) continue;
    const uint64_t* words = reinterpret_cast<const uint64_t*>(bits + p * page);
    for (size_t i = 0; i < page / 8; i++) count += static_cast<uint64_t>(__builtin_popcountll(words[i]));
  }
  return count;
}

void count_global(const Warp& warp, const uint64_t* address, uint32_t lane_mask, uint32_t bytes, bool store) {
  KernelCounters& c = *warp.counters;
  const uint64_t base = reinterpret_cast<uint64_t>(warp.block->launch->memory->arena());
  uint64_t sectors[warp_size];
  int n = 0;
  uint64_t asked = 0;
  for (uint32_t m = lane_mask; m; m &= m - 1) {
    const uint64_t a = address[__builtin_ctz(m)];
    sectors[n++] = a / 32;  // an aligned access of at most 16 bytes lies in one sector
    asked += bytes;
    warp.block->launch->footprint->touch(store, a - base, bytes);
  }
  std::sort(sectors, sectors + n);
  const uint64_t different = static_cast<uint64_t>(std::unique(sectors, sectors + n) - sectors);
  const uint64_t ideal = (asked + 31) / 32;
  if (store) {
    c.global_stores++;
    c.global_store_bytes += asked;
    c.global_store_sectors += different;
    c.global_store_sectors_ideal += ideal;
  } else {
    c.global_loads++;
    c.global_load_bytes += asked;
    c.global_load_sectors += different;
    c.global_load_sectors_ideal += std::min(ideal, different);
  }
}

void count_shared(const Warp& warp, const uint64_t* address, uint32_t lane_mask, uint32_t bytes, bool store) {
  KernelCounters& c = *warp.counters;
  const int phases = bytes <= 4 ? 1 : static_cast<int>(bytes / 4), lanes_a_phase = warp_size / phases;
  uint64_t wavefronts = 0;
  uint64_t ideal = 0;
  for (int phase = 0; phase < phases; phase++) {
    uint32_t words[warp_size];
    int n = 0;
    for (int lane = phase * lanes_a_phase; lane < (phase + 1) * lanes_a_phase; lane++) {
      if (!(lane_mask >> lane & 1)) continue;
      for (uint32_t i = 0; i < std::max(bytes / 4, 1u); i++) words[n++] = static_cast<uint32_t>(address[lane]) / 4 + i;
    }
    if (n == 0) continue;
    std::sort(words, words + n);
    n = static_cast<int>(std::unique(words, words + n) - words);
    uint32_t load[32] = {}, most = 0;
    for (int i = 0; i < n; i++) most = std::max(most, ++load[words[i] % 32]);
    wavefronts += most;
    ideal += static_cast<uint64_t>(n + 31) / 32;
  }
  (store ? c.shared_stores : c.shared_loads)++;
  c.shared_wavefronts += wavefronts;
  c.shared_wavefronts_ideal += ideal;
}

}  // namespace heed::simulator
