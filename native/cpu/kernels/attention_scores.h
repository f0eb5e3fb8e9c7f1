// The steps between the scaled products and the softmax: the soft cap s → softcap · tanh(s / softcap) (Gemma 2, Gemma
// Team 2024), the bias -slope · |position - key| (ALiBi, Press et al. 2022), and a learned bias by the distance (T5,
// Raffel et al. 2020; forward only), in this order. Forward and backward both compute them here, so that backward's
// probabilities are those from which lse was computed.
#pragma once
#include "cpu/kernels/attention_mask.h"

namespace heed::cpu::HEED_ISA {
namespace {

// `slope` receives the derivative.
inline vf cap_score(vf s, float softcap, vf* slope) {
  const vf t = vtanh(s * set1(1 / softcap));
  *slope = fma(-t, t, set1(1));
  return t * set1(softcap);
}

inline vf bias_score(vf s, vf slope, vf position, vf key) { return fma(-slope, vabs(position - key), s); }

// The score steps of a block of query rows along the lanes.
struct ScoreShape {
  float softcap;
  bool biased;
  // Positions are counted from the block's first one, so the distance to a key is exact up to 2^24.
  int64_t origin;
  float positions[kBlockQueries], slopes[kBlockQueries];
  RelativeBias relative;
  int64_t heads[kBlockQueries], places[kBlockQueries];  // of rows, with a relative bias

  ScoreShape() = default;
  ScoreShape(const Attention& a, int64_t b, int64_t g, int64_t first, int64_t n)
      : softcap(a.softcap), biased(a.slopes != nullptr), origin(0), relative(a.relative) {
    for (int64_t i = 0; relative.table && i < ceil_div(n, kWidth) * kWidth; i++) {
      const int64_t r = first + min_of(i, n - 1);
      heads[i] = a.head(g, r);
      places[i] = a.position(b, r / a.G);
    }
    if (!biased) return;
    origin = a.position(b, first / a.G);
    for (int64_t i = 0; i < ceil_div(n, kWidth) * kWidth; i++) {
      const int64_t r = first + min_of(i, n - 1);
      positions[i] = static_cast<float>(a.position(b, r / a.G) - origin);
      slopes[i] = a.slopes[a.head(g, r)];
    }
  }

  // Returns the score of vector c's lanes and a key, and its derivative with respect to the scaled product.
  vf of(vf s, int64_t c, int64_t key, vf* slope) const {
    if (softcap > 0) s = cap_score(s, softcap, slope);
    if (biased)
      s = bias_score(s, load(slopes + c * kWidth), load(positions + c * kWidth),
                     set1(static_cast<float>(key - origin)));
    if (!relative.table) return s;
    vf bias;
    for (int64_t i = 0; i < kWidth; i++) {
      const int64_t row = c * kWidth + i;
      bias[i] = relative.of(heads[row], key - places[row]);
    }
    return s + bias;
  }

  // Applies the steps to a tile of scaled products, in place.
  void apply(const TileMask& mask, int64_t begin, float* tile) const {
    vf slope;
    for (int64_t c = 0; c < mask.vectors; c++)
      for (int64_t j = mask.any[c].begin; j < mask.any[c].end; j++) {
        float* s = tile + j * kBlockQueries + c * kWidth;
        store(s, of(load(s), c, begin + j, &slope));
      }
  }
};

// Applies the steps to row r's scaled products with keys [begin, begin + keys), in place, in whole vectors.
inline void shape_row(const Attention& a, int64_t b, int64_t g, int64_t r, int64_t begin, int64_t keys, float* row) {
  vf lane{}, slope;
  for (int i = 0; i < kWidth; i++) lane[i] = static_cast<float>(i);
  const int64_t place = a.position(b, r / a.G) - begin;
  const vf position = set1(static_cast<float>(place));
  for (int64_t j = 0; j < keys; j += kWidth) {
    vf s = load(row + j);
    if (a.softcap > 0) s = cap_score(s, a.softcap, &slope);
    if (a.slopes) s = bias_score(s, set1(a.slopes[a.head(g, r)]), position, lane + set1(static_cast<float>(j)));
    if (a.relative.table) {
      vf bias;
      for (int64_t i = 0; i < kWidth; i++) bias[i] = a.relative.of(a.head(g, r), j + i - place);
      s += bias;
    }
    store(row + j, s);
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
