// What rotary takes, on every backend.
#pragma once
#include "core/params.h"

namespace heed {

struct RotarySizes {
  int64_t B, T, H, D;
  int64_t R;          // dimensions of a head that are turned, the first ones
  int64_t positions;  // in the table
};

RotarySizes check_rotary(const char* op, Out out, In inp, In table, OptIn starts, OptIn positions);

}  // namespace heed
