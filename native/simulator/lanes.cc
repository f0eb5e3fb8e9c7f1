#include "simulator/lanes.h"

namespace heed::simulator {

namespace {

FindLanes choose() {
#ifdef HEED_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    return avx512::find_lanes;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return avx2::find_lanes;
#endif
  return portable::find_lanes;
}

}  // namespace

Handler find_lanes(const Operation& operation) {
  static const FindLanes find = choose();
  return find(operation);
}

}  // namespace heed::simulator
