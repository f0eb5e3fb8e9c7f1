// Whether products of f32 may be done on tensor cores, which round their operands to tf32 (10 bits after the point):
// for the whole process, and not unless asked for, by HEED_TF32=1 or setTf32 of the addon.
#pragma once

namespace heed::cuda {

bool tf32();
void set_tf32(bool allowed);

}  // namespace heed::cuda
