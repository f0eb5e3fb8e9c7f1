// The matrix product over a short K (a LoRA's rank): each sum is a few multiply-adds, so the time goes into writing the
// result. The sums of a tile go from registers through bias and residual, or the old value, to memory, along rows of
// `out` from end to end. All of K is one chain of gemm_words.h. Activations and other epilogues go to gemm_tiled.h.
#pragma once
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Rows of a tile of kTileColumns: their sums and a word of each column are in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kShortRows = 8;
#else
constexpr int kShortRows = 4;
#endif

struct ShortK {
  static constexpr int64_t kMostWords = 64;
  static constexpr int64_t kLeastColumns = 32;
  static constexpr int64_t kBlockFloats = 1 << 16;   // of B's panels, which stay in L2
  static constexpr int64_t kTogether = 4;            // panels that are packed at once
  static constexpr int64_t kTaskElements = 1 << 15;  // of out

  Chains chains;
  int64_t words, row_panels, column_panels, block;
  Panels a, b;

  explicit ShortK(const Problem& p) : chains(p), words(chains.words(p.k)) {
    a.rows = kShortRows;
    a.lanes = ceil_div(kShortRows, kWidth) * kWidth;
    a.stride = words * a.lanes;
    b.rows = b.lanes = kTileColumns;
    b.stride = words * b.lanes;
    row_panels = ceil_div(p.m, a.rows);
    column_panels = ceil_div(p.n, b.rows);
    block = max_of<int64_t>(1, kBlockFloats / max_of<int64_t>(1, b.stride));
  }

  // Returns true if gemm's problem is of that kind: all that follows the sums is a bias and one more addend.
  static bool takes(const Problem& p) {
    const Chains chains(p);
    return p.batch == 1 && p.k > 0 && p.n >= kLeastColumns && chains.count == 1 && chains.words(p.k) <= kMostWords &&
           !p.preact && !p.dact && p.activation == Activation::none && p.out.data.dtype != DType::f16 &&
           (!p.residual || (p.residual.data.dtype == p.out.data.dtype && !p.accumulate));
  }

  int64_t biases() const { return column_panels * kTileColumns; }
  int64_t floats() const { return row_panels * a.stride + column_panels * b.stride + biases(); }
};

// What is added to a strip of sums, and where the result goes; `more` is the residual or the old value, or null.
template <class T>
struct Strip {
  const float* bias;
  const T* more;
  int64_t more_row;
  T* out;
  int64_t out_row;

  vf finished(vf sum, int64_t i, int64_t j, int64_t n) const {
    if (bias) sum += load(bias + j);
    if (more) sum += load_upto(more + i * more_row + j, n);
    return sum;
  }
};

// `rows` rows of sums, at most kShortRows, for `columns` columns of B's panels from b on.
template <Word word, class T>
__attribute__((noinline)) void short_strip(int64_t words, const float* a, int64_t a_step, const float* b, int64_t rows,
                                           int64_t columns, const Strip<T>& of) {
  static_assert(kTileVectors == 2);
  const Strip<T> strip = of;
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    vf sum[kShortRows][2];
#pragma GCC unroll 8
    for (int i = 0; i < kShortRows; i++) sum[i][0] = sum[i][1] = vf{};
    const float* x = a;
    for (int64_t p = 0; p < words; p++, x += a_step, b += kTileColumns) {
      const vf first = load(b), second = load(b + kWidth);
#pragma GCC unroll 8
      for (int i = 0; i < kShortRows; i++) {
        const vf both = set1(x[i]);
        sum[i][0] = multiply_add<word>(both, first, sum[i][0]);
        sum[i][1] = multiply_add<word>(both, second, sum[i][1]);
      }
    }
    if (rows == kShortRows && j + kTileColumns <= columns) {
#pragma GCC unroll 8
      for (int i = 0; i < kShortRows; i++) {
        T* const out = strip.out + i * strip.out_row + j;
        store_both(out, strip.finished(sum[i][0], i, j, kWidth), strip.finished(sum[i][1], i, j + kWidth, kWidth));
      }
      continue;
    }
    alignas(64) float tile[kShortRows][kTileColumns];
    for (int i = 0; i < kShortRows; i++)
      for (int v = 0; v < 2; v++) store(tile[i] + v * kWidth, sum[i][v]);
    for (int64_t i = 0; i < rows; i++)
      for (int64_t c = 0; c < min_of<int64_t>(kTileColumns, columns - j); c += kWidth) {
        const int64_t n = columns - j - c;
        store_upto(strip.out + i * strip.out_row + j + c, strip.finished(load(tile[i] + c), i, j + c, n), n);
      }
  }
}

inline void multiply_short_k(const Problem& p, const ShortK& t, float* memory) {
  float *const a = memory, *const b = a + t.row_panels * t.a.stride, *const bias = b + t.column_panels * t.b.stride;
  const int64_t a_tasks = ceil_div(t.row_panels, ShortK::kTogether),
                b_tasks = ceil_div(t.column_panels, ShortK::kTogether);
  const int64_t grain = max_of<int64_t>(1, ShortK::kTaskElements / (ShortK::kTogether * kTileColumns * t.words));
  parallel_for(a_tasks + b_tasks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const bool of_a = task < a_tasks;
      const Panels& panels = of_a ? t.a : t.b;
      const Matrices& from = of_a ? p.a : p.b;
      const int64_t panel = (of_a ? task : task - a_tasks) * ShortK::kTogether, first = panel * panels.rows;
      const int64_t rows = min_of(ShortK::kTogether * panels.rows, (of_a ? p.m : p.n) - first);
      const int64_t row = of_a ? from.row : from.column, k = of_a ? from.column : from.row;
      pack_operand(t.chains.word, p.a.data.dtype, (of_a ? a : b) + panel * panels.stride, panels,
                   from.data + first * row, rows, p.k, row, k);
    }
  });
  if (p.bias)
    p.bias.visit([&](const auto* from) {
      for (int64_t j = 0; j < p.n; j += kWidth) store(bias + j, load_upto(from + j, p.n - j));
    });
  const int64_t columns_at_once = t.block * kTileColumns;
  const int64_t rows_at_once = ceil_div(ShortK::kTaskElements, kShortRows * min_of(columns_at_once, p.n));
  const auto strips = [&](auto kind) {
    using T = decltype(kind);
    const auto multiply =
        t.chains.word == Word::bf16_pair ? short_strip<Word::bf16_pair, T> : short_strip<Word::f32, T>;
    const Matrices& more = p.residual ? p.residual : p.out;
    const T* const added = p.residual || p.accumulate ? more.data.as<T>() : nullptr;
    for (int64_t j = 0; j < p.n; j += columns_at_once)
      parallel_for(t.row_panels, rows_at_once, [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; panel++) {
          const int64_t i = panel * kShortRows;
          multiply(t.words, a + panel * t.a.stride, t.a.lanes, b + j / kTileColumns * t.b.stride,
                   min_of<int64_t>(kShortRows, p.m - i), min_of(columns_at_once, p.n - j),
                   Strip<T>{p.bias ? bias + j : nullptr, added ? added + i * more.row + j : nullptr, more.row,
                            p.out.data.as<T>() + i * p.out.row + j, p.out.row});
        }
      });
  };
  if (p.out.data.dtype == DType::f32)
    strips(float{});
  else
    strips(bf16{});
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
