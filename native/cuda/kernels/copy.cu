// out[...] = inp[...], or += for float outputs, with any strides on both sides (0 in inp broadcasts) and any pair of
// dtypes, converted as convert.h describes. Sums are rounded once.
//
// With the same dtype on both sides the kernel moves bits; if both sides are contiguous it is one memory copy. If out
// and inp run along different dimensions (a transpose), tiles of 32 x 32 elements (64 x 64 for 8- and 16-bit elements)
// are read along inp's rows and written along out's through shared memory, so that both sides move whole 32-byte
// sectors. Rows of the tile are an odd number of 4-byte words long, so that reading a column touches every bank once.
#include <algorithm>
#include <type_traits>

#include "core/checks/elementwise.h"
#include "cuda/kernels/convert.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

// The `elements` of a transposing copy run over the remaining dimensions, with one element per matrix. A matrix has
// `along` elements down a row of out and `across` down a row of inp. Tiles are numbered along first.
struct CopyParams {
  Elements<2> elements;
  void* out;
  const void* inp;
  int32_t accumulate, transpose;
  uint32_t along, across, along_tiles, across_tiles;
  uint32_t out_across, inp_along;  // strides
};

#if HEED_DEVICE_CODE

template <class To, class From>
__device__ __forceinline__ To add(To sum, From x) {
  if constexpr (std::is_integral_v<To>)
    return sum;  // not reached: the host function refuses it
  else
    return from_float<To>(to_float(sum) + to_float(x));
}

template <class To, class From>
__device__ void transpose_tile(const CopyParams& p) {
  constexpr int kTile = sizeof(From) == 4 ? 32 : 64;
  __shared__ From tile[kTile][kTile + 4 / sizeof(From)];
  const uint32_t per_matrix = p.along_tiles * p.across_tiles, matrix = blockIdx.x / per_matrix;
  const uint32_t within = blockIdx.x % per_matrix;
  const uint32_t a0 = within % p.along_tiles * kTile, c0 = within / p.along_tiles * kTile;
  uint32_t offset[2];
  locate(p.elements, matrix, offset);
  const From* inp = static_cast<const From*>(p.inp) + offset[1];
  To* out = static_cast<To*>(p.out) + offset[0];
  constexpr int kRows = kElementThreads / kTile;
  const uint32_t x = threadIdx.x % kTile, y = threadIdx.x / kTile;
#pragma unroll 4
  for (uint32_t k = y; k < kTile; k += kRows)
    if (a0 + k < p.along && c0 + x < p.across) tile[k][x] = inp[(a0 + k) * p.inp_along + c0 + x];
  __syncthreads();
#pragma unroll 4
  for (uint32_t k = y; k < kTile; k += kRows) {
    if (a0 + x >= p.along || c0 + k >= p.across) continue;
    To& to = out[(c0 + k) * p.out_across + a0 + x];
    const From value = tile[x][k];
    to = p.accumulate ? add(to, value) : convert<To>(value);
  }
}

template <class To, class From, int L>
__device__ __forceinline__ void copy_lanes(const CopyParams& p, const Lanes<2, L>& at) {
  const Vector<From, L> x = load_lanes<1, From>(p.elements, at, p.inp);
  Vector<To, L> y;
  if (p.accumulate) {
    y = load_lanes<0, To>(p.elements, at, p.out);
#pragma unroll
    for (int k = 0; k < L; k++) y.at[k] = add(y.at[k], x.at[k]);
  } else {
#pragma unroll
    for (int k = 0; k < L; k++) y.at[k] = convert<To>(x.at[k]);
  }
  store_lanes<0>(at, p.out, y);
}

template <class To, class From>
__device__ void copy_body(const CopyParams& p) {
  if (p.transpose) return transpose_tile<To, From>(p);
  constexpr int V = 16 / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From)), kSingles = 4;
  const Elements<2>& e = p.elements;
  const uint32_t block = blockIdx.x * kElementThreads * V, first = block + threadIdx.x * V;
  if (e.vector && first + V <= e.size) return copy_lanes<To, From>(p, vector_lanes<V>(e, first));
  const uint32_t start = e.vector ? first : block + threadIdx.x, step = e.vector ? 1 : kElementThreads;
#pragma unroll 1
  for (int k = 0; k < V; k += kSingles) copy_lanes<To, From>(p, single_lanes<kSingles>(e, start + k * step, step));
}

#endif

#define COPY(to, To, from, From) HEED_KERNEL(copy_##to##_##from, CopyParams, kElementThreads, 1, copy_body<To, From>)
COPY(b4, uint32_t, b4, uint32_t)
COPY(b2, uint16_t, b2, uint16_t)
COPY(b1, uint8_t, b1, uint8_t)
COPY(f32, float, f32, float)  // accumulating; the same for bf16 and f16
COPY(f32, float, bf16, bf16)
COPY(f32, float, f16, f16)
COPY(f32, float, i32, int32_t)
COPY(f32, float, u8, uint8_t)
COPY(bf16, bf16, f32, float)
COPY(bf16, bf16, bf16, bf16)
COPY(bf16, bf16, f16, f16)
COPY(bf16, bf16, i32, int32_t)
COPY(bf16, bf16, u8, uint8_t)
COPY(f16, f16, f32, float)
COPY(f16, f16, bf16, bf16)
COPY(f16, f16, f16, f16)
COPY(f16, f16, i32, int32_t)
COPY(f16, f16, u8, uint8_t)
COPY(i32, int32_t, f32, float)
COPY(i32, int32_t, bf16, bf16)
COPY(i32, int32_t, f16, f16)
COPY(i32, int32_t, u8, uint8_t)
COPY(u8, uint8_t, f32, float)
COPY(u8, uint8_t, bf16, bf16)
COPY(u8, uint8_t, f16, f16)
COPY(u8, uint8_t, i32, int32_t)
#undef COPY

#if !HEED_DEVICE_CODE

namespace {

Kernel<CopyParams>& kernel_for(DType to, DType from, bool accumulate) {
  if (to == from && !accumulate) return size_of(to) == 4 ? copy_b4_b4 : size_of(to) == 2 ? copy_b2_b2 : copy_b1_b1;
  // Indexed by the numbers of DType. Integers of one dtype are moved as bits and never added.
  Kernel<CopyParams>* const kernels[kDTypeCount][kDTypeCount] = {
      {&copy_f32_f32, &copy_f32_bf16, &copy_f32_f16, &copy_f32_i32, &copy_f32_u8},
      {&copy_bf16_f32, &copy_bf16_bf16, &copy_bf16_f16, &copy_bf16_i32, &copy_bf16_u8},
      {&copy_f16_f32, &copy_f16_bf16, &copy_f16_f16, &copy_f16_i32, &copy_f16_u8},
      {&copy_i32_f32, &copy_i32_bf16, &copy_i32_f16, &copy_b4_b4, &copy_i32_u8},
      {&copy_u8_f32, &copy_u8_bf16, &copy_u8_f16, &copy_u8_i32, &copy_b1_b1},
  };
  return *kernels[static_cast<int>(to)][static_cast<int>(from)];
}

// Returns the dimension along which inp is contiguous while out's rows are not, or -1 if tiles would gain nothing.
int transposed_dimension(const Loop<2>& loop) {
  if (loop.stride(0) != 1 || loop.stride(1) <= 1 || loop.row() < 8) return -1;
  for (int d = 0; d < loop.rank - 1; d++)
    if (loop.strides[1][d] == 1 && loop.shape[d] >= 8) return d;
  return -1;
}

// Takes the rows of out and those of inp (dimension d) out of the loop, and returns the number of tiles.
int64_t make_tiles(CopyParams& p, const Loop<2>& loop, int d, int64_t tile) {
  const int inner = loop.rank - 1;
  Loop<2> matrices;
  for (int k = 0; k < inner; k++) {
    if (k == d) continue;
    const int to = matrices.rank++;
    matrices.size *= matrices.shape[to] = loop.shape[k];
    for (int i = 0; i < 2; i++) matrices.strides[i][to] = loop.strides[i][k];
  }
  p.elements = elements_of(matrices);
  p.transpose = 1;
  p.along = static_cast<uint32_t>(loop.shape[inner]);
  p.across = static_cast<uint32_t>(loop.shape[d]);
  p.along_tiles = static_cast<uint32_t>(ceil_div(p.along, tile));
  p.across_tiles = static_cast<uint32_t>(ceil_div(p.across, tile));
  p.out_across = static_cast<uint32_t>(loop.strides[0][d]);
  p.inp_along = static_cast<uint32_t>(loop.strides[1][inner]);
  return matrices.size * p.along_tiles * p.across_tiles;
}

}  // namespace

void host::copy(Stream& stream, Out out, In inp, Bool accumulate) {
  const char* op = "copy";
  check_copy(out, inp, accumulate);
  if (out.empty()) return;
  if (!accumulate && out.dtype == inp.dtype && out.contiguous() && inp.contiguous())
    return stream.copy(op, out.data, inp.data, static_cast<size_t>(out.numel()) * size_of(out.dtype));
  Kernel<CopyParams>& kernel = kernel_for(out.dtype, inp.dtype, accumulate);
  const int V = std::min(vector_width(out.dtype), vector_width(inp.dtype));
  for_pieces(make_loop<2>({&out, &inp}), [&](const Loop<2>& piece) {
    CopyParams p{};
    p.out = element_at(out, piece.offset[0]);
    p.inp = element_at(inp, piece.offset[1]);
    p.accumulate = accumulate;
    const int d = transposed_dimension(piece);
    int64_t blocks;
    if (d >= 0) {
      blocks = make_tiles(p, piece, d, size_of(inp.dtype) == 4 ? 32 : 64);
    } else {
      p.elements = elements_of(piece);
      p.elements.vector = fits_vectors<2>(piece, {p.out, p.inp}, {out.dtype, inp.dtype}, V);
      blocks = ceil_div(piece.size, int64_t{kElementThreads} * V);
    }
    stream.launch(op, kernel, {blocks}, p);
  });
}

#endif

}  // namespace heed::cuda
