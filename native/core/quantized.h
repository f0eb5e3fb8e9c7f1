// Weights of a matrix product x[M, K] · W[K, N] in 8 or 4 bits, for inference: W[k, n] is about (code - zero) · scale,
// rounded to nearest, with a scale for each `group` of K and each column. A code of zero stands for the weight 0.
//
//   codes  u8   [panels, words, 64]   panels of 16 columns; a word is 32 bits of a column, so 64 bytes of a panel
//   scales bf16 [panels, groups, 16]
//
// A word holds the column's codes of the next 4 or 8 k: byte j is k + j in 8 bits, and in 4 bits its low half k + j,
// its high half k + 4 + j. So a vector of words has columns in its lanes and nothing is ever summed across them, and
// four bytes of a lane go into an instruction for products of bytes as they are. K is filled up to whole groups and N
// to whole panels with codes of zero and scales of 0.
//
// In 8 bits the scale is the largest |w| / 127. In 4 bits codes reach from -8 to 7, and the side that reaches further,
// by the sign of the scale, gets the -8. A scale is rounded to bf16 before weights are divided by it, and is never
// subnormal: |W - Ŵ| <= |scale| / 2.
#pragma once
#include "core/params.h"

namespace heed {

constexpr int64_t kPanelColumns = 16, kPanelBytes = 64;

struct QuantizedLayout {
  int64_t K, N, bits, group;

  int64_t panels() const { return (N + kPanelColumns - 1) / kPanelColumns; }
  int64_t groups() const { return (K + group - 1) / group; }
  int64_t words_of_group() const { return group * bits / 32; }
  int64_t words() const { return groups() * words_of_group(); }
  int64_t padded() const { return groups() * group; }  // K
};

}  // namespace heed
