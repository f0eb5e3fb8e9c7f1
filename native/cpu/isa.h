// Instruction sets. Every file in cpu/kernels is compiled once for each of them, with HEED_ISA set to the namespace of
// its functions. The best one that the machine has is chosen when the addon loads.
#pragma once
#include "core/op_table.h"

namespace heed::cpu {

class Stream;

// The instruction sets that this build contains.
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

// Return the operations of the instruction set in use, and its name: "avx512amx", "avx512bf16", "avx512vnni", "avx512",
// "avx2" or "portable". The environment variable HEED_CPU_ISA selects another one that the machine has.
const OpTable<Stream>& ops();
const char* isa_name();
// Returns true if kernels may use the instructions that multiply bf16 and add in f32 (AVX512-BF16). They are not an
// instruction set with a table of its own: single functions (`target("avx512bf16")`) within the AVX-512 table use them.
bool bf16_dot();
// The same for the instructions that multiply bytes and add in 32 bits (AVX512-VNNI). Every machine with bf16_dot() has
// them too.
bool int8_dot();
// The same for the matrix unit of Intel's servers, which multiplies tiles of bytes (AMX-INT8). Every machine with it
// has int8_dot() too.
bool int8_tiles();
// Returns true if this build contains the named instruction set and this machine can run it.
bool isa_supported(const char* name);
// Selects another instruction set; returns false if it is not supported. For tests; JavaScript thread only.
bool select_isa(const char* name);

}  // namespace heed::cpu
