// Tests exchanges between lanes: what CUDA's intrinsics promise for every width and distance, and the instruction's own
// rules for clamp, segment mask and lanes that do not take part.
#include "simulator/warp.h"

#include <cstring>

#include "check.h"

using namespace heed::simulator;

namespace {

struct Result {
  uint32_t d[32];
  Shuffled shuffled;
};

Result shuffle_all(Shuffle mode, uint32_t by, uint32_t c, uint32_t active = 0xffffffff) {
  uint32_t a[32], b[32], clamp[32];
  Result result;
  for (uint32_t lane = 0; lane < 32; lane++) {
    a[lane] = 100 + lane;
    b[lane] = by;
    clamp[lane] = c;
    result.d[lane] = 7;
  }
  result.shuffled = shuffle(mode, a, b, clamp, active, result.d);
  return result;
}

}  // namespace

// __shfl_*_sync(mask, x, by, width): c is (32 - width) << 8, with 31 in its low bits except for up.
TEST(warp_shuffles_of_segments) {
  for (uint32_t width = 1; width <= 32; width *= 2)
    for (uint32_t by = 0; by < 32; by++) {
      const uint32_t segments = (32 - width) << 8;
      const Result up = shuffle_all(Shuffle::up, by, segments), down = shuffle_all(Shuffle::down, by, segments | 31);
      const Result bfly = shuffle_all(Shuffle::bfly, by, segments | 31),
                   idx = shuffle_all(Shuffle::idx, by, segments | 31);
      for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t within = lane % width, start = lane - within;
        EXPECT(up.d[lane] == 100 + (within >= by ? lane - by : lane) &&
               (up.shuffled.in_range >> lane & 1) == (within >= by));
        EXPECT(down.d[lane] == 100 + (within + by < width ? lane + by : lane));
        EXPECT((down.shuffled.in_range >> lane & 1) == (within + by < width));
        // The lane may lie in an earlier segment, but not in a later one.
        const uint32_t other = lane ^ by;
        EXPECT(bfly.d[lane] == 100 + (other < start + width ? other : lane));
        EXPECT(idx.d[lane] == 100 + start + by % width && idx.shuffled.in_range == 0xffffffff);
      }
      EXPECT(!up.shuffled.undefined && !down.shuffled.undefined && !bfly.shuffled.undefined);
    }
}

TEST(warp_shuffle_of_some_lanes) {
  const uint32_t active = 0x0000ff0f;
  const Result down = shuffle_all(Shuffle::down, 1, 31, active);
  const uint32_t undefined = 1u << 3 | 1u << 15;  // lanes 4 and 16 do not take part
  for (uint32_t lane = 0; lane < 32; lane++) {
    const uint32_t expected = undefined >> lane & 1 ? undefined_value : active >> lane & 1 ? 101 + lane : 7;
    EXPECT(down.d[lane] == expected);
  }
  EXPECT(down.shuffled.undefined == undefined);
  EXPECT(down.shuffled.in_range == active);
  // The clamp alone: a lane beyond it is out of range.
  const Result clamped = shuffle_all(Shuffle::down, 2, 11);
  for (uint32_t lane = 0; lane < 32; lane++) EXPECT(clamped.d[lane] == 100 + (lane + 2 <= 11 ? lane + 2 : lane));
  // In place, with a different source for each lane: a reversal.
  uint32_t a[32], b[32], c[32];
  for (uint32_t lane = 0; lane < 32; lane++) {
    a[lane] = lane * lane;
    b[lane] = 31 - lane;
    c[lane] = 31;
  }
  shuffle(Shuffle::idx, a, b, c, 0xffffffff, a);
  for (uint32_t lane = 0; lane < 32; lane++) EXPECT(a[lane] == (31 - lane) * (31 - lane));
}

// The value of a lane outside the mask can be recognised in every type.
TEST(warp_shuffle_undefined_value) {
  float single;
  std::memcpy(&single, &undefined_value, sizeof single);
  EXPECT(single != single);
  for (const int shift : {0, 16}) {
    const uint32_t half = undefined_value >> shift & 0xffff;
    EXPECT((half & 0x7c00) == 0x7c00 && half & 0x03ff);  // f16: NaN
    EXPECT((half & 0x7f80) == 0x7f80 && half & 0x007f);  // bf16: NaN
  }
  EXPECT(undefined_value > 1u << 30);
}

TEST(warp_votes_matches_and_reductions) {
  EXPECT(vote(Vote::all, 0xff, 0x0f) && !vote(Vote::all, 0x0e, 0x0f) && vote(Vote::any, 0x08, 0x0f) &&
         !vote(Vote::any, 0xf0, 0x0f));
  EXPECT(vote(Vote::uni, 0xf0, 0x0f) && vote(Vote::uni, 0xff, 0x0f) && !vote(Vote::uni, 0x01, 0x0f));
  heed::test::Random random(1);
  for (int i = 0; i < 500; i++) {
    uint32_t a[32], d[32];
    uint64_t wide[32];
    const uint32_t active = static_cast<uint32_t>(random.next() >> 32) | 1u << (i % 32);
    int64_t sum = 0, low = INT64_MAX, high = INT64_MIN, low_s = INT64_MAX, high_s = INT64_MIN;
    uint32_t all = ~0u, any = 0, parity = 0;
    for (int lane = 0; lane < 32; lane++) {
      a[lane] =
          i % 2 ? static_cast<uint32_t>(random.next() >> 32) : static_cast<uint32_t>(random.below(4)) + 0x7ffffffe;
      wide[lane] = uint64_t{a[lane]} << 32 | 5;
      d[lane] = 9;
      if (!(active >> lane & 1)) continue;
      const int64_t u = a[lane], s = static_cast<int32_t>(a[lane]);
      sum += u;
      low = std::min(low, u), high = std::max(high, u), low_s = std::min(low_s, s), high_s = std::max(high_s, s);
      all &= a[lane], any |= a[lane], parity ^= a[lane];
    }
    EXPECT(redux(Reduce::add, a, active) == static_cast<uint32_t>(sum) &&
           redux(Reduce::min, a, active) == static_cast<uint32_t>(low));
    EXPECT(redux(Reduce::max, a, active) == static_cast<uint32_t>(high) &&
           redux(Reduce::min_s, a, active) == static_cast<uint32_t>(low_s));
    EXPECT(redux(Reduce::max_s, a, active) == static_cast<uint32_t>(high_s) && redux(Reduce::and_, a, active) == all);
    EXPECT(redux(Reduce::or_, a, active) == any && redux(Reduce::xor_, a, active) == parity);
    for (const bool is_wide : {false, true}) {
      is_wide ? match_any(wide, active, d) : match_any(a, active, d);
      bool same = true;
      for (int lane = 0; lane < 32; lane++) {
        uint32_t expected = 0;
        for (int other = 0; other < 32; other++)
          if ((active >> other & 1) && a[other] == a[lane]) expected |= 1u << other;
        EXPECT(d[lane] == (active >> lane & 1 ? expected : 9));
        if ((active >> lane & 1) && expected != active) same = false;
      }
      EXPECT((is_wide ? match_all(wide, active) : match_all(a, active)) == (same ? active : 0));
    }
  }
  uint32_t equal[32];
  std::fill_n(equal, 32, 3);
  EXPECT(match_all(equal, 0xf0) == 0xf0);
  equal[20] = 4;
  EXPECT(match_all(equal, 0xf0) == 0xf0 && match_all(equal, 0x1000f0) == 0);
}
