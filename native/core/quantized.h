// Weights of a matrix product x[M, K] · W[K, N] in 8 or 4 bits: W[k, n] is approximated by (code - zero) · scale,
// rounded to nearest, with one scale for each `group` of K and each column. A code of zero stands for the weight 0.
//
//   codes  u8   [panels, words, 64]   panels of 16 columns; a word is 32 bits of a column, so 64 bytes of a panel
//   scales bf16 [panels, groups, 16]
//
// A word holds the column's codes for the next 4 or 8 values of k. In 8 bits, byte j is k + j. In 4 bits, the low half
// of byte j is k + j and its high half is k + 4 + j. So a vector of words has columns in its lanes and nothing is ever
// summed across them, and four bytes of a lane go unchanged into an instruction for products of bytes. K is padded to
// whole groups and N to whole panels, with codes of zero and scales of 0.
//
// In 8 bits the scale is the largest |w| / 127. In 4 bits codes reach from -8 to 7; the side that reaches further gets
// the -8, through the sign of the scale. A scale is rounded to bf16 before the weights are divided by it, and it is
// never subnormal: |W - Ŵ| <= |scale| / 2.
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
  int64_t padded() const { return groups() * group; }  // of K
};

}  // namespace heed
