// The matrix product of many rows: packed panels, a register-blocked micro-kernel and cache blocking (Goto & van de
// Geijn 2008; Van Zee & van de Geijn 2015).
//
// One operand is packed ahead, by all threads, and then streams from L3 or memory. Of the other, each worker packs a
// few panels at a time into memory of its own, where they stay in its L2 until it has multiplied them by all of the
// first, over `depth` of K. A worker packs panels of A, or of B with few rows or many columns; then it also fetches the
// next ones from memory meanwhile. The order of summation is that of gemm_words.h.
#pragma once
#include <type_traits>

#include "cpu/kernels/gemm_epilogue.h"
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"
#include "cpu/kernels/gemm_pack_patches.h"
#include "cpu/kernels/gemm_pack_quantized.h"

namespace heed::cpu::HEED_ISA {
namespace {

// How a problem is cut; made in the host function, which takes the memory for it.
struct Tiling {
  // Steps of a pass. Between passes, sums go through memory. But a worker that packs B reads pieces of its rows, which
  // have to be long, and so few that they stay in L2 while the next ones are fetched.
  static constexpr int64_t kSteps = 1536, kPieceSteps = 768;
  static constexpr int64_t kFewRows = 168, kManyRows = 672;       // at most, and at least
  static constexpr int64_t kOwnPanels = 4, kOwnFloats = 1 << 16;  // of A that a worker packs: at least, and about
  static constexpr int64_t kAheadPanels = 2;                      // panels of B that are fetched at once
  static constexpr int64_t kUnits = 8;                            // for each worker: fewer would end at different times
  static constexpr int64_t kAheadSteps = 4;                       // steps of products for each line that is fetched
  static constexpr int64_t kSharedFloats = int64_t{4} << 20;
  static constexpr int64_t kLeastProducts = 1 << 17;  // products that are worth a turn at the counter
  // Panels of B for each worker from which on workers pack B: few if A is the smaller operand and one pass is enough.
  static constexpr int64_t kFewPanels = 12, kManyPanels = 32;

  int64_t workers;
  int64_t row_panels, column_panels;
  Chains chains;
  int64_t depth, passes;  // over K: chains of kSteps words in all, or fewer
  int64_t block_columns;  // panels of B in a unit
  bool share_a, share_b;  // true if the operand is packed ahead, at most one of them
  int64_t height, width;  // panels within a range that is packed ahead
  int64_t own_panels;     // of A that a worker packs at once
  int64_t group;          // matrices of the batch that are processed together
  Panels a, b;

  explicit Tiling(const Problem& p) : workers(thread_count()), chains(p) {
    a.rows = even_part(p.m, kTileRows);
    a.lanes = ceil_div(kTileRows, kWidth) * kWidth;
    b.rows = b.lanes = kTileColumns;
    row_panels = ceil_div(p.m, a.rows);
    column_panels = ceil_div(p.n, b.rows);
    const bool small_a = p.m <= p.n && (p.b.row == 1 || chains.words(p.k) <= kPieceSteps);
    const int64_t enough = p.m <= kFewRows ? 4 : small_a ? kFewPanels : kManyPanels;
    const bool few_columns = p.batch * column_panels < enough * workers;
    share_b = row_panels > 1 && (few_columns || (p.m >= kManyRows && chains.words(p.k) > kPieceSteps));
    const int64_t most = share_b || p.b.row == 1 ? kSteps : kPieceSteps;
    const int64_t together = max_of<int64_t>(1, most * chains.elements / chains.length);
    depth = even_part(chains.count, together) * chains.length;
    passes = max_of<int64_t>(1, ceil_div(p.k, depth));
    const int64_t steps = depth / chains.elements;
    // Panels are a cache line further apart than they are long, so that they do not compete for the same cache sets.
    a.stride = steps * a.lanes + 16;
    b.stride = steps * b.lanes + 16;
    if (share_b) {
      width = even_part(column_panels, max_of<int64_t>(1, kSharedFloats / b.stride));
      block_columns = ceil_div(width, min_of(width, ceil_div(kUnits * workers, p.batch * row_panels)));
    } else {
      // If each block is fetched once, the number of blocks should divide evenly among the workers.
      width = column_panels;
      block_columns = ceil_div(width, 2 * workers * ceil_div(width, 2 * workers * kAheadPanels));
    }
    share_a = !share_b && column_panels > block_columns;
    // No more than the longest run of a worker has (multiply()).
    own_panels = min_of(ceil_div(row_panels, 2 * workers), max_of(kOwnPanels, kOwnFloats / a.stride));
    height = share_a ? min_of(row_panels, kSharedFloats / a.stride) : row_panels;
    group = share_a || share_b ? max_of<int64_t>(1, min_of(p.batch, 2 * kSharedFloats / (shared_a() + shared_b())))
                               : p.batch;
  }

  int64_t column_blocks(int64_t panels) const { return ceil_div(panels, block_columns); }
  // Floats of a matrix's operand that is packed ahead, and of the operands that a worker packs for itself.
  int64_t shared_a() const { return share_a ? height * a.stride : 0; }
  int64_t shared_b() const { return share_b ? width * b.stride : 0; }
  int64_t own_a() const { return share_a ? 0 : own_panels * a.stride; }
  int64_t own_b() const { return share_b ? 0 : block_columns * b.stride; }
  int64_t memory() const { return group * (shared_a() + shared_b()) + workers * (own_a() + own_b()); }
};

class TiledProduct {
 public:
  TiledProduct(const Problem& problem, const Tiling& tiling, float* memory)
      : p(problem),
        t(tiling),
        shared_a(memory),
        shared_b(shared_a + t.group * t.shared_a()),
        own(shared_b + t.group * t.shared_b()) {}

  void run() {
    for (matrix = 0; matrix < p.batch; matrix += t.group) {
      matrices = min_of(t.group, p.batch - matrix);
      for (pass = 0; pass < t.passes; pass++) {
        k = min_of(t.depth, p.k - pass * t.depth);
        for (row = 0; row < t.row_panels; row += t.height) {
          rows = min_of(t.height, t.row_panels - row);
          for (column = 0; column < t.column_panels; column += t.width) {
            columns = min_of(t.width, t.column_panels - column);
            pack_shared();
            multiply();
          }
        }
      }
    }
  }

 private:
  void pack_a(float* to, int64_t matrix_, int64_t first, int64_t panels) const {
    const int64_t i = first * t.a.rows;
    if (p.patches)
      return pack_patches(t.chains.word, to, t.a, p.patches, i, min_of(panels * t.a.rows, p.m - i),
                          matrix_ * p.k + pass * t.depth, k);
    const Floats from = p.a.at(matrix_) + (i * p.a.row + pass * t.depth * p.a.column);
    pack_operand(t.chains.word, p.a.data.dtype, to, t.a, from, min_of(panels * t.a.rows, p.m - i), k, p.a.row,
                 p.a.column);
  }
  void pack_b(float* to, int64_t matrix_, int64_t first, int64_t panels) const {
    if (!p.quantized) return pack_rows_of_b(to, matrix_, first, panels, 0, k);
    const int64_t j = first * t.b.rows;
    pack_quantized(t.chains.word, to, t.b, p.quantized, j, min_of(panels * t.b.rows, p.n - j), pass * t.depth, k);
  }
  // Packs a part of the pass's k.
  void pack_rows_of_b(float* to, int64_t matrix_, int64_t first, int64_t panels, int64_t begin, int64_t end) const {
    const int64_t j = first * t.b.rows;
    const Floats from = p.b.at(matrix_) + (j * p.b.column + (pass * t.depth + begin) * p.b.row);
    pack_operand(t.chains.word, p.a.data.dtype, to + t.chains.words(begin) * t.b.lanes, t.b, from,
                 min_of(panels * t.b.rows, p.n - j), end - begin, p.b.column, p.b.row);
  }

  // A task packs some panels of A or of B. If the rows of B are contiguous, it packs some of them, over all panels, so
  // that they are read from end to end.
  void pack_shared() const {
    constexpr int64_t kTogether = 4;  // panels of a task
    constexpr int64_t kLeastWords = 8;
    const bool in_rows = t.share_b && p.b.column == 1 && !p.quantized;
    const int64_t words = max_of(kLeastWords, ceil_div(t.chains.words(k), Tiling::kUnits * t.workers));
    const int64_t k_together = words * t.chains.elements;
    const int64_t a_tasks = t.share_a && column == 0 ? ceil_div(rows, kTogether) : 0;
    const int64_t b_tasks = !t.share_b ? 0 : in_rows ? ceil_div(k, k_together) : ceil_div(columns, kTogether);
    const int64_t tasks = a_tasks + b_tasks;
    parallel_for(matrices * tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t m = task / tasks, of_a = task % tasks, of_b = of_a - a_tasks;
        float* const a = shared_a + m * t.height * t.a.stride;
        float* const b = shared_b + m * t.width * t.b.stride;
        if (of_b < 0) {
          const int64_t i = of_a * kTogether;
          pack_a(a + i * t.a.stride, matrix + m, row + i, min_of(kTogether, rows - i));
        } else if (in_rows) {
          const int64_t first = of_b * k_together;
          pack_rows_of_b(b, matrix + m, column, columns, first, min_of(k, first + k_together));
        } else {
          const int64_t j = of_b * kTogether;
          pack_b(b + j * t.b.stride, matrix + m, column + j, min_of(kTogether, columns - j));
        }
      }
    });
  }

  // Units are ordered by matrices, blocks of columns and rows. A worker takes a run of them; runs get shorter towards
  // the end, so that all workers finish at the same time.
  void multiply() const {
    const int64_t blocks = t.column_blocks(columns), rows_apart = t.share_b ? rows : 1;
    const int64_t units = matrices * blocks * rows_apart;
    const int64_t panels = t.block_columns * (t.share_b ? 1 : rows);
    const int64_t products = panels * t.a.rows * t.b.rows * max_of<int64_t>(1, k);
    const int64_t least = max_of<int64_t>(1, Tiling::kLeastProducts / products);
    int64_t next = 0;
    parallel_for(min_of(t.workers, ceil_div(units, least)), 1, [&](int64_t worker, int64_t) {
      float* const own_a = own + worker * (t.own_a() + t.own_b());
      for (int64_t begin = __atomic_load_n(&next, __ATOMIC_RELAXED); begin < units;) {
        const int64_t end = min_of(units, begin + max_of(least, (units - begin) / (2 * t.workers)));
        if (!__atomic_compare_exchange_n(&next, &begin, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
        for (int64_t unit = begin; unit < end;) {
          const int64_t first = unit % rows_apart, run = min_of(end - unit, rows_apart - first);
          const int64_t block = unit / rows_apart % blocks * t.block_columns;
          multiply_block(unit / rows_apart / blocks, first, t.share_b ? first + run : rows, block,
                         min_of(block + t.block_columns, columns), own_a, own_a + t.own_a());
          unit += run;
        }
        begin = __atomic_load_n(&next, __ATOMIC_RELAXED);
      }
    });
  }

  void multiply_block(int64_t m, int64_t first_row, int64_t end_row, int64_t first_column, int64_t end_column,
                      float* own_a, float* own_b) const {
    const Target target(p, matrix + m);
    const float* b = shared_b + (m * t.width + first_column) * t.b.stride;
    if (!t.share_b) {
      pack_b(own_b, matrix + m, column + first_column, end_column - first_column);
      b = own_b;
    }
    const int64_t products = (end_row - first_row) * (end_column - first_column);
    int64_t product = 0;
    const int64_t together = t.share_a ? end_row - first_row : t.own_panels;
    for (int64_t i = first_row; i < end_row; i += together) {
      const int64_t panels = min_of(together, end_row - i);
      const float* a = shared_a + (m * t.height + i) * t.a.stride;
      if (!t.share_a) {
        pack_a(own_a, matrix + m, row + i, panels);
        a = own_a;
      }
      const auto product_of = [&](int64_t q, int64_t j, const Ahead& ahead) {
        multiply_panels(target, row + i + q, column + j, a + q * t.a.stride, b + (j - first_column) * t.b.stride,
                        ahead);
      };
      if (t.share_b) {
        for (int64_t j = first_column; j < end_column; j++)
          for (int64_t q = 0; q < panels; q++)
            product_of(q, j, panel_ahead(b + (j - first_column + 1) * t.b.stride, q, panels));
      } else {
        for (int64_t q = 0; q < panels; q++)
          for (int64_t j = first_column; j < end_column; j++)
            product_of(q, j, block_ahead(m, column + end_column, product++, products));
      }
    }
  }

  // Returns the memory that the micro-kernel prefetches during the i-th of n products with a panel of B: its part of
  // the next panel.
  Ahead panel_ahead(const float* next, int64_t i, int64_t n) const {
    const int64_t steps = t.chains.words(k), lines = steps * t.b.lanes / (kCacheLine / int64_t{sizeof *next});
    return Ahead(reinterpret_cast<const char*>(next), 1, lines, 0, i, n, steps);
  }

  // Returns the memory that the micro-kernel prefetches during the i-th of n products of a block: its part of the next
  // block. Only the last products fetch, since A, which passes through L2 meanwhile, would drive out what came early.
  Ahead block_ahead(int64_t m, int64_t panel, int64_t i, int64_t n) const {
    if (p.quantized) return p.quantized.codes;  // packing waits for arithmetic rather than for memory
    const int64_t j = panel * t.b.rows, width = min_of(t.block_columns * t.b.rows, p.n - j);
    const Floats b = p.b.at(matrix + m) + pass * t.depth * p.b.row;
    if (width <= 0) return b.data;
    const char* const first = (b + j * p.b.column).data;
    const int64_t size = static_cast<int64_t>(size_of(b.dtype));
    const int64_t steps = t.chains.words(k);
    const auto fetch = [&](int64_t runs, int64_t length, int64_t stride) {
      const int64_t lines = ceil_div(length * size, kCacheLine);
      const int64_t fetching = min_of(n, ceil_div(Tiling::kAheadSteps * runs * lines, max_of<int64_t>(1, steps)));
      if (i < n - fetching) return Ahead(first);
      return Ahead(first, runs, lines, stride * size, i - (n - fetching), fetching, steps);
    };
    if (p.b.column == 1) return fetch(k, width, p.b.row);
    if (p.b.row == 1) return fetch(width, k, p.b.column);
    return b.data;
  }

  void multiply_panels(const Target& target, int64_t row_panel, int64_t column_panel, const float* a, const float* b,
                       const Ahead& ahead) const {
    alignas(64) float tile[kTileRows * kTileColumns];
    const int64_t i = row_panel * t.a.rows, j = column_panel * t.b.rows;
    const int64_t tile_rows = min_of(t.a.rows, p.m - i), tile_columns = min_of(t.b.rows, p.n - j);
    const bool last = pass == t.passes - 1;
    // What finish() reads and writes is fetched during the product.
    const auto each_row = [&](const Matrices& of, Floats matrix, const auto& fetch) {
      if (!matrix) return;
      const char* place = (matrix + (i * of.row + j)).data;
      const auto size = static_cast<int64_t>(size_of(matrix.dtype));
      const int64_t row = of.row * size, last_column = (tile_columns - 1) * size;
      for (int64_t r = 0; r < tile_rows; r++, place += row) {
        fetch(place);
        fetch(place + last_column);
      }
    };
    const auto to_read = [](const char* place) { __builtin_prefetch(place, 0, 2); };
    const auto to_write = [](const char* place) { __builtin_prefetch(place, 1, 2); };
    if (last) {
      each_row(p.out, target.out, to_write);
      each_row(p.residual, target.residual, to_read);
      each_row(p.dact, target.dact, to_read);
    } else {
      each_row(p.partial, target.partial, to_write);
    }
    if (pass > 0)
      get({tile, kTileColumns, tile_rows, tile_columns}, target.partial + (i * p.partial.row + j), p.partial.row);
    const int64_t steps = t.chains.words(k), length = t.chains.length / t.chains.elements;
    if (t.chains.word == Word::bf16_pair)
      multiply_tile<Word::bf16_pair>(tile_rows, tile_columns, steps, length, pass > 0, a, t.a.lanes, b, t.b.lanes, tile,
                                     ahead);
    else
      multiply_tile<Word::f32>(tile_rows, tile_columns, steps, length, pass > 0, a, t.a.lanes, b, t.b.lanes, tile,
                               ahead);
    finish(p, target, {tile, kTileColumns, tile_rows, tile_columns}, i, j, pass == 0, last);
  }

  const Problem& p;
  const Tiling& t;
  float *const shared_a, *const shared_b, *const own;

  // The current range: matrices, a pass over K, panels of rows and of columns.
  int64_t matrix, matrices, pass, k, row, rows, column, columns;
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
