// gemm_blocks: out[M, N] = activation(a[M, K] · W + bias) + residual, with W in blocks of a GGUF file (core/blocks.h).
// dequantize_blocks: rows of the file's matrix. gemm_blocks_backward: dinp[M, K] (+)= dout[M, N] · Wᵀ.
//
// A tile is four columns of the product, which are rows of the file. Steps of 256 numbers of each are decoded into L1
// (blocks.h) and multiplied by the rows of a in f32, one row of a or many. Lanes of a vector are kWidth consecutive k;
// their sums are added at the end. An element is summed by one thread in the order of K whatever rows are beside it, so
// its bits depend neither on them nor on the number of threads.
#include "core/checks/blocks.h"
#include "cpu/isa.h"
#include "cpu/kernels/blocks.h"
#include "cpu/kernels/gemm_quantized.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// The problem; rows of a, out and residual are contiguous.
struct BlockProduct {
  BlockLayout weight;
  int64_t rows;
  const uint8_t* blocks;
  TensorView a, out, bias, residual, preact;  // data is null if an optional one is absent
  Activation activation;
};

constexpr int64_t kColumns = 4;
constexpr int64_t kMostRows = 64;                    // whose sums a task keeps
constexpr int64_t kTileRows = kWidth == 16 ? 4 : 2;  // as many as registers have room for

// sums[r][c] += x[r][k] · weights[c][k] over n values of k, in lanes.
template <int R>
inline void multiply(const float* x, int64_t stride, const float* weights, int64_t n, float* sums) {
  vf sum[R][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) sum[r][c] = load(sums + (r * kColumns + c) * kWidth);
  for (int64_t k = 0; k < n; k += kWidth) {
    vf weight[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) weight[c] = load(weights + c * kBlockDepth + k);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const vf input = load(x + r * stride + k);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; c++) sum[r][c] = fma(input, weight[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; c++) store(sums + (r * kColumns + c) * kWidth, sum[r][c]);
}

// Computes `count` rows from row `first` of x [rows, K] on by the columns of one tile.
inline void multiply_tile(const BlockProduct& p, Decoder decoder, const float* x, int64_t first, int64_t count,
                          int64_t column) {
  const BlockLayout& w = p.weight;
  const int64_t row_bytes = w.row_bytes();
  alignas(64) float weights[kColumns * kBlockDepth];
  alignas(64) float sums[kMostRows * kColumns * kWidth];
  std::memset(sums, 0, static_cast<size_t>(count * kColumns * kWidth) * sizeof(float));
  for (int64_t k = 0; k < w.K; k += kBlockDepth) {
    const int64_t n = min_of<int64_t>(kBlockDepth, w.K - k), begin = w.at(k), bytes = w.at(n);
    for (int64_t c = 0; c < kColumns; c++) {
      // The last tile may have fewer columns; the last of them is then computed again.
      const uint8_t* const from = p.blocks + min_of(column + c, w.N - 1) * row_bytes + begin;
      // The next tile is the next in memory. A row is too short for the machine's own prefetcher.
      for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + kColumns * row_bytes + line, 0, 2);
      decoder(from, n / w.numbers(), weights + c * kBlockDepth);
    }
    const float* const from = x + first * w.K + k;
    int64_t r = 0;
    for (; r + kTileRows <= count; r += kTileRows)
      multiply<kTileRows>(from + r * w.K, w.K, weights, n, sums + r * kColumns * kWidth);
    for (; r < count; r++) multiply<1>(from + r * w.K, w.K, weights, n, sums + r * kColumns * kWidth);
  }
  for (int64_t r = 0; r < count; r++) {
    vf sum{};
    for (int64_t c = 0; c < kColumns; c++) sum[c] = hsum(load(sums + (r * kColumns + c) * kWidth));
    finish(p, first + r, column, sum, kColumns);
  }
}

// Divides the product into blocks of rows, which stay in L2 while a task's columns pass, and runs of columns.
inline void multiply_blocks(const BlockProduct& p, const float* x) {
  constexpr int64_t kRowsBytes = 512 << 10, kTaskBytes = 32 << 10;
  const BlockLayout& w = p.weight;
  const int64_t row = max_of<int64_t>(w.K * 4, 1);
  const int64_t rows = min_of(kMostRows, max_of<int64_t>(kTileRows, kRowsBytes / row / kTileRows * kTileRows));
  const int64_t tiles = ceil_div(w.N, kColumns);
  const int64_t together = max_of<int64_t>(1, kTaskBytes / max_of<int64_t>(kColumns * w.row_bytes(), 1));
  const int64_t runs = ceil_div(tiles, together);
  const Decoder decoder = decoder_of(w.kind);
  parallel_for(ceil_div(p.rows, rows) * runs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t first = task / runs * rows, tile = task % runs * together;
      for (int64_t i = tile; i < min_of(tile + together, tiles); i++)
        multiply_tile(p, decoder, x, first, min_of(rows, p.rows - first), i * kColumns);
    }
  });
}

inline void widen_rows(const TensorView& a, float* to) {
  parallel_for(a.numel(), 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kWidth) store_some(to + i, load_floats(a, i, end - i), end - i);
  });
}

// Rows of a file's matrix, or the numbers of them from `first` on, in the dtype of out [n, depth].
struct BlockRows {
  BlockLayout weight;
  const uint8_t* blocks;
  const int32_t* ids;  // the rows to read, or null for all
  int64_t n, first, depth;
  TensorView out;
};

inline void read_rows(const BlockRows& p) {
  const BlockLayout& w = p.weight;
  if (p.ids)
    for (int64_t i = 0; i < p.n; i++)
      if (p.ids[i] < 0 || p.ids[i] >= w.N)
        fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(w.N), p.ids[i],
             static_cast<long long>(i));
  const Decoder decoder = decoder_of(w.kind);
  parallel_for(p.n, max_of<int64_t>(1, 4096 / max_of<int64_t>(p.depth, 1)), [&](int64_t begin, int64_t end) {
    alignas(64) float numbers[kBlockDepth];
    for (int64_t i = begin; i < end; i++) {
      const uint8_t* const row = p.blocks + (p.ids ? p.ids[i] : i) * w.row_bytes();
      for (int64_t k = 0; k < p.depth; k += kBlockDepth) {
        const int64_t n = min_of<int64_t>(kBlockDepth, p.depth - k);
        decoder(row + w.at(p.first + k), n / w.numbers(), numbers);
        for (int64_t j = 0; j < n; j += kWidth) store_floats(p.out, i * p.depth + k + j, load(numbers + j), n - j);
      }
    }
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::dequantize_blocks(Stream& stream, Out out, OptIn ids, In blocks, Int format) {
  const BlockLayout weight = check_dequantize_blocks(out, ids, blocks, format);
  const int64_t n = ids ? ids->numel() : weight.N;
  const BlockRows p{weight, blocks.ptr<uint8_t>(), ids ? ids->i32() : nullptr, n, 0, weight.K, out};
  stream.launch("dequantize_blocks", [p] { read_rows(p); });
}

void HEED_ISA::gemm_blocks(Stream& stream, Out out, In a, In blocks, OptIn bias, OptIn residual, OptOut preact,
                           Int activation, Int format) {
  const char* op = "gemm_blocks";
  const BlockLayout weight = check_gemm_blocks(out, a, blocks, bias, residual, preact, activation, format);
  if (out.empty()) return;
  const BlockProduct p{weight,
                       a.dim(0),
                       blocks.ptr<uint8_t>(),
                       a,
                       out,
                       bias ? *bias : TensorView{},
                       residual ? *residual : TensorView{},
                       preact ? *preact : TensorView{},
                       static_cast<Activation>(activation)};
  if (a.dtype == DType::f32) return stream.launch(op, [p] { multiply_blocks(p, p.a.f32()); });
  const Stream::Workspace memory(stream, op, static_cast<size_t>(a.numel()) * sizeof(float));
  stream.launch(op, [p, rows = memory.f32()] {
    widen_rows(p.a, rows);
    multiply_blocks(p, rows);
  });
}

void HEED_ISA::gemm_blocks_backward(Stream& stream, Out dinp, In dout, In blocks, Bool accumulate, Int format) {
  const char* op = "gemm_blocks_backward";
  constexpr int64_t kStripBytes = int64_t{32} << 20;
  const BlockLayout weight = check_gemm_blocks_backward(dinp, dout, blocks, format);
  if (dinp.empty()) return;
  const int64_t K = weight.K, N = weight.N, element = static_cast<int64_t>(size_of(dout.dtype));
  const int64_t bytes = max_of<int64_t>(N, 1) * element;
  const int64_t strip = min_of(K, max_of<int64_t>(1, kStripBytes / bytes / kBlockDepth) * kBlockDepth);
  const Stream::Workspace memory(stream, op, static_cast<size_t>(strip * bytes));
  // Strips of the weight's inputs become a matrix [N, inputs], which gemm multiplies.
  for (int64_t first = 0; first < K; first += strip) {
    const int64_t inputs = min_of(strip, K - first);
    TensorView rows;
    rows.data = memory.data();
    rows.dtype = dout.dtype;
    rows.rank = 2;
    rows.shape[0] = N, rows.shape[1] = rows.strides[0] = inputs;
    rows.strides[1] = 1;
    const BlockRows p{weight, blocks.ptr<uint8_t>(), nullptr, N, first, inputs, rows};
    stream.launch(op, [p] { read_rows(p); });
    TensorView part = dinp;
    part.shape[1] = inputs;
    part.data = dinp.ptr<uint8_t>() + first * static_cast<int64_t>(size_of(dinp.dtype));
    gemm(stream, part, nullptr, dout, rows, nullptr, nullptr, nullptr, nullptr, 0, false, accumulate, false);
  }
}

}  // namespace heed::cpu
