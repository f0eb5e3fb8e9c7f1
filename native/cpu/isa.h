// Instruction sets. Every file in cpu/kernels is compiled once for each, with HEED_ISA set to the namespace its
// functions live in; the best one the machine has is chosen when the addon loads.
#pragma once
#include "core/op_table.h"

namespace heed::cpu {

class Stream;

// Those that this build has.
#ifdef HEED_HAS_PORTABLE
namespace portable {
extern const OpTable<Stream> table;
}
#endif
#ifdef HEED_HAS_AVX2
namespace avx2 {
extern const OpTable<Stream> table;
}
#endif
#ifdef HEED_HAS_AVX512
namespace avx512 {
extern const OpTable<Stream> table;
}
#endif

// The operations of the instruction set in use, and its name: "avx512bf16", "avx512vnni", "avx512", "avx2" or
// "portable". HEED_CPU_ISA in the environment picks another one that the machine has.
const OpTable<Stream>& ops();
const char* isa_name();
// Whether kernels may use the instructions that multiply bf16 and add in f32 (AVX512-BF16). They are no instruction set
// with a table of its own: what uses them are single functions (`target("avx512bf16")`) within that of AVX-512.
bool bf16_dot();
// The same of those that multiply bytes and add in 32 bits (AVX512-VNNI), which whatever has bf16_dot() has as well.
bool int8_dot();
// Whether this build has the named one and this machine can run it.
bool isa_supported(const char* name);
// Chooses another; false if it is not supported. For tests; JavaScript thread only.
bool select_isa(const char* name);

}  // namespace heed::cpu
