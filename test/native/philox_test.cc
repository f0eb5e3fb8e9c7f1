// Compares Philox4x32-10 with the known answers of its authors (Random123's kat_vectors), and the vector form with the
// scalar one. The tests of the kernels that draw random numbers cover the wider vectors of the other instruction sets.
#include "check.h"

#define HEED_ISA portable
#include "cpu/kernels/philox.h"

namespace heed::test {
namespace {

namespace px = cpu::portable;

uint64_t pair(uint32_t low, uint32_t high) { return static_cast<uint64_t>(high) << 32 | low; }

void expect_block(const px::PhiloxBlock& got, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT(got.word[0] == a && got.word[1] == b && got.word[2] == c && got.word[3] == d);
}

TEST(philox_known_answers) {
  expect_block(px::philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect_block(px::philox(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect_block(px::philox(pair(0xa4093822, 0x299f31d0), pair(0x243f6a88, 0x85a308d3), pair(0x13198a2e, 0x03707344)),
               0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(philox_words_match_scalar) {
  // The third start makes the block index carry into its upper word within a vector.
  const uint64_t starts[] = {0, 3, 4 * 0xfffffffeull + 1, 0x7fffffffffffffull};
  for (const uint64_t start : starts)
    for (const int64_t n : {0, 1, 2, 3, 4, 15, 16, 17, 63, 64, 65, 257}) {
      std::vector<uint32_t> words(static_cast<size_t>(n) + 1, 0xabadcafe);
      px::philox_words(words.data(), n, 0x123456789abcdefull, start, 42);
      bool same = words[n] == 0xabadcafe;
      for (int64_t i = 0; i < n; i++)
        same = same && words[i] == px::philox_word(0x123456789abcdefull, start + static_cast<uint64_t>(i), 42);
      EXPECT(same);
    }
}

TEST(philox_uniform) {
  EXPECT(px::uniform01(0) == 0);
  EXPECT(px::uniform01(~0u) == 1 - 0x1p-24f);
  px::vu words[4];
  px::philox_fill(7, 0, 0, words);
  for (int i = 0; i < px::kWidth; i++) EXPECT(px::uniform01(words[1])[i] == px::uniform01(words[1][i]));

  double sum = 0, squares = 0;
  constexpr int kDraws = 1 << 16;
  for (int i = 0; i < kDraws; i++) {
    const double u = px::uniform01(px::philox_word(1, static_cast<uint64_t>(i), 0));
    sum += u;
    squares += u * u;
  }
  // Within five standard deviations of the mean (sqrt(1/12 / n)) and of the mean square (sqrt(4/45 / n)).
  EXPECT(std::fabs(sum / kDraws - 0.5) < 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT(std::fabs(squares / kDraws - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / kDraws));
}

TEST(philox_dropout_threshold) {
  // The integer test and the f32 test agree on every draw next to the border.
  for (const float p : {0.0f, 0x1p-24f, 1e-9f, 0.1f, 0.3f, 0.5f, 0.9f, 1 - 0x1p-24f, 1.0f}) {
    const uint32_t threshold = px::dropout_threshold(p);
    const int64_t border = static_cast<int64_t>(p * 0x1p24);
    for (int64_t draw = border - 2; draw <= border + 2; draw++) {
      if (draw < 0 || draw >= 1 << 24) continue;
      const uint32_t word = static_cast<uint32_t>(draw) << 8 | 0xff;
      EXPECT((word >> 8 >= threshold) == (px::uniform01(word) >= p));
    }
  }
}

}  // namespace
}  // namespace heed::test
