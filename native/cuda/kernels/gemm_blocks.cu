// gemm_blocks: out[M, N] = activation(a[M, K] · W + bias) + residual, with W in blocks of a GGUF file (core/blocks.h).
// dequantize_blocks: rows of the file's matrix, one thread for eight numbers. gemm_blocks_backward: dinp[M, K] (+)=
// dout[M, N] · Wᵀ (gemm_decoded.h).
//
// The weight's numbers and the sums are f32 for every dtype of a; nothing is rounded before the epilogue. Up to
// kFewRows rows: a block computes kBlockColumns columns and up to four rows. It copies eight parts of K (kPartDepth) of
// its columns into shared memory; then each thread sums one part of one column, and the parts are added in order. More
// rows: strips of columns become f32, gemm sums them in the same order, so that a row has the same bits among few rows
// and among many, and a last kernel applies the epilogue.
#include "cuda/kernels/activation.h"
#include "cuda/kernels/blocks.h"
#include "cuda/kernels/gemm_decoded.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/checks/blocks.h"
#endif

namespace heed::cuda {

// A number of any float dtype, or nothing if the pointer is null.
struct AnyFloats {
  void* data;
  DType dtype;
};

struct BlockEpilogue {
  AnyFloats out, preact, bias, residual;
  int64_t N;  // columns of out
  Activation activation;
};

struct GemmBlocksParams {
  const uint8_t* blocks;
  AnyFloats a;
  BlockEpilogue end;
  BlockKind kind;
  int64_t M, K, row_bytes;
  int numbers, bytes;  // of a block
  int pitch;           // bytes of shared memory for a column
  int width;           // bytes that can be copied at once
  bool vectors;        // true if rows of a can be read eight elements at a time
};

struct FinishBlocksParams {
  const float* sums;  // [M, columns]
  BlockEpilogue end;
  int64_t M, columns, first;  // the column of out of the first sum
};

struct DequantizeBlocksParams {
  BlockWeight weight;
  void* out;           // [n, K]
  const int32_t* ids;  // or null
  int64_t n;
  FaultSink fault;
};

constexpr int kBlocksThreads = 128, kBlockColumns = 16, kBlockParts = kBlocksThreads / kBlockColumns, kBlockRows = 4;
static_assert(kPartDepth == kBlockDepth, "a part is whole blocks");

#if HEED_DEVICE_CODE

__device__ __forceinline__ float load_any(const AnyFloats& x, int64_t i) {
  if (x.dtype == DType::f32) return static_cast<const float*>(x.data)[i];
  if (x.dtype == DType::bf16) return to_float(static_cast<const bf16*>(x.data)[i]);
  return to_float(static_cast<const f16*>(x.data)[i]);
}
__device__ __forceinline__ void store_any(const AnyFloats& x, int64_t i, float value) {
  if (x.dtype == DType::f32)
    static_cast<float*>(x.data)[i] = value;
  else if (x.dtype == DType::bf16)
    static_cast<bf16*>(x.data)[i] = from_float<bf16>(value);
  else
    static_cast<f16*>(x.data)[i] = from_float<f16>(value);
}

template <class T>
__device__ __forceinline__ void load_eight(const void* from, int64_t at, float (&x)[8]) {
  constexpr int kOnce = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < 8; i += kOnce) {
    const auto some = Vector<T, kOnce>::load(static_cast<const T*>(from) + at + i);
#pragma unroll
    for (int j = 0; j < kOnce; j++) x[i + j] = to_float(some.at[j]);
  }
}

__device__ __forceinline__ void finish_blocks(const BlockEpilogue& end, int64_t row, int64_t n, float sum) {
  const int64_t at = row * end.N + n;
  if (end.bias.data) sum += load_any(end.bias, n);
  if (end.preact.data) store_any(end.preact, at, sum);
  with_activation(end.activation, [&](auto value, auto) { sum = value(sum); });
  if (end.residual.data) sum += load_any(end.residual, at);
  store_any(end.out, at, sum);
}

extern __shared__ __align__(128) unsigned char blocks_shared[];

template <class Word>
__device__ __forceinline__ void copy_blocks(unsigned char* to, const uint8_t* from, int bytes, int lane) {
  for (int i = lane; i < bytes / static_cast<int>(sizeof(Word)); i += kBlockParts)
    reinterpret_cast<Word*>(to)[i] = reinterpret_cast<const Word*>(from)[i];
}

template <int R>
__device__ __forceinline__ void gemm_blocks_parts(const GemmBlocksParams& p) {
  const int part_bytes = kPartDepth / p.numbers * p.bytes;
  const int column = threadIdx.x % kBlockColumns, thread_part = threadIdx.x / kBlockColumns;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kBlockColumns, n = first_column + column;
  const int64_t row = static_cast<int64_t>(blockIdx.y) * R, parts = (p.K + kPartDepth - 1) / kPartDepth;

  __shared__ float sums[kBlockParts][R][kBlockColumns];
  float total = 0;  // of this thread's row and column, if it has one
#pragma unroll 1
  for (int64_t first = 0; first < parts; first += kBlockParts) {
    {
      // Eight neighbouring threads copy a column.
      const int copied = threadIdx.x / kBlockParts, lane = threadIdx.x % kBlockParts;
      const int64_t begin = first * part_bytes;
      const uint8_t* const from = p.blocks + (first_column + copied) * p.row_bytes + begin;
      unsigned char* const to = blocks_shared + copied * p.pitch;
      const int bytes = first_column + copied < p.end.N
                            ? static_cast<int>(min(static_cast<int64_t>(kBlockParts * part_bytes), p.row_bytes - begin))
                            : 0;
      if (p.width == 4)
        copy_blocks<uint32_t>(to, from, bytes, lane);
      else if (p.width == 2)
        copy_blocks<uint16_t>(to, from, bytes, lane);
      else
        copy_blocks<uint8_t>(to, from, bytes, lane);
    }
    __syncthreads();
    const int64_t begin = (first + thread_part) * kPartDepth;
    const int depth = n < p.end.N ? static_cast<int>(max(int64_t{0}, min(int64_t{kPartDepth}, p.K - begin))) : 0;
    const unsigned char* const blocks = blocks_shared + column * p.pitch + thread_part * part_bytes;
    float sum[R] = {};
#pragma unroll 1
    for (int k = 0; k < depth; k += 8) {
      float weight[8];
      decode_eight(p.kind, blocks + k / p.numbers * p.bytes, k % p.numbers, weight);
#pragma unroll
      for (int r = 0; r < R; r++) {
        if (row + r >= p.M) break;
        const int64_t at = (row + r) * p.K + begin + k;
        float x[8];
        if (!p.vectors) {
#pragma unroll
          for (int j = 0; j < 8; j++) x[j] = load_any(p.a, at + j);
        } else if (p.a.dtype == DType::f32) {
          load_eight<float>(p.a.data, at, x);
        } else if (p.a.dtype == DType::bf16) {
          load_eight<bf16>(p.a.data, at, x);
        } else {
          load_eight<f16>(p.a.data, at, x);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) sum[r] = fmaf(x[j], weight[j], sum[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < R; r++) sums[thread_part][r][column] = sum[r];
    __syncthreads();
    if (threadIdx.x < R * kBlockColumns)
      for (int i = 0; i < kBlockParts && first + i < parts; i++) {
        const float more = sums[i][thread_part][column];
        total = first + i == 0 ? more : total + more;
      }
    __syncthreads();
  }
  if (threadIdx.x < R * kBlockColumns && row + thread_part < p.M && n < p.end.N)
    finish_blocks(p.end, row + thread_part, n, total);
}

__device__ __forceinline__ void finish_blocks_sums(const FinishBlocksParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kBlocksThreads + threadIdx.x;
  if (i < p.M * p.columns) finish_blocks(p.end, i / p.columns, p.first + i % p.columns, p.sums[i]);
}

template <class T>
__device__ __forceinline__ void dequantize_blocks_body(const DequantizeBlocksParams& p) {
  const BlockWeight& w = p.weight;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kBlocksThreads + threadIdx.x, eights = w.K / 8;
  if (at >= p.n * eights) return;
  const int64_t i = at / eights, k = at % eights * 8, n = p.ids ? p.ids[i] : i;
  T* const out = static_cast<T*>(p.out) + i * w.K + k;
  float numbers[8] = {};
  if (n >= 0 && n < w.N)
    decode_eight(w.kind, w.blocks + n * w.row_bytes + k / w.numbers * w.bytes, static_cast<int>(k % w.numbers),
                 numbers);
  else if (k == 0)
    report_fault(p.fault, FaultKind::id, n, w.N, i);
#pragma unroll
  for (int j = 0; j < 8; j++) out[j] = from_float<T>(numbers[j]);
}

#endif

HEED_KERNEL(gemm_blocks_row, GemmBlocksParams, kBlocksThreads, 4, gemm_blocks_parts<1>)
HEED_KERNEL(gemm_blocks_rows, GemmBlocksParams, kBlocksThreads, 4, gemm_blocks_parts<kBlockRows>)
HEED_KERNEL(gemm_blocks_finish, FinishBlocksParams, kBlocksThreads, 4, finish_blocks_sums)
HEED_KERNEL_FLOATS(dequantize_blocks, DequantizeBlocksParams, kBlocksThreads, 4, dequantize_blocks_body)

#if !HEED_DEVICE_CODE

namespace {

constexpr const char* kOp = "gemm_blocks";
constexpr int64_t kFewRows = 8;
constexpr int64_t kStripBytes = int64_t{32} << 20;  // bytes of a strip of the weight as floats

// A contiguous matrix in a workspace.
TensorView matrix(void* data, DType dtype, int64_t rows, int64_t columns) {
  TensorView view;
  view.data = data;
  view.dtype = dtype;
  view.rank = 2;
  view.shape[0] = rows, view.shape[1] = view.strides[0] = columns;
  view.strides[1] = 1;
  return view;
}

// Reads the weight's outputs from output `row` on, or those of ids: as many as out [n, K] has.
void read_rows(Stream& stream, const char* op, const TensorView& out, const BlockLayout& layout, In blocks,
               const int32_t* ids, int64_t row) {
  if (out.empty()) return;
  BlockWeight weight = block_weight(layout, blocks);
  weight.blocks += row * weight.row_bytes;
  const int64_t n = out.numel() / weight.K;
  const DequantizeBlocksParams p{weight, out.data, ids, n, stream.fault(op)};
  stream.launch(op, dequantize_blocks(out.dtype), {ceil_div(n * (weight.K / 8), kBlocksThreads)}, p);
}

void multiply_many(Stream& stream, const BlockLayout& weight, In a, In blocks, const BlockEpilogue& end) {
  const int64_t M = a.dim(0), K = weight.K, N = weight.N, bytes = std::max<int64_t>(K, 1) * 4;
  const int64_t strip = std::min(N, std::max<int64_t>(kBlockColumns, kStripBytes / bytes));
  const bool widened = a.dtype != DType::f32;
  const Stream::Workspace columns(stream, kOp, static_cast<size_t>(strip * bytes));
  const Stream::Workspace sums(stream, kOp, static_cast<size_t>(M * strip) * 4);
  const Stream::Workspace inputs(stream, kOp, static_cast<size_t>(widened ? M * K : 0) * 4);
  const TensorView wide = widened ? matrix(inputs.as<void>(), DType::f32, M, K) : a;
  if (widened && K > 0) host::copy(stream, wide, a, false);
  for (int64_t first = 0; first < N; first += strip) {
    const int64_t count = std::min(strip, N - first);
    const TensorView rows = matrix(columns.as<void>(), DType::f32, count, K);
    read_rows(stream, kOp, rows, weight, blocks, nullptr, first);
    TensorView b = rows;
    b.shape[0] = K, b.shape[1] = count, b.strides[0] = 1, b.strides[1] = K;
    host::gemm(stream, matrix(sums.as<void>(), DType::f32, M, count), nullptr, wide, b, nullptr, nullptr, nullptr,
               nullptr, 0, false, false, false, false, false);
    const FinishBlocksParams p{sums.f32(), end, M, count, first};
    stream.launch(kOp, gemm_blocks_finish, {ceil_div(M * count, kBlocksThreads)}, p);
  }
}

}  // namespace

void host::dequantize_blocks(Stream& stream, Out out, OptIn ids, In blocks, Int format) {
  const BlockLayout weight = check_dequantize_blocks(out, ids, blocks, format);
  read_rows(stream, "dequantize_blocks", out, weight, blocks, ids ? ids->i32() : nullptr, 0);
}

void host::gemm_blocks(Stream& stream, Out out, In a, In blocks, OptIn bias, OptIn residual, OptOut preact,
                       Int activation, Int precision, Int format) {
  const BlockLayout weight = check_gemm_blocks(out, a, blocks, bias, residual, preact, activation, precision, format);
  if (out.empty()) return;
  const auto any = [](OptIn x) { return x ? AnyFloats{x->data, x->dtype} : AnyFloats{}; };
  const BlockEpilogue end{any(&out),     any(preact), any(bias),
                          any(residual), weight.N,    static_cast<Activation>(activation)};
  const int64_t M = a.dim(0);
  if (M > kFewRows) return multiply_many(stream, weight, a, blocks, end);
  const auto aligned = [&](int64_t bytes) { return is_aligned(blocks.data, bytes) && weight.row_bytes() % bytes == 0; };
  // Neighbouring columns begin in different banks.
  const int pitch = static_cast<int>((kBlockParts * weight.at(kPartDepth) + 127) / 128 * 128 + 4);
  const GemmBlocksParams p{blocks.ptr<uint8_t>(),
                           any(&a),
                           end,
                           weight.kind,
                           M,
                           weight.K,
                           weight.row_bytes(),
                           static_cast<int>(weight.numbers()),
                           static_cast<int>(weight.bytes()),
                           pitch,
                           aligned(4)   ? 4
                           : aligned(2) ? 2
                                        : 1,
                           is_aligned(a.data)};
  const Grid grid{ceil_div(weight.N, kBlockColumns), M == 1 ? 1 : ceil_div(M, kBlockRows)};
  stream.launch(kOp, M == 1 ? gemm_blocks_row : gemm_blocks_rows, grid, p, static_cast<size_t>(kBlockColumns * pitch));
}

void host::gemm_blocks_backward(Stream& stream, Out dinp, In dout, In blocks, Bool accumulate, Int format) {
  const char* op = "gemm_blocks_backward";
  const BlockLayout weight = check_gemm_blocks_backward(dinp, dout, blocks, format);
  if (dinp.empty()) return;
  multiply_decoded(stream, op, dinp, dout, block_weight(weight, blocks), accumulate);
}

#endif

}  // namespace heed::cuda
