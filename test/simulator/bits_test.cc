// Tests integer instructions bit by bit, as the manual's pseudocode computes them, and with worked values of the
// manual's tables.
#include "simulator/bits.h"

#include "check.h"

using namespace heed::simulator;

namespace {

// Bits and edges: half of the numbers have long runs.
uint64_t number(heed::test::Random& random) {
  const uint64_t bits = random.next();
  return bits & 1 ? bits : bits & 2 ? bits >> random.below(64) : ~uint64_t{0} << random.below(64);
}

// The pseudocode of bfe: bit by bit, with the sign bit in all other bits.
uint64_t bfe_by_bits(uint64_t a, uint32_t position, uint32_t length, int width, bool is_signed) {
  const uint32_t msb = static_cast<uint32_t>(width - 1);
  const uint32_t last = std::min(position + length - 1, msb);
  const bool sign = is_signed && length && (a >> last & 1);
  uint64_t d = 0;
  for (uint32_t i = 0; i <= msb; i++) {
    const bool bit = i < length && position + i <= msb ? a >> (position + i) & 1 : sign;
    if (bit) d |= uint64_t{1} << i;
  }
  return length ? d : 0;
}

uint64_t bfi_by_bits(uint64_t a, uint64_t b, uint32_t position, uint32_t length, int width) {
  for (uint32_t i = 0; i < length && position + i < static_cast<uint32_t>(width); i++) {
    const uint64_t bit = uint64_t{1} << (position + i);
    b = a >> i & 1 ? b | bit : b & ~bit;
  }
  return b;
}

uint32_t fns_by_steps(uint32_t mask, uint32_t base, int32_t offset) {
  if (offset == 0) return mask >> base & 1 ? base : 0xffffffff;
  int32_t count = std::abs(offset) - 1;
  for (int32_t position = static_cast<int32_t>(base); position >= 0 && position < 32; position += offset > 0 ? 1 : -1)
    if (mask >> position & 1) {
      if (count == 0) return static_cast<uint32_t>(position);
      count--;
    }
  return 0xffffffff;
}

}  // namespace

TEST(bits_permutation) {
  const uint32_t a = 0x33221100, b = 0x77665584;
  EXPECT(prmt(a, b, 0x3210) == a && prmt(a, b, 0x7654) == b && prmt(a, b, 0x0123) == 0x00112233);
  EXPECT(prmt(a, b, 0xc840) == 0xff008400);  // bit 3 of a selector repeats the sign of its byte
  // Bytes 0..7 of {b, a} are numbered 0..7: the manual's tables, with d.b3 first.
  const uint32_t low = 0x03020100, high = 0x07060504;
  const struct {
    Permute mode;
    uint32_t expected[4];
  } tables[] = {{Permute::f4e, {0x03020100, 0x04030201, 0x05040302, 0x06050403}},
                {Permute::b4e, {0x05060700, 0x06070001, 0x07000102, 0x00010203}},
                {Permute::rc8, {0x00000000, 0x01010101, 0x02020202, 0x03030303}},
                {Permute::ecl, {0x03020100, 0x03020101, 0x03020202, 0x03030303}},
                {Permute::ecr, {0x00000000, 0x01010100, 0x02020100, 0x03020100}},
                {Permute::rc16, {0x01000100, 0x03020302, 0x01000100, 0x03020302}}};
  for (const auto& table : tables)
    for (uint32_t selector = 0; selector < 4; selector++)
      EXPECT(prmt(low, high, selector | 0xfff0, table.mode) == table.expected[selector]);
}

TEST(bits_fields) {
  heed::test::Random random(1);
  for (int i = 0; i < 40000; i++) {
    const uint64_t a = number(random), b = number(random);
    const uint32_t position = static_cast<uint32_t>(random.below(i % 2 ? 70 : 256)),
                   length = static_cast<uint32_t>(random.below(i % 2 ? 70 : 256));
    const uint32_t beyond = i % 3 ? 0 : 0xabc00;  // only the low 8 bits count
    const uint32_t a32 = static_cast<uint32_t>(a), b32 = static_cast<uint32_t>(b);
    EXPECT(bfe_u32(a32, position | beyond, length) == bfe_by_bits(a32, position, length, 32, false));
    EXPECT(static_cast<uint32_t>(bfe_s32(static_cast<int32_t>(a32), position, length | beyond)) ==
           bfe_by_bits(a32, position, length, 32, true));
    EXPECT(bfe_u64(a, position, length) == bfe_by_bits(a, position, length, 64, false));
    EXPECT(static_cast<uint64_t>(bfe_s64(static_cast<int64_t>(a), position, length)) ==
           bfe_by_bits(a, position, length, 64, true));
    EXPECT(bfi_b32(a32, b32, position, length | beyond) == bfi_by_bits(a32, b32, position, length, 32));
    EXPECT(bfi_b64(a, b, position | beyond, length) == bfi_by_bits(a, b, position, length, 64));
  }
  EXPECT(bfind_u32(0) == 0xffffffff && bfind_u32(1) == 0 && bfind_u32(0x80000000) == 31 &&
         bfind_u32(0x00ff0000, true) == 8);
  EXPECT(bfind_s32(-1) == 0xffffffff && bfind_s32(-2) == 0 && bfind_s32(0x40000000) == 30 &&
         bfind_s32(-1, true) == 0xffffffff);
  EXPECT(bfind_u64(uint64_t{1} << 40) == 40 && bfind_u64(uint64_t{1} << 40, true) == 23 && bfind_s64(INT64_MIN) == 62);
  EXPECT(bmsk(0, 8, false) == 0xff && bmsk(4, 8, true) == 0xff0 && bmsk(28, 8, false) == 0xf0000000 &&
         bmsk(0, 32, false) == 0xffffffff);
  EXPECT(bmsk(0, 32, true) == 0 && bmsk(40, 4, false) == 0 && bmsk(40, 4, true) == 0xf00 && bmsk(3, 0, false) == 0);
  EXPECT(szext_s32(0x0000008f, 8, false) == -113 && szext_u32(0xffffff8f, 8, false) == 0x8f &&
         szext_s32(-5, 0, false) == 0);
  EXPECT(szext_s32(-5, 40, false) == -5 && szext_u32(0xffff, 33, true) == 1 &&
         szext_u32(0xffffffff, 32, false) == 0xffffffff);
}

TEST(bits_counts_and_searches) {
  heed::test::Random random(2);
  for (int i = 0; i < 20000; i++) {
    const uint64_t a = number(random);
    uint64_t reversed = 0;
    uint32_t ones = 0;
    for (int bit = 0; bit < 64; bit++)
      if (a >> bit & 1) {
        reversed |= uint64_t{1} << (63 - bit);
        ones++;
      }
    EXPECT(brev(a) == reversed && brev(static_cast<uint32_t>(a)) == static_cast<uint32_t>(reversed >> 32) &&
           popc(a) == ones);
    uint32_t zeros = 0;
    while (zeros < 64 && !(a >> (63 - zeros) & 1)) zeros++;
    EXPECT(clz(a) == zeros && clz(static_cast<uint32_t>(a >> 32)) == std::min(zeros, 32u));
    const uint32_t base = static_cast<uint32_t>(random.below(32));
    const int32_t offset = static_cast<int32_t>(random.below(20)) - 10;
    EXPECT(fns(static_cast<uint32_t>(a), base, offset) == fns_by_steps(static_cast<uint32_t>(a), base, offset));
  }
  EXPECT(fns(0xaaaaaaaa, 0, 1) == 1 && fns(0xaaaaaaaa, 31, -2) == 29 && fns(0xaaaaaaaa, 0, 17) == 0xffffffff);
}

TEST(bits_logic_and_shifts) {
  heed::test::Random random(3);
  for (int table = 0; table < 256; table++) {
    const uint32_t a = static_cast<uint32_t>(random.next() >> 32), b = static_cast<uint32_t>(random.next() >> 32),
                   c = static_cast<uint32_t>(random.next() >> 32);
    uint32_t expected = 0;
    for (int bit = 0; bit < 32; bit++) {
      const uint32_t index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1);
      if (table >> index & 1) expected |= 1u << bit;
    }
    EXPECT(lop3(a, b, c, static_cast<uint8_t>(table)) == expected);
    // The manual's way to make a table: the operation on 0xf0, 0xcc, 0xaa.
    EXPECT(lop3(a, b, c, (0xf0 & 0xcc) ^ 0xaa) == ((a & b) ^ c));
    for (const uint32_t amount : {0u, 1u, 17u, 31u, 32u, 33u, 64u, 100u, 0xffffffffu}) {
      const uint32_t clamped = std::min(amount, 32u), wrapped = amount % 32;
      const uint64_t both = uint64_t{b} << 32 | a;
      EXPECT(shf_l(a, b, amount, false) == static_cast<uint32_t>(both << clamped >> 32));
      EXPECT(shf_l(a, b, amount, true) == static_cast<uint32_t>(both << wrapped >> 32));
      EXPECT(shf_r(a, b, amount, false) == static_cast<uint32_t>(both >> clamped) &&
             shf_r(a, b, amount, true) == static_cast<uint32_t>(both >> wrapped));
      EXPECT(shl(both, amount, 64) == (amount > 63 ? 0 : both << amount) &&
             shl(a, amount, 32) == (amount > 31 ? 0 : a << amount));
      EXPECT(shr_u(both, amount, 64) == (amount > 63 ? 0 : both >> amount) &&
             shr_u(both, amount, 16) == (amount > 15 ? 0 : (a & 0xffff) >> amount));
      const int64_t s = static_cast<int64_t>(both);
      EXPECT(shr_s(s, amount, 64) == (amount > 63 ? (s < 0 ? -1 : 0) : s >> amount));
      EXPECT(shr_s(s, amount, 32) ==
             (amount > 31 ? (static_cast<int32_t>(a) < 0 ? -1 : 0) : static_cast<int32_t>(a) >> amount));
    }
  }
  EXPECT(shl(0x8001, 1, 16) == 2 && shr_s(0x8000, 3, 16) == -4096);
}

TEST(bits_products_and_sums) {
  heed::test::Random random(4);
  for (int i = 0; i < 20000; i++) {
    const uint64_t a = number(random), b = number(random), c = number(random);
    const uint32_t x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b), z = static_cast<uint32_t>(c);
    for (const bool a_signed : {false, true})
      for (const bool b_signed : {false, true}) {
        int64_t four = 0, two[2] = {0, 0};
        for (int k = 0; k < 4; k++) {
          const int64_t p = a_signed ? int64_t{static_cast<int8_t>(x >> 8 * k)} : int64_t{x >> 8 * k & 255};
          const int64_t q = b_signed ? int64_t{static_cast<int8_t>(y >> 8 * k)} : int64_t{y >> 8 * k & 255};
          four += p * q;
          const int half = k % 2;
          const int64_t wide =
              a_signed ? int64_t{static_cast<int16_t>(x >> 16 * half)} : int64_t{x >> 16 * half & 65535};
          two[k / 2] += wide * q;
        }
        EXPECT(dp4a(x, y, z, a_signed, b_signed) == static_cast<uint32_t>(z + static_cast<uint64_t>(four)));
        EXPECT(dp2a(x, y, z, a_signed, b_signed, false) == static_cast<uint32_t>(z + static_cast<uint64_t>(two[0])));
        EXPECT(dp2a(x, y, z, a_signed, b_signed, true) == static_cast<uint32_t>(z + static_cast<uint64_t>(two[1])));
      }
    EXPECT(sad_u(x, y, z, 32) == static_cast<uint32_t>(z + (x > y ? x - y : y - x)));
    const int64_t difference = int64_t{static_cast<int32_t>(x)} - static_cast<int32_t>(y);
    EXPECT(sad_s(static_cast<int32_t>(x), static_cast<int32_t>(y), static_cast<int32_t>(z), 32) ==
           static_cast<uint32_t>(z + static_cast<uint64_t>(std::abs(difference))));
    EXPECT(sad_u(a, b, c, 64) == c + (a > b ? a - b : b - a) &&
           sad_u(a, b, 0, 16) ==
               static_cast<uint64_t>(std::abs(static_cast<int>(a & 0xffff) - static_cast<int>(b & 0xffff))));
    // High halves by schoolbook multiplication of 32-bit digits.
    const uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), middle2 = a0 * b1 + (middle & 0xffffffff);
    const uint64_t high = a1 * b1 + (middle >> 32) + (middle2 >> 32);
    EXPECT(mul_hi_u64(a, b) == high);
    const uint64_t corrected = high - (a >> 63 ? b : 0) - (b >> 63 ? a : 0);
    EXPECT(static_cast<uint64_t>(mul_hi_s64(static_cast<int64_t>(a), static_cast<int64_t>(b))) == corrected);
    EXPECT(mul_hi_u32(x, y) == uint64_t{x} * y >> 32 &&
           mul_hi_s32(static_cast<int32_t>(x), static_cast<int32_t>(y)) ==
               int64_t{static_cast<int32_t>(x)} * static_cast<int32_t>(y) >> 32);
    EXPECT(mul24_lo(x, y, false) == static_cast<uint32_t>(uint64_t{x & 0xffffff} * (y & 0xffffff)));
    EXPECT(mul24_hi(x, y, false) == static_cast<uint32_t>(uint64_t{x & 0xffffff} * (y & 0xffffff) >> 16));
    const int64_t sx = int64_t{x & 0xffffff} - (x & 0x800000 ? 1 << 24 : 0),
                  sy = int64_t{y & 0xffffff} - (y & 0x800000 ? 1 << 24 : 0);
    EXPECT(mul24_hi(x, y, true) == static_cast<uint32_t>(sx * sy >> 16) &&
           mul24_lo(x, y, true) == static_cast<uint32_t>(sx * sy));
  }
  EXPECT(saturate_s32(int64_t{INT32_MAX} + 1) == INT32_MAX && saturate_s32(int64_t{INT32_MIN} - 1) == INT32_MIN &&
         saturate_s32(-7) == -7);
  EXPECT(div_u(7, 0, 32) == 0xffffffff && div_u(7, 0, 16) == 0xffff && div_s(-7, 0) == -1 && rem_u(7, 0) == 7 &&
         rem_s(-7, 0) == -7);
  EXPECT(div_s(INT64_MIN, -1) == INT64_MIN && rem_s(INT64_MIN, -1) == 0 && div_s(-7, 2) == -3 && rem_s(-7, 2) == -1);
}
