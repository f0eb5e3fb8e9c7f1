// Integer instructions with rules of their own: permutation, bit fields, funnel shifts, dot products, extended
// multiplication. One lane.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

enum class Permute : uint8_t { index, f4e, b4e, rc8, ecl, ecr, rc16 };
uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector, Permute mode = Permute::index);

// Only the low 8 bits of position and length count.
uint32_t bfe_u32(uint32_t a, uint32_t position, uint32_t length);
int32_t bfe_s32(int32_t a, uint32_t position, uint32_t length);
uint64_t bfe_u64(uint64_t a, uint32_t position, uint32_t length);
int64_t bfe_s64(int64_t a, uint32_t position, uint32_t length);
uint32_t bfi_b32(uint32_t a, uint32_t b, uint32_t position, uint32_t length);  // puts a's low bits into b
uint64_t bfi_b64(uint64_t a, uint64_t b, uint32_t position, uint32_t length);
uint32_t bfind_u32(uint32_t a, bool shiftamt = false);  // 0xffffffff if no bit is found
uint32_t bfind_s32(int32_t a, bool shiftamt = false);
uint32_t bfind_u64(uint64_t a, bool shiftamt = false);
uint32_t bfind_s64(int64_t a, bool shiftamt = false);
uint32_t bmsk(uint32_t position, uint32_t length, bool wrap);  // .wrap or .clamp
uint32_t szext_u32(uint32_t a, uint32_t length, bool wrap);
int32_t szext_s32(int32_t a, uint32_t length, bool wrap);
uint32_t brev(uint32_t a);
uint64_t brev(uint64_t a);
uint32_t popc(uint64_t a);
uint32_t clz(uint32_t a);                                    // 32 for 0
uint32_t clz(uint64_t a);                                    // 64 for 0
uint32_t fns(uint32_t mask, uint32_t base, int32_t offset);  // 0xffffffff if there is none

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint8_t table);

// shl, shr: amounts beyond the width give 0 (shr of signed numbers fills with the sign). `bits` is 16, 32 or 64.
uint64_t shl(uint64_t a, uint32_t amount, int bits);
uint64_t shr_u(uint64_t a, uint32_t amount, int bits);
int64_t shr_s(int64_t a, uint32_t amount, int bits);
uint32_t shf_l(uint32_t low, uint32_t high, uint32_t amount, bool wrap);  // .wrap or .clamp
uint32_t shf_r(uint32_t low, uint32_t high, uint32_t amount, bool wrap);

// dp4a multiplies four bytes each; dp2a multiplies two 16-bit numbers of a by the lower or upper two bytes of b. Each
// factor may be signed or unsigned.
uint32_t dp4a(uint32_t a, uint32_t b, uint32_t c, bool a_signed, bool b_signed);
uint32_t dp2a(uint32_t a, uint32_t b, uint32_t c, bool a_signed, bool b_signed, bool upper);

// sad: c + |a - b|, with 16, 32 or 64 bits.
uint64_t sad_u(uint64_t a, uint64_t b, uint64_t c, int bits);
uint64_t sad_s(int64_t a, int64_t b, int64_t c, int bits);

// Return the upper half of a product.
uint32_t mul_hi_u32(uint32_t a, uint32_t b);
int32_t mul_hi_s32(int32_t a, int32_t b);
uint64_t mul_hi_u64(uint64_t a, uint64_t b);
int64_t mul_hi_s64(int64_t a, int64_t b);
uint32_t mul24_lo(uint32_t a, uint32_t b, bool is_signed);  // mul24.lo: bits 0..31 of a 48-bit product
uint32_t mul24_hi(uint32_t a, uint32_t b, bool is_signed);  // mul24.hi: bits 16..47

// The last step of add.sat.s32, sub.sat.s32 and mad.hi.sat.s32.
int32_t saturate_s32(int64_t value);

// div and rem of numbers extended to 64 bits. Division by zero, which the manual leaves undefined, gives all ones, and
// the dividend for rem.
uint64_t div_u(uint64_t a, uint64_t b, int bits);
int64_t div_s(int64_t a, int64_t b);
uint64_t rem_u(uint64_t a, uint64_t b);
int64_t rem_s(int64_t a, int64_t b);

}  // namespace heed::simulator
