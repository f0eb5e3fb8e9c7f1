// The setting that lets f32 products run on tensor cores, which round their operands to tf32 (10 bits after the point).
// It holds for the whole process and is off by default; HEED_TF32=1 or the addon's setTf32 turns it on.
#pragma once

namespace heed::cuda {

bool tf32();
void set_tf32(bool allowed);

}  // namespace heed::cuda
