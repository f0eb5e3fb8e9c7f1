// The product with a weight in blocks by AVX2's pairs of products (pair_dots.h), whose integers, and so the bits of the
// sums, are those of AVX512-VNNI (gemm_blocks_row.h, gemm_blocks_panels.h). One row is multiplied by codes as they lie
// in the file, with K in the lanes; for more rows, the codes of a step of 16 columns become panels in L1: four codes of
// a column in each of 8 lanes, as bytes or as two even and two odd ones in 16 bits.
#pragma once
#include "cpu/kernels/block_inputs.h"
#include "cpu/kernels/gemm_blocks_steps.h"

#if defined(HEED_DIGITS) && !defined(HEED_INT8_DOT)

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int kPanels = 2;  // of 8 columns, in a tile
constexpr int64_t kTileColumns = kPanels * kWidth;
template <int D>
constexpr int kStepRows = 4;  // that are multiplied at once: as many as registers have room for

// Returns true if D digits may be multiplied by the codes of a format.
template <class Format, int D>
constexpr bool multiplies() {
  return D == 2 || (D == 1 && Format::kMost < 128);
}

// parts[j] = the integers of part j of 32 numbers, with eight columns in the lanes. A lane of `fours` has the sum of
// four numbers of a column.
template <int kPart>
HEED_IN_LOOP void columns_in_lanes(const __m256i (&fours)[kWidth], __m256i (&parts)[32 / kPart]) {
  const auto words = [](__m256i x, __m256i y) {
    return _mm256_add_epi32(_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
  };
  const auto pairs = [](__m256i x, __m256i y) {
    return _mm256_add_epi32(_mm256_unpacklo_epi64(x, y), _mm256_unpackhi_epi64(x, y));
  };
  // Each half has the sums of 16 numbers of four columns.
  const __m256i a = pairs(words(fours[0], fours[1]), words(fours[2], fours[3]));
  const __m256i b = pairs(words(fours[4], fours[5]), words(fours[6], fours[7]));
  const __m256i low = _mm256_permute2x128_si256(a, b, 0x20), high = _mm256_permute2x128_si256(a, b, 0x31);
  if constexpr (kPart == 32) {
    parts[0] = _mm256_add_epi32(low, high);
  } else {
    parts[0] = low;
    parts[1] = high;
  }
}

// Adds a part of a row to the sums of eight columns: its exact integers are `whole`.
template <bool kMinima, int D>
HEED_IN_LOOP vf with_part(vf sum, __m256i whole, const InputStep<D>& row, const PanelScales& panel, int64_t part) {
  const vf factor = load(panel.scales[part]) * set1(row.steps[part]);
  sum = fma((vf)_mm256_cvtepi32_ps(whole), factor, sum);
  return kMinima ? fma(load(panel.minima[part]), set1(row.sums[part]), sum) : sum;
}

// Returns the sums of a row by eight columns from `column` on.
template <class Format, int D>
__attribute__((noinline)) vf multiply_row(const BlockProduct& p, const InputRows<D>& inputs, int64_t row,
                                          int64_t column, int64_t ahead) {
  constexpr int kPart = Format::kPart, kParts = 32 / kPart;
  const InputStep<D>* in = inputs.row(row);
  TileSteps<kWidth> step(p, column, ahead);
  PanelScales scales;
  vf sum{};
  for (; step.left > 0; step.go_on(Format::kStepBytes), in++) {
    step.prefetch_later_tile(Format::kStepBytes);
    read_scales<Format>(step.columns, scales);
#pragma GCC unroll 8
    for (int i = 0; i < kBlockDepth / 32; i++) {
      if (i * 32 >= step.left) break;
      const DigitVectors<D> digits = load_digits<D>(in->digits[i / 2], i % 2 * 32);
      __m256i fours[kWidth], parts[kParts];
#pragma GCC unroll 8
      for (int c = 0; c < kWidth; c++)
        fours[c] = dots_of_fours<D>(Format::codes(step.columns[c], i / 2).of[i % 2], digits);
      columns_in_lanes<kPart>(fours, parts);
#pragma GCC unroll 2
      for (int j = 0; j < kParts; j++) {
        const int part = i * kParts + j;
        if (!Format::kMinima) parts[j] = _mm256_add_epi32(parts[j], _mm256_set1_epi32(in->begin[0][part]));
        sum = with_part<Format::kMinima>(sum, parts[j], *in, scales, part);
      }
    }
  }
  return sum;
}

// A step of eight columns: for each four numbers, their codes, or the even and the odd ones of them in 16 bits.
struct alignas(64) CodePanel {
  __m256i codes[kBlockDepth / 4][2];
  PanelScales scales;
};

template <class Format, int D>
void fill_panels(const TileSteps<kTileColumns>& step, CodePanel* panels) {
  for (int v = 0; v < kPanels; v++) {
    const uint8_t* const* columns = step.columns + kWidth * v;
    read_scales<Format>(columns, panels[v].scales);
#pragma GCC unroll 8
    for (int i = 0; i < kBlockDepth / 32; i++) {
      if (i * 32 >= step.left) break;
      vf words[kWidth];
#pragma GCC unroll 8
      for (int c = 0; c < kWidth; c++) words[c] = (vf)Format::codes(columns[c], i / 2).of[i % 2];
      transpose(words);
#pragma GCC unroll 8
      for (int w = 0; w < kWidth; w++) {
        __m256i(&to)[2] = panels[v].codes[8 * i + w];
        const __m256i codes = (__m256i)words[w];
        to[0] = D == 1 ? codes : even_codes(codes);
        if constexpr (D == 2) to[1] = odd_codes(codes);
      }
    }
  }
}

// Adds to a sum in the order in which the code does. GCC otherwise adds the products of an unrolled loop in an order of
// its own, and stores most of them meanwhile because registers do not suffice.
HEED_IN_LOOP void add_in_order(__m256i& sum, __m256i next) {
  __asm__("" : "+x"(sum));
  sum = _mm256_add_epi32(sum, next);
}
HEED_IN_LOOP void add_words_in_order(__m256i& sum, __m256i next) {
  __asm__("" : "+x"(sum));
  sum = _mm256_add_epi16(sum, next);
}

// Adds the products of a step of R rows, which begin at `in` and are `stride` bytes apart, to sums[row][column]. Codes
// are at most `most`.
template <int D, int kPart, bool kMinima, int most, int R>
__attribute__((noinline)) void multiply_step(const InputStep<D>* in, int64_t stride, const CodePanel* panels,
                                             int64_t parts, float (*sums)[kTileColumns]) {
  constexpr int kWords = kPart / 4;
  // Words whose products are added in 16 bits.
  constexpr int kTogether = D == 2                      ? 1
                            : kPairSums<most> >= kWords ? kWords
                            : kPairSums<most> >= 4      ? 4
                                                        : kPairSums<most>;
  static_assert(kTogether > 0 && kWords % kTogether == 0, "a part is a whole number of sums");
  const auto row = [&](int r) {
    return reinterpret_cast<const InputStep<D>*>(reinterpret_cast<const char*>(in) + r * stride);
  };
  for (int64_t part = 0; part < parts; part++) {
    __m256i dots[R][kPanels];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < kPanels; v++)
        dots[r][v] = kMinima ? _mm256_setzero_si256() : _mm256_set1_epi32(row(r)->begin[0][part]);
    const int64_t at = part * kPart, chunk = at / kChunkInputs, first = at % kChunkInputs;
    const auto digits_at = [&](int r, int d, int word) {
      int32_t four;
      __builtin_memcpy(&four, row(r)->digits[chunk][d] + first + 4 * word, sizeof four);
      return _mm256_set1_epi32(four);
    };
#pragma GCC unroll 8
    for (int begin = 0; begin < kWords; begin += kTogether) {
      __m256i some[R][kPanels];
#pragma GCC unroll 8
      for (int word = begin; word < begin + kTogether; word++)
#pragma GCC unroll 2
        for (int d = 0; d < D; d++) {
          __m256i codes[kPanels];
#pragma GCC unroll 2
          for (int v = 0; v < kPanels; v++) codes[v] = panels[v].codes[part * kWords + word][d];
#pragma GCC unroll 4
          for (int r = 0; r < R; r++) {
            const __m256i digits = digits_at(r, d, word);
#pragma GCC unroll 2
            for (int v = 0; v < kPanels; v++) {
              if constexpr (D == 2) {
                add_in_order(dots[r][v], _mm256_madd_epi16(codes[v], digits));
              } else {
                const __m256i pairs = _mm256_maddubs_epi16(codes[v], digits);
                if (word == begin)
                  some[r][v] = pairs;
                else
                  add_words_in_order(some[r][v], pairs);
              }
            }
          }
        }
      if constexpr (D == 1)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
          for (int v = 0; v < kPanels; v++) dots[r][v] = _mm256_add_epi32(dots[r][v], widened_pairs(some[r][v]));
    }
#pragma GCC unroll 2
    for (int v = 0; v < kPanels; v++)
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        float* const to = sums[r] + kWidth * v;
        store(to, with_part<kMinima>(load(to), dots[r][v], *row(r), panels[v].scales, part));
      }
  }
}

// There is no matrix unit (gemm_blocks_tiles.h).
constexpr int kRegisterRows = 16;
inline void release_tiles() {}

template <class Format, int D, int R>
constexpr auto step_of = &multiply_step<D, Format::kPart, Format::kMinima, Format::kMost, R>;

}  // namespace
}  // namespace heed::cpu::HEED_ISA
#endif
