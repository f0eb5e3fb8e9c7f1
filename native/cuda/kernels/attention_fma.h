// Tiles of attention with ordinary f32 arithmetic: for exact f32, and for the 16-bit types if heads are too large for
// tensor cores. A block of 256 threads computes 64 query rows against 64 keys and goes over the head size in chunks of
// 32 columns, so that it is not limited. A thread has 4 rows and 4 keys of the scores, and 4 rows and kOut / 16 columns
// of a result: with tx = thread % 16 and ty = thread / 16, rows 4·ty + i, keys tx + 16·j, columns 4·tx + 64·(j / 4) + j
// % 4. No other warp touches a warp's rows, 8·warp to 8·warp + 7.
//
// Rows of chunks are 36 floats apart and rows of probabilities 68 floats. Then the vectors of 4 that a quarter of a
// warp reads from different rows fall into different banks.
#pragma once
#include <type_traits>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/cp_async.h"

namespace heed::cuda {

constexpr int kFmaThreads = 256, kFmaTile = 64;
constexpr int kFewColumns = 64,
              kManyColumns = 128;  // columns of a result that a block computes: for f32 heads up to 64, and otherwise
constexpr int kChunk = 32, kChunkStride = 36, kProbStride = 68;
constexpr int kChunkFloats = kFmaTile * kChunkStride;

#if HEED_DEVICE_CODE

extern __shared__ __align__(128) unsigned char attention_shared[];

using Float4 = Vector<float, 4>;

// tile[r][0, kColumns) = columns first… of row(r) for r < count, as f32, and zeros elsewhere. The copy is asynchronous
// if possible. Params has the number of columns, D, and says whether rows are aligned.
template <class T, int kColumns, int kStride, class Params, class Row>
__device__ __forceinline__ void load_tile_rows(float* tile, int count, int first, const Params& p, const Row& row) {
  constexpr int kParts = kColumns / 4;
#pragma unroll 2
  for (int i = threadIdx.x; i < kFmaTile * kParts; i += kFmaThreads) {
    const int r = i / kParts, c = i % kParts * 4;
    const int elements = r < count ? max(0, min(4, p.D - first - c)) : 0;
    float* to = tile + r * kStride + c;
    if constexpr (std::is_same_v<T, float>)
      if (p.aligned) {
        cp_async<16>(to, elements > 0 ? row(r) + first + c : nullptr, elements * 4);
        continue;
      }
    const T* from = row(r) + first + c;
    Vector<T, 4> part;
    if (p.aligned && elements == 4) {
      part = Vector<T, 4>::load(from);
    } else {
#pragma unroll
      for (int e = 0; e < 4; e++) part.at[e] = e < elements ? from[e] : from_float<T>(0);
    }
    Float4{{to_float(part.at[0]), to_float(part.at[1]), to_float(part.at[2]), to_float(part.at[3])}}.store(to);
  }
}

// The same for keys or values that are codes, which become numbers rounded to T.
template <class T, int kColumns, int kStride, class Row>
__device__ __forceinline__ void load_code_rows(float* tile, int count, int first, const AttentionParams& p,
                                               const Row& row) {
  constexpr int kParts = kColumns / 4;
#pragma unroll 2
  for (int i = threadIdx.x; i < kFmaTile * kParts; i += kFmaThreads) {
    const int r = i / kParts, c = i % kParts * 4;
    const int elements = r < count ? max(0, min(4, p.D - first - c)) : 0;
    const CodedRow from = row(r);
    const uint8_t* const codes = from.codes + first + c;
    uint32_t word = 0;
    if (p.scales.aligned && elements == 4) {
      word = *reinterpret_cast<const uint32_t*>(codes);
    } else {
#pragma unroll
      for (int e = 0; e < 4; e++)
        if (e < elements) word |= static_cast<uint32_t>(codes[e]) << (8 * e);
    }
    float x[4];
    decode_codes(word, *from.scale, x);
#pragma unroll
    for (int e = 0; e < 4; e++) x[e] = to_float(from_float<T>(x[e]));
    Float4{{x[0], x[1], x[2], x[3]}}.store(tile + r * kStride + c);
  }
}

// scores[rows, keys] += a[rows, chunk] · b[keys, chunk]^T over the first `columns` of the chunk.
template <int kStride = kChunkStride>
__device__ __forceinline__ void multiply_chunk(float (&scores)[4][4], const float* a, const float* b, int columns) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 2
  for (int d = 0; d < columns; d += 4) {
    Float4 left[4], right[4];
#pragma unroll
    for (int i = 0; i < 4; i++) left[i] = Float4::load(a + (ty * 4 + i) * kStride + d);
#pragma unroll
    for (int j = 0; j < 4; j++) right[j] = Float4::load(b + (tx + 16 * j) * kStride + d);
#pragma unroll
    for (int e = 0; e < 4; e++)
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) scores[i][j] = fmaf(left[i].at[e], right[j].at[e], scores[i][j]);
  }
}

// Stores to shared memory, where multiply_tile and multiply_transposed read the probabilities.
__device__ __forceinline__ void store_probs(float* tile, const float (&probs)[4][4]) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) tile[(ty * 4 + i) * kProbStride + tx + 16 * j] = probs[i][j];
}

// out[rows, kOut] += probs[rows, keys] · b[keys, kOut] over the first `keys` keys.
template <int kOut>
__device__ __forceinline__ void multiply_tile(float (&out)[4][kOut / 16], const float* probs, const float* b,
                                              int keys) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 1
  for (int key = 0; key < keys; key += 4) {
    Float4 left[4];
#pragma unroll
    for (int i = 0; i < 4; i++) left[i] = Float4::load(probs + (ty * 4 + i) * kProbStride + key);
#pragma unroll
    for (int e = 0; e < 4; e++)
#pragma unroll
      for (int c = 0; c < kOut / 64; c++) {
        const Float4 right = Float4::load(b + (key + e) * kOut + c * 64 + tx * 4);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
          for (int j = 0; j < 4; j++) out[i][c * 4 + j] = fmaf(left[i].at[e], right.at[j], out[i][c * 4 + j]);
      }
  }
}

// out[keys, kOut] += probs[rows, keys]^T · b[rows, kOut] over the first `rows` rows; the thread has keys 4·ty + i.
template <int kOut>
__device__ __forceinline__ void multiply_transposed(float (&out)[4][kOut / 16], const float* probs, const float* b,
                                                    int rows) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 2
  for (int r = 0; r < rows; r++) {
    const Float4 left = Float4::load(probs + r * kProbStride + ty * 4);
#pragma unroll
    for (int c = 0; c < kOut / 64; c++) {
      const Float4 right = Float4::load(b + r * kOut + c * 64 + tx * 4);
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) out[i][c * 4 + j] = fmaf(left.at[i], right.at[j], out[i][c * 4 + j]);
    }
  }
}

// out[first + column] = values[column] · factor for those columns of the thread that are less than D.
template <class T, int kOut>
__device__ __forceinline__ void store_columns(T* out, const float (&values)[kOut / 16], float factor, int first, int D,
                                              bool aligned) {
#pragma unroll
  for (int c = 0; c < kOut / 64; c++) {
    const int column = first + c * 64 + threadIdx.x % 16 * 4, elements = D - column;
    Vector<T, 4> part;
#pragma unroll
    for (int j = 0; j < 4; j++) part.at[j] = from_float<T>(values[c * 4 + j] * factor);
    if (aligned && elements >= 4) {
      part.store(out + column);
    } else {
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (j < elements) out[column + j] = part.at[j];
    }
  }
}

// Turns a row's products q · k with keys 16 apart into scores in powers of two. The row's position is `distance` beyond
// the first key. `derivatives` receives those of the softcap.
__device__ __forceinline__ void finish_exact_scores(const AttentionParams& p, int head, int64_t distance,
                                                    float (&scores)[4], float (&derivatives)[4]) {
  const float slope = slope_log2(p, head), first = static_cast<float>(distance);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    float& score = scores[j];
    derivatives[j] = 1;
    if (p.cap_log2 != 0) {
      const float x = tanhf(score * p.cap_scale);
      score = p.cap_log2 * x;
      derivatives[j] = 1 - x * x;
    } else {
      score *= p.scale_log2;
    }
    if (p.slopes) score = fmaf(-slope, fabsf(first - static_cast<float>(16 * j)), score);
    if (p.relative.table) RelativeBiases(p, head, distance).add(score, 16 * j);
  }
}

// These return the sum and the maximum over the 16 threads that share rows.
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int offset = 8; offset > 0; offset /= 2) x += __shfl_xor_sync(kFullWarp, x, offset);
  return x;
}
__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int offset = 8; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
  return x;
}

// The warp draws dropout's mask for its 8 rows against 64 keys: two words per row.
__device__ __forceinline__ void draw_kept(uint32_t (&kept)[kFmaTile][2], const AttentionParams& p,
                                          const GroupRows& rows, int64_t b, int count, int key) {
  const int lane = threadIdx.x % 32, r = threadIdx.x / 32 * 8 + lane / 2 % 8, word = lane % 2;
  __syncwarp();  // the last tile's mask is no longer read
  if (lane < 16) kept[r][word] = r < count ? kept_keys(p, rows.index(p, b, r), key + word * 32) : 0;
  __syncwarp();
}
__device__ __forceinline__ bool is_kept(const uint32_t (&kept)[kFmaTile][2], int i, int j) {
  const int key = threadIdx.x % 16 + 16 * j;
  return kept[threadIdx.x / 16 * 4 + i][key / 32] >> (key % 32) & 1;
}

#endif

}  // namespace heed::cuda
