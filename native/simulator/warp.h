// Exchanges between the lanes of a warp: shfl.sync, vote.sync, match.sync, redux.sync.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

// The value is a NaN as f32, as two f16 and as two bf16; as an integer it is far from any index or size.
constexpr uint32_t undefined_value = 0x7fff7fff;

enum class Shuffle : uint8_t { up, down, bfly, idx };

struct Shuffled {
  uint32_t in_range;   // lanes whose predicate is true: the source lane is inside the segment
  uint32_t undefined;  // lanes (of `active`) that read a lane outside `active`, so that their value is undefined
};

// d = shfl.sync.mode.b32 a, b, c, for the lanes of `active`; other lanes of d keep their values. b and c vary by lane:
// bits 0..4 of c are the clamp, and bits 8..12 the segment mask. A lane out of range gets its own a. A lane that reads
// a lane outside `active` gets undefined_value, because a card does not define its value.
Shuffled shuffle(Shuffle mode, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t active, uint32_t* d);

enum class Vote : uint8_t { all, any, uni };
bool vote(Vote mode, uint32_t predicate, uint32_t active);  // ballot: predicate & active

// match.any: for each lane of `active`, the lanes of `active` with the same value. match.all: `active` if all values
// are the same (otherwise 0); the predicate says the same.
void match_any(const uint32_t* a, uint32_t active, uint32_t* d);
void match_any(const uint64_t* a, uint32_t active, uint32_t* d);
uint32_t match_all(const uint32_t* a, uint32_t active);
uint32_t match_all(const uint64_t* a, uint32_t active);

enum class Reduce : uint8_t { add, min, max, min_s, max_s, and_, or_, xor_ };
uint32_t redux(Reduce operation, const uint32_t* a, uint32_t active);

}  // namespace heed::simulator
