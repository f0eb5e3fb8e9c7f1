// Definitions that both forms of the product with a weight in blocks share: the problem, its division into tasks, and
// one element computed alone.
#pragma once
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/claims.h"
#include "cpu/kernels/gemm_quantized.h"

namespace heed::cpu::HEED_ISA {
namespace {

// The problem; rows of a, out and residual are contiguous.
struct BlockProduct {
  BlockLayout weight;
  int64_t row_bytes;  // of a column of the product, which is a row of the file
  int64_t rows;
  const uint8_t* blocks;
  TensorView a, out, bias, residual, preact;  // data is null if an optional one is absent
  Activation activation;
};

// Returns the blocks of a column. The last tile may have fewer columns; the last of them is then computed again.
inline const uint8_t* column_at(const BlockProduct& p, int64_t column) {
  return p.blocks + min_of(column, p.weight.N - 1) * p.row_bytes;
}

// Prefetches bytes of a later tile: a row is too short for the machine's own prefetcher.
inline void prefetch(const uint8_t* next, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
}

// Calls body(first row, rows, column, ahead) for the tiles of columns and for blocks of rows, which are a multiple of
// `tile_rows` rows of `row_bytes`, at most `most_rows`, and stay in L2 while a task's columns pass. A task has a run of
// tiles. `ahead` is how far a tile that the thread has later lies from this one, or 0 at the end: kAheadBytes further
// on, since a short tile takes less time than memory does.
template <class Body>
inline void over_runs(const BlockProduct& p, int64_t tile_columns, int64_t tile_rows, int64_t most_rows,
                      int64_t row_bytes, const Body& body) {
  constexpr int64_t kRowsBytes = 768 << 10, kTaskBytes = 32 << 10, kAheadBytes = 8 << 10;
  constexpr int64_t kTurnBytes = 4 << 20;  // times rows, which a thread does without a break
  const BlockLayout& w = p.weight;
  const int64_t fit = kRowsBytes / max_of<int64_t>(row_bytes, 1) / tile_rows * tile_rows;
  const int64_t rows = min_of(most_rows, max_of(tile_rows, fit));
  const int64_t tiles = ceil_div(w.N, tile_columns);
  const int64_t tile_bytes = max_of<int64_t>(1, tile_columns * p.row_bytes);
  const int64_t together = max_of<int64_t>(1, kTaskBytes / tile_bytes);
  const int64_t distance = min_of(together, ceil_div(kAheadBytes, tile_bytes));
  const int64_t runs = ceil_div(tiles, together), tasks = ceil_div(p.rows, rows) * runs;
  const int64_t most = max_of<int64_t>(1, kTurnBytes / (together * tile_bytes * min_of(rows, p.rows)));
  parallel_ahead(tasks, most, [&](int64_t task, int64_t next) {
    const int64_t first = task / runs * rows, run = task % runs * together, run_end = min_of(run + together, tiles);
    for (int64_t i = run; i < run_end; i++) {
      int64_t later = i + distance;
      if (later >= run_end) later = next < tasks ? next % runs * together + later - run_end : i;
      body(first, min_of(rows, p.rows - first), i * tile_columns, (later - i) * tile_bytes);
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
