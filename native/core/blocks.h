// Weights in the block formats of GGUF files (github.com/ggml-org/ggml, ggml-common.h): u8 [N, bytes of a row], a row
// of K numbers for each of N outputs. A block has `numbers` of them: small integers q and the scales that they share.
// d, m and dmin are f16; s and m with an index are integers of a part of 16 or 32 numbers.
//
//   q4_0     32   18 bytes: d, q of 4 bits                                              x = d (q - 8)
//   q4_1     32   20 bytes: d, m, q of 4 bits                                           x = d q + m
//   q5_0     32   22 bytes: d, fifth bits of q in 32, q's other 4 bits                  x = d (q - 16)
//   q5_1     32   24 bytes: d, m, fifth bits, other bits                                x = d q + m
//   q8_0     32   34 bytes: d, q int8                                                   x = d q
//   q2_k    256   84 bytes: s and m of 16 parts in half bytes, q of 2 bits, d, dmin     x = d s q - dmin m
//   q3_k    256  110 bytes: third bits of q, its other 2 bits, s of 16 parts, d         x = d (s - 32) (q - 4)
//   q4_k    256  144 bytes: d, dmin, s and m of 8 parts in 6 bits each, q of 4 bits     x = d s q - dmin m
//   q5_k    256  176 bytes: d, dmin, s and m, fifth bits of q, its other 4 bits         x = d s q - dmin m
//   q6_k    256  210 bytes: q's low 4 bits, its high 2 bits, s int8 of 16 parts, d      x = d s (q - 32)
//   iq4_nl   32   18 bytes: d, q of 4 bits                                              x = d nl[q]
//   iq4_xs  256  136 bytes: d, high 2 bits of s, low 4 bits of s of 8 parts, q          x = d (s - 32) nl[q]
//   mxfp4    32   17 bytes: e, q of 4 bits (OCP Microscaling Formats 1.0, E2M1)         x = 2^(e - 128) fp4[q]
//
// In the formats of 32 numbers and iq4_xs, the low halves of 16 bytes are 16 numbers and the high halves the next 16.
// In q4_k and q5_k, the same holds for 32 bytes. In q2_k, q3_k and q6_k, 32 bytes have pairs of bits of 4 · 32
// numbers.
// Except for the sums of q4_1, q5_1, q2_k, q4_k and q5_k, which are rounded once, all numbers are exact in f32.
#pragma once
#include "core/kinds.h"

namespace heed {

struct BlockShape {
  int numbers, bytes;
};

constexpr BlockShape block_shape(BlockKind kind) {
  switch (kind) {
    case BlockKind::q4_0:
    case BlockKind::iq4_nl:
      return {32, 18};
    case BlockKind::q4_1:
      return {32, 20};
    case BlockKind::q5_0:
      return {32, 22};
    case BlockKind::q5_1:
      return {32, 24};
    case BlockKind::q8_0:
      return {32, 34};
    case BlockKind::q2_k:
      return {256, 84};
    case BlockKind::q3_k:
      return {256, 110};
    case BlockKind::q4_k:
      return {256, 144};
    case BlockKind::q5_k:
      return {256, 176};
    case BlockKind::q6_k:
      return {256, 210};
    case BlockKind::iq4_xs:
      return {256, 136};
    case BlockKind::mxfp4:
      return {32, 17};
  }
  return {32, 0};
}

// Numbers of a row that are decoded together: a multiple of every format's block.
constexpr int kBlockDepth = 256;

struct BlockLayout {
  int64_t K, N;
  BlockKind kind;

  int64_t numbers() const { return block_shape(kind).numbers; }
  int64_t bytes() const { return block_shape(kind).bytes; }
  int64_t row_bytes() const { return K / numbers() * bytes(); }
  // Byte of a row at which the block of number k begins.
  int64_t at(int64_t k) const { return k / numbers() * bytes(); }
};

}  // namespace heed
