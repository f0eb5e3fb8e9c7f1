// Tests dequantize_blocks, gemm_blocks and its backward over every format: rows that end within the numbers that are
// decoded together, columns that end within a tile, any number of rows, every dtype, and what is refused.
#include "core/blocks.h"
#include "sweep.h"

namespace heed::test {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};

// Bytes below 120 make no f16 infinite.
Operand blocks(int64_t kind, int64_t K, int64_t N) {
  const BlockLayout layout{K, N, static_cast<BlockKind>(kind)};
  return {{N, layout.row_bytes()}, DType::u8, Layout::contiguous, 0, 120};
}
// Depths that end within the numbers that are decoded together, or multiplied together, where the format allows it.
std::vector<int64_t> depths(int64_t kind) {
  if (block_shape(static_cast<BlockKind>(kind)).numbers == 32) return {32, 64, 288, 352};
  return {256, 512};
}

TEST(blocks_of_every_format) {
  sweep(stream, [&](Sweep& s) {
    for (int64_t kind = 0; kind < kBlockKinds; kind++)
      for (const int64_t K : depths(kind)) {
        const int64_t N = 7;
        const DType dtype = kFloats[(kind + K / 32) % 3];
        s.check("dequantize_blocks", 1, {{{N, K}, dtype}, blocks(kind, K, N)},
                [&](const Views& v) { ops.dequantize_blocks(stream, v[0], nullptr, v[1], kind); });
        s.check("dequantize_blocks", 1, {{{2, 3, K}, dtype}, blocks(kind, K, N), integers({2, 3}, N)},
                [&](const Views& v) { ops.dequantize_blocks(stream, v[0], &v[2], v[1], kind); });
        for (const DType input : {dtype, DType::f32})
          for (const int64_t M : {1, 3, 4, 67})
            s.check(
                "gemm_blocks", 2,
                {{{M, N}, input}, {{M, N}, input}, {{M, K}, input}, blocks(kind, K, N), {{N}, input}, {{M, N}, input}},
                [&](const Views& v) { ops.gemm_blocks(stream, v[0], v[2], v[3], &v[4], &v[5], &v[1], 1, 24, kind); });
      }
    for (const DType dtype : kFloats)
      for (const int64_t M : {1, 9})
        s.check_accumulating("gemm_blocks_backward", 1, {{{M, 512}, dtype}, {{M, 7}, dtype}, blocks(7, 512, 7)},
                             [&](const Views& v, bool accumulate) {
                               ops.gemm_blocks_backward(stream, v[0], v[1], v[2], accumulate, 7);
                             });
  });
}

TEST(blocks_empty) {
  Array<uint8_t> none({20, 0}), no_columns({0, 144}), some({20, 144});
  Array<float> no_depth({3, 0}), out({3, 20}), a({3, 256}), nothing({3, 0}), no_rows({0, 256}), no_out({0, 20});
  Array<float> bias({20});
  for (int64_t i = 0; i < 20; i++) bias[i] = 2;
  ops.gemm_blocks(stream, out, no_depth, none, &bias, nullptr, nullptr, 0, 24, 7);
  ops.gemm_blocks(stream, nothing, a, no_columns, nullptr, nullptr, nullptr, 0, 24, 7);
  ops.gemm_blocks(stream, no_out, no_rows, some, nullptr, nullptr, nullptr, 0, 24, 7);
  ops.dequantize_blocks(stream, Array<float>({20, 0}), nullptr, none, 7);
  ops.gemm_blocks_backward(stream, no_depth, out, none, false, 7);
  ops.gemm_blocks_backward(stream, no_rows, no_out, some, false, 7);
  for (int64_t i = 0; i < 768; i++) a[i] = 1;
  ops.gemm_blocks_backward(stream, a, nothing, no_columns, false, 7);
  EXPECT(synchronize(stream).empty());
  for (int64_t i = 0; i < 768; i++) EXPECT(a[i] == 0);
  for (int64_t i = 0; i < 60; i++) EXPECT(out[i] == 2);
}

TEST(blocks_errors) {
  Array<uint8_t> some({20, 144});
  Array<float> out({3, 20}), a({3, 256}), odd({3, 255}), rows({2, 256}), flat({256});
  Array<int32_t> ids({2});
  const auto is = [&](const std::string& error, const char* expected) { EXPECT(error == expected); };
  const auto product = [&](In x, In weight, Int format) {
    return error_of([&] { ops.gemm_blocks(stream, out, x, weight, nullptr, nullptr, nullptr, 0, 24, format); });
  };
  is(product(a, some, 13), "ERR_ARGUMENT: gemm_blocks: expected a format from 0 to 12, got 13");
  is(product(a, some, -1), "ERR_ARGUMENT: gemm_blocks: expected a format from 0 to 12, got -1");
  is(product(odd, some, 7), "ERR_SHAPE: gemm_blocks: expected rows of whole blocks of 256 numbers, got 255");
  is(product(a, some, 8), "ERR_SHAPE: gemm_blocks: expected blocks of shape [20, 176], got [20, 144]");
  is(product(a, flat, 7), "ERR_DTYPE: gemm_blocks: expected blocks of dtype u8, got f32");
  ids[1] = 20;
  ops.dequantize_blocks(stream, rows, &ids, some, 7);
  EXPECT(synchronize(stream) == "ERR_RANGE: dequantize_blocks: expected ids in [0, 20), got 20 at position 1");
}

}  // namespace
}  // namespace heed::test
