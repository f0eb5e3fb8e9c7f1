// Attention's forward pass on tensor cores: FlashAttention-2 (Dao 2023, algorithm 1). A block has 4 warps of kM · 16
// rows; the keys pass by in tiles of kKeys. Scores, probabilities and the output stay in registers (mma.h has their
// layout), the softmax is kept online. K of the next tile is on its way while V's product runs, V while K's does.
//
// Instantiated for the head sizes below; another is padded with zeros in shared memory. Up to 64 a warp has 32 rows,
// which halves what it reads of keys and values in shared memory; beyond, registers suffice for 16 rows, and from 192
// on for keys in tiles of 32.
#include "cuda/kernels/attention_mma.h"
#include "cuda/kernels/attention_split.h"

namespace heed::cuda {

#if HEED_DEVICE_CODE

template <class T, int kD, int kKeys, int kM>
__device__ void attention_forward_mma(const AttentionForwardParams& p) {
  constexpr int kRows = kMmaThreads / 32 * 16 * kM, kN = kKeys / 8, kOut = kD / 8;
  constexpr bool kKeepQueries = kD * kM <= 128;  // as fragments, in registers
  const AttentionParams& a = p.a;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int warp_row = threadIdx.x / 32 * 16 * kM;
  T* q = reinterpret_cast<T*>(attention_shared);
  T* k = q + kRows * kD;
  T* v = k + kKeys * kD;
  __shared__ uint32_t kept[kRows * kKeys / 32];

  const ForwardItem item(p);
  const VisibleKeys visible(a, item.b);
  const int64_t first_row = item.block * kRows;
  const int count = static_cast<int>(min(static_cast<int64_t>(kRows), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const int begin = item.split * p.split_keys;
  const int end = min(begin + min(p.split_keys, a.Tk - begin), visible.end(rows.query(count - 1)));
  const int all_see = visible.end(rows.query(0));  // keys that every row sees
  const bool active = warp_row < count;
  // Scores of scale 0 are all 0, which any factor leaves; one that is not 0 leaves -infinity as well.
  const float factor = a.scale_log2 == 0 ? 1 : fabsf(a.scale_log2);

  const auto load_keys = [&](T* tile, const HeadsView& view, int key) {
    load_tile<T, kD, kKeys>(tile, end - key, a, view.row<const T>(item.b, key, item.g), view.strides[1]);
    cp_async_commit();
  };
  load_tile<T, kD, kRows>(q, count, a, [&](int r) { return rows.row<const T>(a.q, item.b, r); });
  load_keys(k, a.k, begin);

  float out[kM][kOut][4] = {}, m[kM][2], l[kM][2];
  int row_end[kM][2];
  uint32_t queries[kKeepQueries ? kM : 1][kD / 16][4];
#pragma unroll
  for (int i = 0; i < kM * 2; i++) {
    m[i / 2][i % 2] = -kInfinity;
    l[i / 2][i % 2] = 0;
    row_end[i / 2][i % 2] = visible.end(rows.query(warp_row + i * 8 + g));
  }

  for (int key = begin; key < end; key += kKeys) {
    cp_async_wait<0>();
    __syncthreads();  // K is there, and V's tile is no longer read
    load_keys(v, a.v, key);
    float s[kM][kN][4] = {};
    if (active) {
      if constexpr (kKeepQueries) {
        if (key == begin)
#pragma unroll
          for (int i = 0; i < kM * (kD / 16); i++)
            load_a<T, kD>(queries[i / (kD / 16)][i % (kD / 16)], q, warp_row + i / (kD / 16) * 16, i % (kD / 16) * 16);
        multiply_rows<T, kD>(
            s,
            [&](uint32_t(&fragment)[4], int i, int column) {
#pragma unroll
              for (int e = 0; e < 4; e++) fragment[e] = queries[i][column / 16][e];
            },
            k);
      } else {
        multiply_rows<T, kD>(
            s,
            [&](uint32_t(&fragment)[4], int i, int column) { load_a<T, kD>(fragment, q, warp_row + i * 16, column); },
            k);
      }
      if (a.drop_threshold != 0) {
        __syncwarp();  // the last tile's mask is no longer read
        for (int i = lane; i < 16 * kM * (kKeys / 32); i += 32) {
          const int r = warp_row + i / (kKeys / 32), word = i % (kKeys / 32);
          if (r < count) kept[r * (kKeys / 32) + word] = kept_keys(a, rows.index(a, item.b, r), key + word * 32);
        }
        __syncwarp();
      }
    }
    cp_async_wait<0>();
    __syncthreads();  // V is there, and K's tile is no longer read
    if (key + kKeys < end) load_keys(k, a.k, key + kKeys);
    if (!active) continue;

    const auto for_each_score = [&](const auto& body) {
#pragma unroll
      for (int i = 0; i < kM; i++)
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) body(s[i][n][e], i, e / 2, n * 8 + e % 2);
    };
    // With the sign in the scores, the largest of them is the largest after scaling too.
    if (a.scale_log2 <= 0) for_each_score([&](float& score, int, int, int) { score = a.scale_log2 < 0 ? -score : 0; });
    if (key + kKeys > all_see)
      for_each_score([&](float& score, int i, int half, int column) {
        if (key + column + 2 * t >= row_end[i][half]) score = -kInfinity;
      });
#pragma unroll
    for (int i = 0; i < kM; i++) {
      float alpha[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float highest = m[i][half];
#pragma unroll
        for (int n = 0; n < kN; n++) highest = fmaxf(highest, fmaxf(s[i][n][half * 2], s[i][n][half * 2 + 1]));
        highest = fmaxf(highest, __shfl_xor_sync(kFullWarp, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(kFullWarp, highest, 2));
        // A row that has seen no key yet: 2^(-inf - 0) is the 0 that 2^(-inf + inf) is not.
        const float base = highest == -kInfinity ? 0 : highest * factor;
        alpha[half] = exp2_fast(m[i][half] * factor - base);
        m[i][half] = highest;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < kN; n++)
#pragma unroll
          for (int c = 0; c < 2; c++) {
            float& prob = s[i][n][half * 2 + c];
            prob = exp2_fast(prob * factor - base);
            sum += prob;
          }
        l[i][half] = l[i][half] * alpha[half] + sum;
      }
      if (__any_sync(kFullWarp, alpha[0] != 1 || alpha[1] != 1))
#pragma unroll
        for (int n = 0; n < kOut; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) out[i][n][e] *= alpha[e / 2];
    }
    if (a.drop_threshold != 0)
#pragma unroll
      for (int i = 0; i < kM * 2; i++) {
        const int r = warp_row + i * 8 + g;
#pragma unroll
        for (int n = 0; n < kN; n++) {
          const uint32_t bits = r < count ? kept[r * (kKeys / 32) + n / 4] >> (n % 4 * 8 + 2 * t) : 0;
          if (!(bits & 1)) s[i / 2][n][i % 2 * 2] = 0;
          if (!(bits & 2)) s[i / 2][n][i % 2 * 2 + 1] = 0;
        }
      }
    multiply_columns<T, kD>(out, s, v, 0);
  }

  cp_async_wait<0>();
  __syncthreads();  // without keys, the queries may still be on their way to where the output passes through
  if (!active) return;
#pragma unroll
  for (int i = 0; i < kM; i++) {
    const int row = warp_row + i * 16;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float& sum = l[i][half];
      sum += __shfl_xor_sync(kFullWarp, sum, 1);
      sum += __shfl_xor_sync(kFullWarp, sum, 2);
      const int r = row + half * 8 + g;
      if (t != 0 || r >= count) continue;
      if (p.splits > 1)
        reinterpret_cast<float2*>(p.partial_stats)[item.partial(p, first_row + r)] = {m[i][half] * factor, sum};
      else if (p.lse)
        p.lse[rows.index(a, item.b, r)] = log_sum(m[i][half] * factor, sum);
    }
    if (p.splits == 1) {
      store_rows<T, kD>(q + row * kD, out[i], row_factor(a, l[i][0]), row_factor(a, l[i][1]), 0, count - row, a,
                        [&](int r) { return rows.row<T>(p.out, item.b, row + r); });
      continue;
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8 + g;
      if (r >= count || begin >= end) continue;
      float* partial = p.partial_out + item.partial(p, first_row + r) * a.D;
#pragma unroll
      for (int n = 0; n < kOut; n++) {
        const int d = n * 8 + 2 * t;
        const float2 pair = {out[i][n][half * 2], out[i][n][half * 2 + 1]};
        if (a.D % 2 == 0 && d < a.D) {
          *reinterpret_cast<float2*>(partial + d) = pair;
        } else {
          if (d < a.D) partial[d] = pair.x;
          if (d + 1 < a.D) partial[d + 1] = pair.y;
        }
      }
    }
  }
}

#endif

#define FORWARD(D, keys, m)                                                         \
  HEED_KERNEL(attention_forward_##D##_bf16, AttentionForwardParams, kMmaThreads, 2, \
              attention_forward_mma<bf16, D, keys, m>)                              \
  HEED_KERNEL(attention_forward_##D##_f16, AttentionForwardParams, kMmaThreads, 2,  \
              attention_forward_mma<f16, D, keys, m>)
FORWARD(32, 64, 2)
FORWARD(64, 64, 2)
FORWARD(96, 64, 1)
FORWARD(128, 64, 1)
FORWARD(192, 32, 1)
FORWARD(256, 32, 1)

#if !HEED_DEVICE_CODE

ForwardKernel attention_mma_kernel(DType dtype, int D) {
  const auto choose = [&](auto& bf16, auto& f16, int size, int keys, int m) {
    const int rows = kMmaThreads / 32 * 16 * m;
    return ForwardKernel{dtype == DType::bf16 ? &bf16 : &f16, rows, size,
                         static_cast<size_t>(rows + 2 * keys) * size * 2};
  };
  if (D <= 32) return choose(attention_forward_32_bf16, attention_forward_32_f16, 32, 64, 2);
  if (D <= 64) return choose(attention_forward_64_bf16, attention_forward_64_f16, 64, 64, 2);
  if (D <= 96) return choose(attention_forward_96_bf16, attention_forward_96_f16, 96, 64, 1);
  if (D <= 128) return choose(attention_forward_128_bf16, attention_forward_128_f16, 128, 64, 1);
  if (D <= 192) return choose(attention_forward_192_bf16, attention_forward_192_f16, 192, 32, 1);
  return choose(attention_forward_256_bf16, attention_forward_256_f16, 256, 32, 1);
}

#endif

}  // namespace heed::cuda
