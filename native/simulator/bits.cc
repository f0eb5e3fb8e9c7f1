// Integer instructions according to the manual's pseudocode, without its loops if arithmetic gives the same result.
#include "simulator/bits.h"

namespace heed::simulator {
namespace {

uint32_t byte_of(uint32_t a, uint32_t b, uint32_t index) {
  return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> (8 * (index & 7)) & 0xff);
}

uint64_t low_mask(uint32_t length) { return length >= 64 ? ~uint64_t{0} : (uint64_t{1} << length) - 1; }

// Extracts a bit field. If it is signed, its sign is the bit at the end of the field, or the number's own sign bit if
// the field reaches beyond the number.
template <class T>
T extract(T a, uint32_t position, uint32_t length, bool is_signed) {
  constexpr uint32_t width = 8 * sizeof(T);
  position &= 0xff;
  length &= 0xff;
  if (length == 0) return 0;
  const uint32_t last = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
  const bool sign = is_signed && (a >> last & 1);
  const T field = position < width ? static_cast<T>((a >> position) & low_mask(length)) : T{0};
  // The bits of the field that lie inside the number are kept; the sign fills the rest.
  const uint32_t inside = position < width ? (length < width - position ? length : width - position) : 0;
  return sign ? static_cast<T>(field | ~low_mask(inside)) : field;
}

template <class T>
T insert(T a, T b, uint32_t position, uint32_t length) {
  constexpr uint32_t width = 8 * sizeof(T);
  position &= 0xff;
  length &= 0xff;
  if (position >= width) return b;
  const T mask = static_cast<T>(static_cast<T>(low_mask(length)) << position);
  return static_cast<T>((b & ~mask) | (static_cast<T>(a << position) & mask));
}

uint32_t find_bit(uint64_t a, int width, bool shiftamt) {
  if (!a) return 0xffffffff;
  const uint32_t position = static_cast<uint32_t>(63 - __builtin_clzll(a));
  return shiftamt ? static_cast<uint32_t>(width - 1) - position : position;
}

uint32_t amount_of(uint32_t value, bool wrap) { return wrap ? value & 31 : value > 32 ? 32 : value; }

int64_t extend(uint64_t a, int bits) { return static_cast<int64_t>(a << (64 - bits)) >> (64 - bits); }

}  // namespace

uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector, Permute mode) {
  uint32_t result = 0;
  const uint32_t s = selector & 3;
  for (uint32_t i = 0; i < 4; i++) {
    uint32_t byte = 0;
    switch (mode) {
      case Permute::index: {
        const uint32_t nibble = selector >> (4 * i) & 15;
        byte = byte_of(a, b, nibble);
        if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
        break;
      }
      case Permute::f4e:
        byte = byte_of(a, b, i + s);
        break;
      case Permute::b4e:
        byte = byte_of(a, b, s - i);
        break;
      case Permute::rc8:
        byte = byte_of(a, b, s);
        break;
      case Permute::ecl:
        byte = byte_of(a, b, i > s ? i : s);
        break;
      case Permute::ecr:
        byte = byte_of(a, b, i < s ? i : s);
        break;
      case Permute::rc16:
        byte = byte_of(a, b, (i & 1) | (s & 1) << 1);
        break;
    }
    result |= byte << (8 * i);
  }
  return result;
}

uint32_t bfe_u32(uint32_t a, uint32_t position, uint32_t length) { return extract(a, position, length, false); }
int32_t bfe_s32(int32_t a, uint32_t position, uint32_t length) {
  return static_cast<int32_t>(extract(static_cast<uint32_t>(a), position, length, true));
}
uint64_t bfe_u64(uint64_t a, uint32_t position, uint32_t length) { return extract(a, position, length, false); }
int64_t bfe_s64(int64_t a, uint32_t position, uint32_t length) {
  return static_cast<int64_t>(extract(static_cast<uint64_t>(a), position, length, true));
}
uint32_t bfi_b32(uint32_t a, uint32_t b, uint32_t position, uint32_t length) { return insert(a, b, position, length); }
uint64_t bfi_b64(uint64_t a, uint64_t b, uint32_t position, uint32_t length) { return insert(a, b, position, length); }

uint32_t bfind_u32(uint32_t a, bool shiftamt) { return find_bit(a, 32, shiftamt); }
uint32_t bfind_s32(int32_t a, bool shiftamt) { return find_bit(static_cast<uint32_t>(a < 0 ? ~a : a), 32, shiftamt); }
uint32_t bfind_u64(uint64_t a, bool shiftamt) { return find_bit(a, 64, shiftamt); }
uint32_t bfind_s64(int64_t a, bool shiftamt) { return find_bit(static_cast<uint64_t>(a < 0 ? ~a : a), 64, shiftamt); }

uint32_t bmsk(uint32_t position, uint32_t length, bool wrap) {
  return static_cast<uint32_t>(low_mask(amount_of(length, wrap)) << amount_of(position, wrap));
}

uint32_t szext_u32(uint32_t a, uint32_t length, bool wrap) {
  return static_cast<uint32_t>(a & low_mask(amount_of(length, wrap)));
}
int32_t szext_s32(int32_t a, uint32_t length, bool wrap) {
  const uint32_t n = amount_of(length, wrap);
  return n ? static_cast<int32_t>(extend(static_cast<uint32_t>(a), static_cast<int>(n))) : 0;
}

uint32_t brev(uint32_t a) { return static_cast<uint32_t>(brev(uint64_t{a}) >> 32); }
uint64_t brev(uint64_t a) {
  a = (a >> 1 & 0x5555555555555555) | (a & 0x5555555555555555) << 1;
  a = (a >> 2 & 0x3333333333333333) | (a & 0x3333333333333333) << 2;
  a = (a >> 4 & 0x0f0f0f0f0f0f0f0f) | (a & 0x0f0f0f0f0f0f0f0f) << 4;
  return __builtin_bswap64(a);
}
uint32_t popc(uint64_t a) { return static_cast<uint32_t>(__builtin_popcountll(a)); }
uint32_t clz(uint32_t a) { return a ? static_cast<uint32_t>(__builtin_clz(a)) : 32; }
uint32_t clz(uint64_t a) { return a ? static_cast<uint32_t>(__builtin_clzll(a)) : 64; }

uint32_t fns(uint32_t mask, uint32_t base, int32_t offset) {
  if (offset == 0) return base < 32 && (mask >> base & 1) ? base : 0xffffffff;
  int64_t count = offset > 0 ? offset : -static_cast<int64_t>(offset);
  for (int64_t position = base; position >= 0 && position < 32; position += offset > 0 ? 1 : -1)
    if ((mask >> position & 1) && --count == 0) return static_cast<uint32_t>(position);
  return 0xffffffff;
}

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint8_t table) {
  uint32_t result = 0;
  if (table & 0x01) result |= ~a & ~b & ~c;
  if (table & 0x02) result |= ~a & ~b & c;
  if (table & 0x04) result |= ~a & b & ~c;
  if (table & 0x08) result |= ~a & b & c;
  if (table & 0x10) result |= a & ~b & ~c;
  if (table & 0x20) result |= a & ~b & c;
  if (table & 0x40) result |= a & b & ~c;
  if (table & 0x80) result |= a & b & c;
  return result;
}

uint64_t shl(uint64_t a, uint32_t amount, int bits) {
  return amount >= static_cast<uint32_t>(bits) ? 0 : (a << amount) & low_mask(static_cast<uint32_t>(bits));
}
uint64_t shr_u(uint64_t a, uint32_t amount, int bits) {
  return amount >= static_cast<uint32_t>(bits) ? 0 : (a & low_mask(static_cast<uint32_t>(bits))) >> amount;
}
int64_t shr_s(int64_t a, uint32_t amount, int bits) {
  const int64_t value = extend(static_cast<uint64_t>(a), bits);
  return value >> (amount >= static_cast<uint32_t>(bits) ? bits - 1 : static_cast<int>(amount));
}
uint32_t shf_l(uint32_t low, uint32_t high, uint32_t amount, bool wrap) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) << amount_of(amount, wrap) >> 32);
}
uint32_t shf_r(uint32_t low, uint32_t high, uint32_t amount, bool wrap) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> amount_of(amount, wrap));
}

uint32_t dp4a(uint32_t a, uint32_t b, uint32_t c, bool a_signed, bool b_signed) {
  for (int i = 0; i < 32; i += 8) {
    const int32_t x = a_signed ? static_cast<int8_t>(a >> i) : static_cast<uint8_t>(a >> i);
    const int32_t y = b_signed ? static_cast<int8_t>(b >> i) : static_cast<uint8_t>(b >> i);
    c += static_cast<uint32_t>(x * y);
  }
  return c;
}

uint32_t dp2a(uint32_t a, uint32_t b, uint32_t c, bool a_signed, bool b_signed, bool upper) {
  for (int i = 0; i < 2; i++) {
    const int32_t x = a_signed ? static_cast<int16_t>(a >> (16 * i)) : static_cast<uint16_t>(a >> (16 * i));
    const int shift = 8 * i + (upper ? 16 : 0);
    const int32_t y = b_signed ? static_cast<int8_t>(b >> shift) : static_cast<uint8_t>(b >> shift);
    c += static_cast<uint32_t>(x * y);
  }
  return c;
}

uint64_t sad_u(uint64_t a, uint64_t b, uint64_t c, int bits) {
  const uint64_t mask = low_mask(static_cast<uint32_t>(bits)), x = a & mask, y = b & mask;
  return (c + (x < y ? y - x : x - y)) & mask;
}
uint64_t sad_s(int64_t a, int64_t b, int64_t c, int bits) {
  const int64_t x = extend(static_cast<uint64_t>(a), bits), y = extend(static_cast<uint64_t>(b), bits);
  const uint64_t ux = static_cast<uint64_t>(x), uy = static_cast<uint64_t>(y);
  return (static_cast<uint64_t>(c) + (x < y ? uy - ux : ux - uy)) & low_mask(static_cast<uint32_t>(bits));
}

uint32_t mul_hi_u32(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
int32_t mul_hi_s32(int32_t a, int32_t b) { return static_cast<int32_t>(int64_t{a} * b >> 32); }
__extension__ using u128 = unsigned __int128;
__extension__ using s128 = __int128;
uint64_t mul_hi_u64(uint64_t a, uint64_t b) { return static_cast<uint64_t>(static_cast<u128>(a) * b >> 64); }
int64_t mul_hi_s64(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<s128>(a) * b >> 64); }

namespace {
uint64_t product24(uint32_t a, uint32_t b, bool is_signed) {
  if (is_signed) return static_cast<uint64_t>(extend(a, 24) * extend(b, 24));
  return uint64_t{a & 0xffffff} * (b & 0xffffff);
}
}  // namespace
uint32_t mul24_lo(uint32_t a, uint32_t b, bool is_signed) { return static_cast<uint32_t>(product24(a, b, is_signed)); }
uint32_t mul24_hi(uint32_t a, uint32_t b, bool is_signed) {
  return static_cast<uint32_t>(product24(a, b, is_signed) >> 16);
}

int32_t saturate_s32(int64_t value) {
  return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : static_cast<int32_t>(value);
}

uint64_t div_u(uint64_t a, uint64_t b, int bits) { return b ? a / b : low_mask(static_cast<uint32_t>(bits)); }
int64_t div_s(int64_t a, int64_t b) {
  if (b == 0) return -1;
  return b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
}
uint64_t rem_u(uint64_t a, uint64_t b) { return b ? a % b : a; }
int64_t rem_s(int64_t a, int64_t b) { return b == 0 ? a : b == -1 ? 0 : a % b; }

}  // namespace heed::simulator
