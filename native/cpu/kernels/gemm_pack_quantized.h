// Packing for the matrix product by the transpose of a quantised weight (core/quantized.h): codes become the panels of
// gemm_pack.h. Inputs of the weight are the rows of a panel, and its outputs are the steps.
#pragma once
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/quantized.h"

namespace heed::cpu::HEED_ISA {
namespace {

// rows[i] = the weights of input `input` + i to the kWidth outputs from `output` on. Both must be multiples of kWidth,
// so that the outputs are of one panel and the inputs of one group.
template <int bits>
inline void read_square(const QuantizedTranspose& b, int64_t input, int64_t output, vf (&rows)[kWidth]) {
  using C = Codes<bits>;
  constexpr int kOfWord = kWidth < C::kPerWord ? kWidth : C::kPerWord;
  const QuantizedLayout& w = b.weight;
  const int64_t panel = output / kPanelColumns, lane = output % kPanelColumns;
  const uint8_t* const words = b.codes + (panel * w.words() + input / C::kPerWord) * kPanelBytes + lane * 4;
  const vf scale = load_f32(b.scales + (panel * w.groups() + input / w.group) * kPanelColumns + lane);
  const int first = static_cast<int>(input % C::kPerWord);  // 0, unless vectors are shorter than words
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; i += kOfWord) {
    const vi word = C::load(words + i / C::kPerWord * kPanelBytes);
#pragma GCC unroll 8
    for (int j = 0; j < kOfWord; j++) rows[i + j] = C::weights(word, first + j) * scale;
  }
}

// Returns pairs of bf16 as words: the numbers are finite or quiet NaNs, so that rounding needs no case for them.
inline vf pair(vf low, vf high) {
  const auto rounded = [](vf x) { return (vu)x + 0x7fff + ((vu)x >> 16 & 1); };
  return (vf)(rounded(low) >> 16 | (rounded(high) & 0xffff0000u));
}

template <Word word, int bits>
inline void pack_codes(float* to, const Panels& panels, const QuantizedTranspose& b, int64_t first, int64_t rows,
                       int64_t begin, int64_t k) {
  constexpr int kElements = word == Word::bf16_pair ? 2 : 1;
  for (int64_t q = 0; q < rows; q += panels.rows, to += panels.stride)
    for (int64_t v = 0; v < panels.lanes; v += kWidth) {
      float* const d = to + v;
      for (int64_t output = begin / kWidth * kWidth; output < begin + k; output += kWidth) {
        vf square[kWidth];
        read_square<bits>(b, first + q + v, output, square);
        transpose(square);
        for (int i = 0; i < kWidth; i += kElements) {
          const int64_t at = output + i - begin;
          if (at < 0 || at >= k) continue;
          if constexpr (word == Word::bf16_pair)
            store(d + at / 2 * panels.lanes, pair(square[i], at + 1 < k ? square[i + 1] : vf{}));
          else
            store(d + at * panels.lanes, square[i]);
        }
      }
    }
}

// Packs `rows` columns of B from `first` on, a multiple of kTileColumns, and the k elements from `begin` on.
inline void pack_quantized(Word word, float* to, const Panels& panels, const QuantizedTranspose& b, int64_t first,
                           int64_t rows, int64_t begin, int64_t k) {
  const bool eight = b.weight.bits == 8;
  if (word == Word::bf16_pair)
    eight ? pack_codes<Word::bf16_pair, 8>(to, panels, b, first, rows, begin, k)
          : pack_codes<Word::bf16_pair, 4>(to, panels, b, first, rows, begin, k);
  else
    eight ? pack_codes<Word::f32, 8>(to, panels, b, first, rows, begin, k)
          : pack_codes<Word::f32, 4>(to, panels, b, first, rows, begin, k);
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
