// The softmax of attention, kept online, so that a row's bits follow from the positions of the keys it sees alone. Keys
// come in tiles of kBlockKeys and splits of kSplitKeys, counted from key 0. Within a split a row has m, what exponents
// are relative to, near its maximum; l = Σ e^(s - m); and o = Σ e^(s - m) v, a sum over each tile for itself, added to
// those before. Splits are merged in their order (Milakov & Gimelshein 2018, eq. 4), whether one worker has them all or
// each has its own. A key that a row does not see adds an exact 0, so it makes no difference what else a tile holds.
#pragma once
#include "cpu/kernels/attention_tile.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kSplitKeys = 4 * kBlockKeys;
// How far a score may exceed the maximum in use before that is raised, which rescales the output: probabilities up to
// e^8 are as good as those up to 1.
constexpr float kSlack = 8;

// The maximum to use after one in use and the highest score of a tile.
inline vf next_maximum(vf in_use, vf highest) { return select(highest > in_use + set1(kSlack), highest, in_use); }
// What scores are taken off. A row that has seen no key yet: e^(-inf - 0) is the 0 that e^(-inf + inf) is not.
inline vf base_of(vf maximum) { return select(maximum == set1(-INFINITY), vf{}, maximum); }

// Σ of a tile's probabilities: of every fourth key by itself, and those together.
constexpr int kChains = 4;
template <class Float>
inline Float join_chains(const Float* sums) {
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}
inline vf add_tile(vf l, vf factor, vf sum) { return fma(l, factor, sum); }

// By what the sums so far and those of the next split are multiplied; takes its maximum into `m`.
struct Merge {
  vf before, split;

  Merge(vf& m, vf split_m) {
    const vf next = vmax(split_m, m), base = base_of(next);
    before = exp_nonpositive(m - base);
    split = exp_nonpositive(split_m - base);
    m = next;
  }
  vf operator()(vf sum, vf split_sum) const { return fma(sum, before, split_sum * split); }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
