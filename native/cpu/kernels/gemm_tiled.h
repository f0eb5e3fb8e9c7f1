// The matrix product of many rows: packed panels, a register-blocked micro-kernel and cache blocking (Goto & van de
// Geijn 2008; Van Zee & van de Geijn 2015).
//
// Both operands are packed once a pass over K: A into panels of kRows, B into panels of kColumns. The micro-kernel
// keeps a kRows × kColumns tile of sums in registers; a task multiplies a block of A panels that stays in L2 by some B
// panels. Tasks are the grid of blocks over rows, columns and batch, so awkward shapes still balance. Blocks do not
// depend on the number of threads, and every element is summed over k in order: the bits do not change with it.
#pragma once
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/gemm_pack.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Accumulators fill the registers: 28 of 32 with AVX-512, 12 of 16 without; the rest hold B and a broadcast of A.
#if defined(__AVX512F__)
constexpr int kRows = 14;
#else
constexpr int kRows = 6;
#endif
constexpr int kColumns = 2 * kWidth;

// tile[kRows][kColumns] = Σ_p a[p][·] b[p][·]; `vectors` of the two are computed.
template <int vectors>
inline void micro_kernel(int64_t k, const float* a, const float* b, float* tile) {
  vf sum[kRows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[i][v] = vf{};
  for (int64_t p = 0; p < k; p++, a += kRows, b += kColumns) {
    vf column[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) column[v] = load(b + v * kWidth);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; i++) {
      const vf x = set1(a[i]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[i][v] = fma(x, column[v], sum[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) store(tile + i * kColumns + v * kWidth, sum[i][v]);
}

// How a problem is cut; made in the host function, which takes the workspace for it.
struct Tiling {
  int64_t row_panels, column_panels;
  int64_t depth;        // k of one pass
  int64_t passes;       // over K
  int64_t group;        // matrices of the batch that are packed together
  int64_t width;        // B panels that are packed together
  int64_t block_rows;   // A panels of a task
  int64_t block_width;  // B panels of a task

  explicit Tiling(const Problem& p) {
    constexpr int64_t kDepth = 512, kPackedBytes = int64_t{16} << 20;
    row_panels = ceil_div(p.m, kRows);
    column_panels = ceil_div(p.n, kColumns);
    // An epilogue that adds to the old output needs it untouched by partial sums: then K is one pass.
    const bool one_pass = p.accumulate && !p.plain();
    passes = one_pass ? 1 : max_of<int64_t>(1, ceil_div(p.k, kDepth));
    depth = ceil_div(p.k, passes);
    block_rows = min_of<int64_t>(row_panels, max_of<int64_t>(1, 168 / kRows));
    block_width = min_of<int64_t>(column_panels, max_of<int64_t>(1, 256 / kColumns));
    const int64_t panel_bytes = max_of<int64_t>(1, depth * kColumns * 4);
    width = min_of(column_panels, max_of<int64_t>(block_width, kPackedBytes / panel_bytes));
    const int64_t matrix_bytes = max_of<int64_t>(1, (row_panels * kRows + width * kColumns) * depth * 4);
    group = min_of(p.batch, max_of<int64_t>(1, 2 * kPackedBytes / matrix_bytes));
    // Small problems: smaller blocks, so that there is work for several threads.
    while (group * ceil_div(row_panels, block_rows) * ceil_div(width, block_width) < 16 &&
           (block_rows > 2 || block_width > 1)) {
      if (block_rows * kRows >= block_width * kColumns && block_rows > 2)
        block_rows = ceil_div(block_rows, 2);
      else if (block_width > 1)
        block_width = ceil_div(block_width, 2);
      else
        break;
    }
  }

  // Floats of packed A and B.
  int64_t a_panel() const { return depth * kRows; }
  int64_t b_panel() const { return depth * kColumns; }
  int64_t a_size() const { return group * row_panels * a_panel(); }
  int64_t b_size() const { return group * width * b_panel(); }
};

inline void multiply_tiled(const Problem& p, const Tiling& t, float* packed_a, float* packed_b) {
  const int64_t row_blocks = ceil_div(t.row_panels, t.block_rows);
  for (int64_t first_matrix = 0; first_matrix < p.batch; first_matrix += t.group) {
    const int64_t matrices = min_of(t.group, p.batch - first_matrix);
    for (int64_t pass = 0; pass < t.passes; pass++) {
      const int64_t k0 = pass * t.depth, k = min_of(t.depth, p.k - k0);
      parallel_for(matrices * t.row_panels, 4, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const int64_t row = i % t.row_panels * kRows;
          const float* from = p.a.at(first_matrix + i / t.row_panels) + row * p.a.row + k0 * p.a.column;
          pack_panel<kRows>(packed_a + i * t.a_panel(), from, min_of<int64_t>(kRows, p.m - row), k, p.a.row, p.a.column);
        }
      });
      for (int64_t first_panel = 0; first_panel < t.column_panels; first_panel += t.width) {
        const int64_t panels = min_of(t.width, t.column_panels - first_panel);
        parallel_for(matrices * panels, 2, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i++) {
            const int64_t column = (first_panel + i % panels) * kColumns;
            const float* from = p.b.at(first_matrix + i / panels) + column * p.b.column + k0 * p.b.row;
            pack_panel<kColumns>(packed_b + i * t.b_panel(), from, min_of<int64_t>(kColumns, p.n - column), k,
                                 p.b.column, p.b.row);
          }
        });
        const int64_t column_blocks = ceil_div(panels, t.block_width);
        parallel_for(matrices * row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
          alignas(64) float tile[kRows * kColumns];
          for (int64_t task = begin; task < end; task++) {
            const int64_t matrix = task / (row_blocks * column_blocks);
            const int64_t row_block = task / column_blocks % row_blocks, column_block = task % column_blocks;
            const int64_t last_row = min_of((row_block + 1) * t.block_rows, t.row_panels);
            const int64_t last_column = min_of((column_block + 1) * t.block_width, panels);
            for (int64_t jp = column_block * t.block_width; jp < last_column; jp++) {
              const float* b = packed_b + (matrix * panels + jp) * t.b_panel();
              const int64_t j = (first_panel + jp) * kColumns, columns = min_of<int64_t>(kColumns, p.n - j);
              for (int64_t ip = row_block * t.block_rows; ip < last_row; ip++) {
                const float* a = packed_a + (matrix * t.row_panels + ip) * t.a_panel();
                const int64_t i = ip * kRows, rows = min_of<int64_t>(kRows, p.m - i);
                if (columns > kWidth)
                  micro_kernel<2>(k, a, b, tile);
                else
                  micro_kernel<1>(k, a, b, tile);
                finish(p, tile, kColumns, first_matrix + matrix, i, j, rows, columns, pass == 0, pass == t.passes - 1);
              }
            }
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
