#include "simulator/lanes.h"

#include <cstdio>
#include <cstdlib>

namespace heed::simulator {

namespace {

FindLanes choose() {
#if defined(HEED_HAS_AVX2) || defined(HEED_HAS_AVX512)
  __builtin_cpu_init();
#endif
#ifdef HEED_HAS_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    return avx512::find_lanes;
#endif
#ifdef HEED_HAS_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return avx2::find_lanes;
#endif
#ifdef HEED_HAS_PORTABLE
  return portable::find_lanes;
#else
  std::fputs("heed: this build of the software device has no instructions for this machine\n", stderr);
  std::abort();
#endif
}

}  // namespace

Handler find_lanes(const Operation& operation) {
  static const FindLanes find = choose();
  return find(operation);
}

}  // namespace heed::simulator
