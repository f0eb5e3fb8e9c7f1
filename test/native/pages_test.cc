// Keys and values in pages: attention and cache_write over memory of exactly their operands' sizes, and every error.
// test/ops/attention-pages.test.ts checks the values.
#include "sweep.h"

namespace heed::test {
namespace {

TEST(attention_over_pages) {
  struct Case {
    int64_t B, T, H, Hkv, D, P, S;  // P pages of S tokens for each sequence
  };
  const Case cases[] = {{2, 1, 4, 2, 17, 3, 16},  {1, 1, 1, 1, 64, 5, 7}, {3, 2, 2, 2, 8, 2, 33},
                        {1, 40, 4, 2, 16, 3, 64}, {2, 9, 2, 1, 33, 4, 5}, {2, 1, 2, 2, 8, 0, 4}};
  sweep(stream, [&](Sweep& s) {
    for (const Case& c : cases)
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        const int64_t pages = c.B * c.P + 2;
        const Operand rows{{c.B, c.T, c.H, c.D}, dtype}, pool{{pages, c.S, c.Hkv, c.D}, dtype};
        s.check("attention over pages", 1,
                {rows, rows, pool, pool, integers({c.B, c.P}, pages), integers({c.B}, c.P * c.S + 1)},
                [&](const Views& x) {
                  ops.attention_forward(stream, x[0], nullptr, x[1], x[2], x[3], nullptr, nullptr, &x[4], &x[5],
                                        nullptr, nullptr, nullptr, nullptr, true, 0, 0, 0.3f, 0, 0, nullptr, 0);
                });
        const Operand codes{pool.shape, DType::u8, Layout::contiguous, 0, 255}, scales{{pages, c.S, c.Hkv}};
        s.check("attention over pages of codes", 1,
                {rows, rows, codes, codes, scales, scales, integers({c.B, c.P}, pages), integers({c.B}, c.P * c.S + 1)},
                [&](const Views& x) {
                  ops.attention_forward(stream, x[0], nullptr, x[1], x[2], x[3], &x[4], &x[5], &x[6], &x[7], nullptr,
                                        nullptr, nullptr, nullptr, true, 0, 0, 0.3f, 0, 0, nullptr, 0);
                });
      }
  });
}

TEST(cache_write_into_pages) {
  // Each sequence has pages of its own.
  Array<int32_t> table({2, 3}), starts({2});
  for (int64_t i = 0; i < 6; i++) table[i] = static_cast<int32_t>((i * 5) % 7);
  starts[0] = 11;
  sweep(stream, [&](Sweep& s) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::u8})
      s.check("cache_write into pages", 1, {{{7, 5, 2, 3}, dtype}, {{2, 4, 2, 3}, dtype}},
              [&](const Views& x) { ops.cache_write(stream, x[0], nullptr, x[1], &starts, &table); });
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
      for (const int64_t D : {3, 16, 37})
        s.check("cache_write of codes into pages", 2, {{{7, 5, 2, D}, DType::u8}, {{7, 5, 2}}, {{2, 4, 2, D}, dtype}},
                [&](const Views& x) { ops.cache_write(stream, x[0], &x[1], x[2], &starts, &table); });
  });
}

TEST(pages_errors) {
  const Array<float> rows({2, 1, 1, 4}), pool({7, 5, 1, 4}), none({0, 5, 1, 4});
  Array<float> out({2, 1, 1, 4}), cache({7, 5, 1, 4});
  Array<int32_t> table({2, 3}), short_table({1, 3}), flat({6}), starts({2});
  const auto attend = [&](In keys, In pages) {
    return error_of([&] {
      ops.attention_forward(stream, out, nullptr, rows, keys, keys, nullptr, nullptr, &pages, nullptr, nullptr, nullptr,
                            nullptr, nullptr, true, 0, 0, 1, 0, 0, nullptr, 0);
    });
  };
  EXPECT(attend(pool, table) == "");
  EXPECT(attend(pool, short_table) == "ERR_SHAPE: attention_forward: expected pages of shape [2, 3], got [1, 3]");
  EXPECT(attend(pool, flat) == "ERR_SHAPE: attention_forward: expected pages with 2 dimensions, got shape [6]");
  EXPECT(attend(pool, Array<float>({2, 3})) == "ERR_DTYPE: attention_forward: expected pages of dtype i32, got f32");
  EXPECT(attend(none, table) == "ERR_SHAPE: attention_forward: expected at least 1 page of keys, got 0");
  EXPECT(synchronize(stream) == "");
  for (const int32_t page : {-1, 7, INT32_MIN, INT32_MAX}) {
    table[4] = page;
    const std::string expected =
        "expected pages from 0 to 6, got " + std::to_string(page) + " at place 1 of sequence 1";
    EXPECT(attend(pool, table) == "");
    EXPECT(synchronize(stream) == "ERR_RANGE: attention_forward: " + expected);
    starts[1] = 7;
    ops.cache_write(stream, cache, nullptr, rows, &starts, &table);
    EXPECT(synchronize(stream) == "ERR_RANGE: cache_write: " + expected);
  }
}

}  // namespace
}  // namespace heed::test
