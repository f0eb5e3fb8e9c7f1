// Checks of rotary's operands, for every backend.
#pragma once
#include "core/params.h"

namespace heed {

struct RotarySizes {
  int64_t B, T, H, D;
  int64_t R;          // the first R dimensions of a head are rotated
  int64_t positions;  // number of positions in the table
};

RotarySizes check_rotary(const char* op, Out out, In inp, In table, OptIn starts, OptIn positions);

}  // namespace heed
