// Exchanges between the participating lanes, according to the manual's pseudocode.
#include "simulator/warp.h"

namespace heed::simulator {

Shuffled shuffle(Shuffle mode, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t active, uint32_t* d) {
  uint32_t source[32];
  std::memcpy(source, a, sizeof source);  // d may be the same array as a
  Shuffled result{0, 0};
  for (uint32_t lane = 0; lane < 32; lane++) {
    if (!(active >> lane & 1)) continue;
    const uint32_t clamp = c[lane] & 31, mask = c[lane] >> 8 & 31, by = b[lane] & 31;
    const uint32_t first = lane & mask, last = first | (clamp & ~mask);
    int32_t from = 0;
    bool inside = false;
    switch (mode) {
      case Shuffle::up:
        from = static_cast<int32_t>(lane) - static_cast<int32_t>(by);
        inside = from >= static_cast<int32_t>(last);
        break;
      case Shuffle::down:
        from = static_cast<int32_t>(lane + by);
        inside = from <= static_cast<int32_t>(last);
        break;
      case Shuffle::bfly:
        from = static_cast<int32_t>(lane ^ by);
        inside = from <= static_cast<int32_t>(last);
        break;
      case Shuffle::idx:
        from = static_cast<int32_t>(first | (by & ~mask));
        inside = from <= static_cast<int32_t>(last);
        break;
    }
    if (!inside) from = static_cast<int32_t>(lane);
    const bool defined = active >> from & 1;
    d[lane] = defined ? source[from] : undefined_value;
    if (inside) result.in_range |= 1u << lane;
    if (!defined) result.undefined |= 1u << lane;
  }
  return result;
}

bool vote(Vote mode, uint32_t predicate, uint32_t active) {
  const uint32_t true_lanes = predicate & active;
  switch (mode) {
    case Vote::all:
      return true_lanes == active;
    case Vote::any:
      return true_lanes != 0;
    case Vote::uni:
      return true_lanes == active || true_lanes == 0;
  }
  return false;
}

namespace {

template <class T>
void any_match(const T* a, uint32_t active, uint32_t* d) {
  uint32_t result[32] = {};
  for (int lane = 0; lane < 32; lane++)
    for (int other = 0; other < 32; other++)
      if ((active >> other & 1) && a[lane] == a[other]) result[lane] |= 1u << other;
  for (int lane = 0; lane < 32; lane++)
    if (active >> lane & 1) d[lane] = result[lane];
}

template <class T>
uint32_t all_match(const T* a, uint32_t active) {
  if (!active) return 0;
  const T first = a[__builtin_ctz(active)];
  for (int lane = 0; lane < 32; lane++)
    if ((active >> lane & 1) && a[lane] != first) return 0;
  return active;
}

}  // namespace

void match_any(const uint32_t* a, uint32_t active, uint32_t* d) { any_match(a, active, d); }
void match_any(const uint64_t* a, uint32_t active, uint32_t* d) { any_match(a, active, d); }
uint32_t match_all(const uint32_t* a, uint32_t active) { return all_match(a, active); }
uint32_t match_all(const uint64_t* a, uint32_t active) { return all_match(a, active); }

uint32_t redux(Reduce operation, const uint32_t* a, uint32_t active) {
  if (!active) return 0;
  uint32_t result = a[__builtin_ctz(active)];
  for (uint32_t rest = active & (active - 1); rest; rest &= rest - 1) {
    const uint32_t x = a[__builtin_ctz(rest)];
    switch (operation) {
      case Reduce::add:
        result += x;
        break;
      case Reduce::min:
        result = x < result ? x : result;
        break;
      case Reduce::max:
        result = x > result ? x : result;
        break;
      case Reduce::min_s:
        result = static_cast<int32_t>(x) < static_cast<int32_t>(result) ? x : result;
        break;
      case Reduce::max_s:
        result = static_cast<int32_t>(x) > static_cast<int32_t>(result) ? x : result;
        break;
      case Reduce::and_:
        result &= x;
        break;
      case Reduce::or_:
        result |= x;
        break;
      case Reduce::xor_:
        result ^= x;
        break;
    }
  }
  return result;
}

}  // namespace heed::simulator
