#include "cpu/isa.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace heed::cpu {
namespace {

struct Isa {
  const char* name;
  const OpTable<Stream>* table;
  bool bf16_dot, int8_dot, int8_tiles;  // instructions that a few functions use beside the table's instruction set
  bool supported;
  bool fast;  // if false, it is chosen only by name
};

#ifdef HEED_HAS_AVX512
// Returns true if the machine has tile registers and the system lets this process use them. Linux gives them to those
// who ask (Documentation/arch/x86/xstate.rst).
bool tiles_allowed() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;  // CPUID, leaf 7, edx
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (kTiles | kInt8)) != (kTiles | kInt8)) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

// Ordered from best to worst.
const Isa* all(int* count) {
#ifdef HEED_HAS_AVX512
  static const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                                 __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma") &&
                                 __builtin_cpu_supports("f16c");
  // VDPBF16PS does the products of two FMAs. It runs at the rate of one FMA on AMD's cores and at a quarter of that
  // rate on Intel's (measured on Zen 4 and Emerald Rapids), where f32 products of converted values are thus twice as
  // fast.
  static const bool fast_bf16 = !__builtin_cpu_is("intel");
#endif
  static const Isa list[] = {
#ifdef HEED_HAS_AVX512
      {"avx512amx", &avx512::table, false, true, true,
       has_avx512 && __builtin_cpu_supports("avx512vnni") && tiles_allowed(), true},
      {"avx512bf16", &avx512::table, true, true, false,
       has_avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16"), fast_bf16},
      {"avx512vnni", &avx512::table, false, true, false, has_avx512 && __builtin_cpu_supports("avx512vnni"), true},
      {"avx512", &avx512::table, false, false, false, has_avx512, true},
#endif
#ifdef HEED_HAS_AVX2
      {"avx2", &avx2::table, false, false, false,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"), true},
#endif
#ifdef HEED_HAS_PORTABLE
      {"portable", &portable::table, false, false, false, true, true},
#endif
  };
  *count = sizeof list / sizeof *list;
  return list;
}

const Isa* find(const char* name) {
  int count;
  const Isa* list = all(&count);
  for (int i = 0; i < count; i++)
    if (list[i].supported && (name ? std::strcmp(list[i].name, name) == 0 : list[i].fast)) return &list[i];
  return nullptr;
}

const Isa* initial() {
  const char* wanted = std::getenv("HEED_CPU_ISA");
  const Isa* isa = wanted ? find(wanted) : nullptr;
  if (!isa) isa = find(nullptr);
  if (!isa) {
    std::fputs("heed: this build has no kernels for this machine\n", stderr);
    std::abort();
  }
  return isa;
}

std::atomic<const Isa*>& current() {
  static std::atomic<const Isa*> isa{initial()};
  return isa;
}

}  // namespace

const OpTable<Stream>& ops() { return *current().load(std::memory_order_relaxed)->table; }
const char* isa_name() { return current().load(std::memory_order_relaxed)->name; }
bool bf16_dot() { return current().load(std::memory_order_relaxed)->bf16_dot; }
bool int8_dot() { return current().load(std::memory_order_relaxed)->int8_dot; }
bool int8_tiles() { return current().load(std::memory_order_relaxed)->int8_tiles; }
bool isa_supported(const char* name) { return find(name) != nullptr; }

bool select_isa(const char* name) {
  const Isa* isa = find(name);
  if (isa) current().store(isa, std::memory_order_relaxed);
  return isa != nullptr;
}

}  // namespace heed::cpu
