// attention_backward's dk and dv on tensor cores (attention_gradients.h). A block has 4 warps of 16 keys; the rows that
// see them pass by in tiles. S^T = k q^T and dP^T = v dout^T stay in registers and, as P^T and dS^T = P^T ∘ (dP^T -
// delta), rounded to T, are the first operands of dv += P^T dout and dk += dS^T q. A block makes kOut columns of dk and
// dv (blockIdx.y tells which): beyond 128 they would not fit into registers, and two blocks take the scores.
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_mma.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

template <class T, int kD, int kOut, int kRows, int kStages>
__device__ void attention_backward_keys_mma(const AttentionBackwardParams& p) {
  constexpr int kKeys = 64, kN = kRows / 8;
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp_key = threadIdx.x / 32 * 16;
  T* k = reinterpret_cast<T*>(attention_shared);
  T* v = k + kKeys * kD;
  T* queries = v + kKeys * kD;  // kStages tiles of q, each followed by one of dout
  __shared__ __align__(8) float lse[kStages][kRows], delta[kStages][kRows];
  __shared__ __align__(8) int row_end[kStages][kRows];
  __shared__ uint32_t kept[kStages][kRows][kKeys / 32];

  const BackwardItem item(p);
  const VisibleKeys visible(a, item.b);
  const int first_key = static_cast<int>(item.block) * kKeys, first_column = static_cast<int>(blockIdx.y) * kOut;
  const int64_t first_row = visible.first_query(a, first_key) * a.G;
  const bool active = first_key + warp_key < visible.length;

  const auto load_queries = [&](int stage, int64_t row) {
    const int count = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - row));
    const GroupRows rows(a, item.g, row);
    T* q = queries + stage * 2 * kRows * kD;
    load_tile<T, kD, kRows>(q, count, a, [&](int r) { return rows.row<const T>(a.q, item.b, r); });
    load_tile<T, kD, kRows>(q + kRows * kD, count, a, [&](int r) { return rows.row<const T>(p.dout, item.b, r); });
    const int r = threadIdx.x % kRows;
    if (threadIdx.x < kRows) {
      const int64_t index = rows.index(a, item.b, r);
      lse[stage][r] = r < count ? p.lse[index] * kLog2E : 0;
      delta[stage][r] = r < count ? p.delta[index] : 0;
      row_end[stage][r] = r < count ? visible.end(rows.query(r)) : 0;
    }
    if (a.drop_threshold != 0 && threadIdx.x < kRows * (kKeys / 32)) {
      const int word = threadIdx.x / kRows;
      kept[stage][r][word] = r < count ? kept_keys(a, rows.index(a, item.b, r), first_key + word * 32) : 0;
    }
  };
  load_tile<T, kD, kKeys>(k, visible.length - first_key, a, a.k.row<const T>(item.b, first_key, item.g),
                          a.k.strides[1]);
  load_tile<T, kD, kKeys>(v, visible.length - first_key, a, a.v.row<const T>(item.b, first_key, item.g),
                          a.v.strides[1]);
  if (first_row < a.rows) load_queries(0, first_row);
  cp_async_commit();

  float dk[1][kOut / 8][4] = {}, dv[1][kOut / 8][4] = {};
  int stage = 0;
  for (int64_t row = first_row; row < a.rows; row += kRows) {
    if constexpr (kStages == 2) {
      if (row + kRows < a.rows) load_queries(stage ^ 1, row + kRows);
      cp_async_commit();
    }
    cp_async_wait<kStages - 1>();
    __syncthreads();  // the tile is there
    if (active) {
      const T* q = queries + stage * 2 * kRows * kD;
      const T* dout = q + kRows * kD;
      float probs[1][kN][4] = {}, ds[1][kN][4] = {};
      multiply_rows<T, kD>(
          probs, [&](uint32_t(&fragment)[4], int, int column) { load_a<T, kD>(fragment, k, warp_key, column); }, q);
      multiply_rows<T, kD>(
          ds, [&](uint32_t(&fragment)[4], int, int column) { load_a<T, kD>(fragment, v, warp_key, column); }, dout);
      const auto for_each_pair = [&](const auto& body) {
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int c = 0; c < 2; c++)
#pragma unroll
            for (int half = 0; half < 2; half++)
              body(probs[0][n][half * 2 + c], ds[0][n][half * 2 + c], n * 8 + 2 * t + c, warp_key + half * 8 + g);
      };
      for_each_pair([&](float& prob, float&, int r, int) { prob = exp2_fast(prob * a.scale_log2 - lse[stage][r]); });
      // The first row sees the fewest keys; rows that are not there, none.
      if (first_key + kKeys > min(row_end[stage][0], row_end[stage][kRows - 1]))
        for_each_pair([&](float& prob, float&, int r, int key) {
          if (first_key + key >= row_end[stage][r]) prob = 0;
        });
      if (a.drop_threshold == 0) {
        for_each_pair([&](float& prob, float& dp, int r, int) { dp = prob * (dp - delta[stage][r]); });
      } else {
        for_each_pair([&](float& prob, float& dp, int r, int key) {
          const bool keep = kept[stage][r][warp_key / 32] >> (key % 32) & 1;
          dp = prob * ((keep ? dp * a.keep_scale : 0) - delta[stage][r]);
          if (!keep) prob = 0;
        });
      }
      multiply_columns<T, kD>(dv, probs, dout, first_column);
      multiply_columns<T, kD>(dk, ds, q, first_column);
    }
    __syncthreads();  // the tile is no longer read
    if constexpr (kStages == 2) {
      stage ^= 1;
    } else {
      if (row + kRows < a.rows) load_queries(0, row + kRows);
      cp_async_commit();
    }
  }

  cp_async_wait<0>();
  __syncthreads();  // without rows, the keys may still be on their way to where the results pass through
  const int count = a.Tk - first_key - warp_key;
  const auto key_row = [&](const HeadsView& x) {
    return [&, first = first_key + warp_key](int r) { return x.row<T>(item.b, first + r, item.g); };
  };
  store_rows<T, kD>(k + warp_key * kD, dk[0], a.scale, a.scale, first_column, count, a, key_row(p.dk));
  store_rows<T, kD>(v + warp_key * kD, dv[0], a.keep_scale, a.keep_scale, first_column, count, a, key_row(p.dv));
}

#endif

// Two stages of rows where shared memory suffices (below 99 KiB, what a block can have on all of 8.x).
#define BACKWARD(D, out, rows, stages)                                                     \
  HEED_KERNEL(attention_backward_keys_##D##_bf16, AttentionBackwardParams, kMmaThreads, 2, \
              attention_backward_keys_mma<bf16, D, out, rows, stages>)                     \
  HEED_KERNEL(attention_backward_keys_##D##_f16, AttentionBackwardParams, kMmaThreads, 2,  \
              attention_backward_keys_mma<f16, D, out, rows, stages>)
BACKWARD(32, 32, 64, 2)
BACKWARD(64, 64, 64, 2)
BACKWARD(96, 96, 32, 2)
BACKWARD(128, 128, 32, 2)
BACKWARD(192, 96, 32, 2)
BACKWARD(256, 128, 32, 1)

#if !HEED_DEVICE_CODE

BackwardKernel attention_backward_keys_mma_kernel(DType dtype, int D) {
  const auto choose = [&](auto& bf16, auto& f16, int size, int columns, int rows, int stages) {
    return BackwardKernel{dtype == DType::bf16 ? &bf16 : &f16, 64, columns,
                          static_cast<size_t>(2 * 64 + stages * 2 * rows) * size * 2};
  };
#define CHOOSE(D, out, rows, stages) \
  choose(attention_backward_keys_##D##_bf16, attention_backward_keys_##D##_f16, D, out, rows, stages)
  if (D <= 32) return CHOOSE(32, 32, 64, 2);
  if (D <= 64) return CHOOSE(64, 64, 64, 2);
  if (D <= 96) return CHOOSE(96, 96, 32, 2);
  if (D <= 128) return CHOOSE(128, 128, 32, 2);
  if (D <= 192) return CHOOSE(192, 96, 32, 2);
  return CHOOSE(256, 128, 32, 1);
}

#endif

}  // namespace heed::cuda
