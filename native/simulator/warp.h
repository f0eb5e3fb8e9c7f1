// Exchanges between the lanes of a warp: shfl.sync, vote.sync, match.sync, redux.sync.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

// NaN as f32, as two f16 and as two bf16; as an integer far from any index or size.
constexpr uint32_t undefined_value = 0x7fff7fff;

enum class Shuffle : uint8_t { up, down, bfly, idx };

struct Shuffled {
  uint32_t in_range;   // lanes whose predicate is true: the source lane is inside the segment
  uint32_t undefined;  // lanes (of `active`) that read a lane outside `active`: their value is not defined
};

// d = shfl.sync.mode.b32 a, b, c, by lanes of `active`; other lanes of d keep what they hold. b and c vary by lane: c's
// bits 0..4 are the clamp, bits 8..12 the segment mask. A lane out of range gets its own a; one that reads a lane
// outside of `active` gets undefined_value, since what it gets on a card is not defined.
Shuffled shuffle(Shuffle mode, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t active, uint32_t* d);

enum class Vote : uint8_t { all, any, uni };
bool vote(Vote mode, uint32_t predicate, uint32_t active);  // ballot: predicate & active

// match.any: for each lane of `active`, the lanes of `active` with the same value; match.all: `active` if all are the
// same (else 0), also what the predicate tells.
void match_any(const uint32_t* a, uint32_t active, uint32_t* d);
void match_any(const uint64_t* a, uint32_t active, uint32_t* d);
uint32_t match_all(const uint32_t* a, uint32_t active);
uint32_t match_all(const uint64_t* a, uint32_t active);

enum class Reduce : uint8_t { add, min, max, min_s, max_s, and_, or_, xor_ };
uint32_t redux(Reduce operation, const uint32_t* a, uint32_t active);

}  // namespace heed::simulator
