// The matrix product with a thin result: up to kThin rows or columns, such as a LoRA's rank. The thin operand is
// packed; the other one is read from memory once, as it lies, and the sums are in registers. Two forms by how it lies:
// dot products of its rows where it is contiguous in k, columns of it side by side where it is not. The result is
// small, so it goes through the epilogue of tiles, turned first if it is the columns that are few.
#pragma once
#include "cpu/kernels/gemm_rows.h"
#include "cpu/kernels/gemm_short_k.h"

namespace heed::cpu::HEED_ISA {
namespace {

constexpr int64_t kThin = 16;  // rows of the thin operand, at most

// An operand as rows over k, whichever it is.
struct Side {
  Floats data;
  int64_t rows, row, k;  // the number of rows, the distance of rows and of elements in k

  Side(const Problem& p, bool of_a)
      : data(of_a ? p.a.data : p.b.data),
        rows(of_a ? p.m : p.n),
        row(of_a ? p.a.row : p.b.column),
        k(of_a ? p.a.column : p.b.row) {}
};

// Rows of the thin operand in a tile of columns: sums fill the registers, and there are two heights.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kLowRows = 8, kHighRows = 12;
#else
constexpr int kLowRows = 4, kHighRows = 6;
#endif
// Rows whose distance in bytes is a multiple of a power of two share the places for kSharedBytes divided by it in an L2
// cache of 1 MB. A chain asks for lines so far ahead of reading them that they stay there: for most distances 64 rows,
// which is what a line takes from memory.
constexpr int64_t kSharedBytes = 1 << 20, kMostAhead = 64;
inline int64_t shared_by(int64_t bytes) { return bytes & -bytes; }
inline int64_t rows_ahead(int64_t bytes) {
  return bytes == 0 ? 1 : max_of<int64_t>(8, min_of(kMostAhead, kSharedBytes / shared_by(bytes) / 2));
}

struct Thin {
  static constexpr int64_t kDotBlock = 32;         // rows that pass through the epilogue at once
  static constexpr int64_t kLeastRows = 64;        // of the wide operand
  static constexpr int64_t kMostShared = 8 << 20;  // bytes of lines that share places in the L2 cache
  static constexpr int64_t kMostApart = 1 << 15;   // bytes from line to line: farther ones miss the TLB
  static constexpr int64_t kTaskProducts = 1 << 18;

  bool of_a;  // true if the thin operand is a
  bool dots;
  Side thin, wide;
  Chains chains;
  Panels panels{};  // of the thin operand; for dots, only rows and stride count
  int64_t parts;    // panels of the thin operand

  explicit Thin(const Problem& p) : of_a(p.m <= p.n), thin(p, of_a), wide(p, !of_a), chains(p) {
    dots = wide.k == 1;
    if (dots) {
      panels.rows = even_part(thin.rows, kFewRows);
      panels.stride = gathered_floats(chains, panels.rows, p.k);
    } else {
      const int64_t rows = even_part(thin.rows, kHighRows);
      panels.rows = rows <= kLowRows ? kLowRows : kHighRows;
      panels.lanes = ceil_div(panels.rows, kWidth) * kWidth;
      panels.stride = chains.words(p.k) * panels.lanes;
    }
    parts = ceil_div(thin.rows, panels.rows);
  }

  // Returns true if gemm's problem is of that kind, and not so thin that only memory counts (gemm_rows.h).
  static bool takes(const Problem& p) {
    if (p.batch != 1 || p.k == 0 || min_of(p.m, p.n) > kThin) return false;
    const Thin t(p);
    if ((t.of_a && p.rounds_b()) || t.wide.rows < kLeastRows || few_rows(p)) return false;
    if (t.dots) return t.parts == 1 || !t.of_a;  // more rows of A than one part has: tiles fetch B ahead
    // Tiles of more than one part read the wide operand again, from the L2 cache.
    const int64_t bytes = t.wide.k * static_cast<int64_t>(size_of(t.wide.data.dtype));
    return t.wide.row == 1 && bytes <= kMostApart && (t.parts == 1 || p.k * shared_by(bytes) <= kMostShared);
  }

  int64_t floats() const { return parts * panels.stride; }
};

// Sums of the thin operand's rows × the wide one's, which become a tile of the result.
inline void finish_thin(const Problem& p, const Thin& t, float* sums, int64_t stride, int64_t rows, int64_t first,
                        int64_t columns, int64_t row) {
  if (t.of_a) return finish(p, Target(p, 0), {sums, stride, rows, columns}, row, first, true, true);
  alignas(64) float turned[kTwo > Thin::kDotBlock ? kTwo : Thin::kDotBlock][kThin];
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) turned[j][i] = sums[i * stride + j];
  finish(p, Target(p, 0), {turned[0], kThin, columns, rows}, first, row, true, true);
}

// tile[R][kTwo] = the sums of R rows of a, packed, by `columns` columns of b, chain after chain. `ahead` is how much
// further on in b the columns are that come next.
template <int R, class Words>
__attribute__((noinline)) void multiply_columns(const Chains& chains, int64_t k, const float* a, int64_t lanes,
                                                const typename Words::Element* b, int64_t row, int64_t columns,
                                                int64_t ahead, float* tile) {
  constexpr int64_t kElements = Words::kElements;
  const int64_t steps_ahead = rows_ahead(row * static_cast<int64_t>(sizeof *b)) / kElements;
  for (int64_t begin = 0; begin < k; begin += chains.length) {
    const int64_t end = min_of(begin + chains.length, k);
    vf sum[R][2];
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) sum[i][0] = sum[i][1] = vf{};
    const auto add = [&](const Two& y) __attribute__((always_inline)) {
#pragma GCC unroll 16
      for (int i = 0; i < R; i++) {
        const vf both = set1(a[i]);
        sum[i][0] = multiply_add<Words::kWord>(both, y.first, sum[i][0]);
        sum[i][1] = multiply_add<Words::kWord>(both, y.second, sum[i][1]);
      }
      a += lanes;
    };
    // The last steps of all ask for the first lines of the next columns.
    int64_t step = begin;
    if (columns == kTwo)
      for (; step + kElements <= end; step += kElements) {
        const auto* const y = b + step * row;
        const auto* const line = step + kElements * steps_ahead < k ? y + kElements * steps_ahead * row
                                                                    : y + (kElements * steps_ahead - k) * row + ahead;
#pragma GCC unroll 2
        for (int64_t i = 0; i < kElements; i++) fetch(line + i * row);
        add(load_two(Words{}, y, row));
      }
    for (; step < end; step += kElements) add(load_two(Words{}, b + step * row, row, columns, end - step));
#pragma GCC unroll 16
    for (int i = 0; i < R; i++)
#pragma GCC unroll 2
      for (int v = 0; v < 2; v++) {
        float* const to = tile + i * kTwo + v * kWidth;
        store(to, begin > 0 ? sum[i][v] + load(to) : sum[i][v]);
      }
  }
  for (int i = 0; i < R; i++) put_in_order(Words{}, tile + i * kTwo);
}

inline void multiply_thin_columns(const Problem& p, const Thin& t, float* memory) {
  pack_operand(t.chains.word, p.a.data.dtype, memory, t.panels, t.thin.data, t.thin.rows, p.k, t.thin.row, t.thin.k);
  const int64_t tiles = ceil_div(t.wide.rows, kTwo);
  const int64_t grain = ceil_div(Thin::kTaskProducts, t.panels.rows * kTwo * p.k);
  with_words(t.chains.word, t.wide.data.dtype, [&](auto kind) {
    using Words = decltype(kind);
    const auto multiply =
        t.panels.rows == kLowRows ? multiply_columns<kLowRows, Words> : multiply_columns<kHighRows, Words>;
    parallel_for(tiles, grain, [&](int64_t begin, int64_t end) {
      alignas(64) float sums[kHighRows * kTwo];
      for (int64_t tile = begin; tile < end; tile++)
        for (int64_t part = 0; part < t.parts; part++) {
          const int64_t j = tile * kTwo, columns = min_of<int64_t>(kTwo, t.wide.rows - j), i = part * t.panels.rows;
          const int64_t ahead = part + 1 < t.parts || tile + 1 == end ? 0 : kTwo;
          multiply(t.chains, p.k, memory + part * t.panels.stride, t.panels.lanes,
                   t.wide.data.as<typename Words::Element>() + j, t.wide.k, columns, ahead, sums);
          finish_thin(p, t, sums, kTwo, min_of(t.panels.rows, t.thin.rows - i), j, columns, i);
        }
    });
  });
}

template <int M>
inline void multiply_thin_dots(const Problem& p, const Thin& t, float* memory) {
  for (int64_t part = 0; part < t.parts; part++) {
    const int64_t first = part * t.panels.rows;
    with_operand_words(t.chains.word, t.thin.data.dtype, p.a.data.dtype, [&](auto words) {
      using Words = decltype(words);
      gather_rows<M, Words>(memory + part * t.panels.stride,
                            t.thin.data.as<typename Words::Element>() + first * t.thin.row,
                            min_of(t.panels.rows, t.thin.rows - first), p.k, t.thin.row, t.thin.k);
    });
  }
  const int64_t grain = ceil_div(Thin::kTaskProducts, Thin::kDotBlock * t.thin.rows * p.k);
  parallel_for(ceil_div(t.wide.rows, Thin::kDotBlock), grain, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[M * Thin::kDotBlock];
    for (int64_t block = begin; block < end; block++)
      for (int64_t part = 0; part < t.parts; part++) {
        const int64_t i = block * Thin::kDotBlock, rows = min_of(Thin::kDotBlock, t.wide.rows - i);
        const int64_t first = part * t.panels.rows;
        with_words(t.chains.word, t.wide.data.dtype, [&](auto words) {
          using Words = decltype(words);
          dot_rows<M, Words>(t.chains, p.k, memory + part * t.panels.stride,
                             t.wide.data.as<typename Words::Element>() + i * t.wide.row, t.wide.row, rows, sums,
                             Thin::kDotBlock);
        });
        finish_thin(p, t, sums, Thin::kDotBlock, min_of(t.panels.rows, t.thin.rows - first), i, rows, first);
      }
  });
}

inline void multiply_thin(const Problem& p, const Thin& t, float* memory) {
  if (!t.dots) return multiply_thin_columns(p, t, memory);
  with_few_rows(t.panels.rows, [&](auto rows) { multiply_thin_dots<decltype(rows)::value>(p, t, memory); });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
