// What the kernels of attention share: the problem, which keys a query sees, how the rows of a head group are numbered
// and the mask of dropout. ops.def has the shapes.
//
// The H / Hkv = G query heads that share one key head are taken together: row r of group g is query r / G of head
// g · G + r % G, for Tq · G rows a group. So a key tile is read once for the whole group, and since rows keep the order
// of the queries, the number of keys that a causal row sees never falls from one row to the next.
#pragma once
#include "cuda/kernels/kernel.h"
#include "cuda/kernels/philox.h"

namespace heed::cuda {

// A [B, T, heads, D] tensor with D contiguous.
struct HeadsView {
  void* data;
  int64_t strides[3];
#if HEED_DEVICE_CODE
  template <class T>
  __device__ __forceinline__ T* row(int64_t b, int64_t t, int64_t h) const {
    return static_cast<T*>(data) + b * strides[0] + t * strides[1] + h * strides[2];
  }
#endif
};

struct AttentionParams {
  HeadsView q, k, v;
  int64_t B, Tq, rows;  // rows of a group: Tq · G
  int Tk, H, Hkv, G, D;
  const int32_t* key_lengths;   // [B] or null
  const int32_t* query_starts;  // [B] or null
  bool causal;
  bool aligned;      // all rows of all views start at multiples of 16 bytes
  float scale_log2;  // scale · log2 e: the softmax is taken with powers of 2
  float scale;
  float keep_scale;         // what kept probabilities are multiplied by: 1 / (1 - p)
  uint32_t drop_threshold;  // 0: no dropout
  uint64_t seed;
  FaultSink fault;
};

#if HEED_DEVICE_CODE

constexpr float kLn2 = 0.693147180559945f, kLog2E = 1.44269504088896f;
constexpr float kInfinity = __builtin_huge_valf();

// Of one sequence: query i sees keys [0, end(i)). Every kernel asks here and nowhere else.
struct VisibleKeys {
  int64_t start;
  int length;
  bool causal;

  __device__ __forceinline__ VisibleKeys(const AttentionParams& p, int64_t b) {
    length = p.Tk;
    if (p.key_lengths) {
      const int given = p.key_lengths[b];
      length = max(0, min(given, p.Tk));
      if (length != given && threadIdx.x == 0) report_fault(p.fault, FaultKind::key_length, given, p.Tk, b);
    }
    causal = p.causal;
    start = p.query_starts ? p.query_starts[b] : length - p.Tq;
  }
  __device__ __forceinline__ int end(int64_t query) const {
    if (!causal) return length;
    return static_cast<int>(max(static_cast<int64_t>(0), min(static_cast<int64_t>(length), start + query + 1)));
  }
  // The first query that sees `key`; p.Tq where none does. It never falls from one key to the next.
  __device__ __forceinline__ int64_t first_query(const AttentionParams& p, int key) const {
    if (key >= length) return p.Tq;
    return causal ? max(static_cast<int64_t>(0), min(p.Tq, key - start)) : 0;
  }
};

// Rows first, first + 1, … of a group.
struct GroupRows {
  int64_t query0;
  int head0, past, G;

  __device__ __forceinline__ GroupRows(const AttentionParams& p, int g, int64_t first)
      : query0(p.G == 1 ? first : first / p.G), head0(g * p.G), past(0), G(p.G) {
    if (G > 1) past = static_cast<int>(first - query0 * G);
  }
  __device__ __forceinline__ int64_t query(int r) const { return query0 + (G == 1 ? r : (past + r) / G); }
  __device__ __forceinline__ int head(int r) const { return head0 + (G == 1 ? 0 : (past + r) % G); }
  template <class T>
  __device__ __forceinline__ T* row(const HeadsView& x, int64_t b, int r) const {
    return x.row<T>(b, query(r), head(r));
  }
  // Of row r in a [B, H, Tq] tensor.
  __device__ __forceinline__ int64_t index(const AttentionParams& p, int64_t b, int r) const {
    return (b * p.H + head(r)) * p.Tq + query(r);
  }
};

// Bit j: whether dropout keeps key `key` + j of the row. Element ((b·H + h)·Tq + i)·Tk + key decides on it.
__device__ __forceinline__ uint32_t kept_keys(const AttentionParams& p, int64_t row_index, int key) {
  const uint64_t first = static_cast<uint64_t>(row_index) * static_cast<uint64_t>(p.Tk) + static_cast<uint64_t>(key);
  const int skip = static_cast<int>(first % 4);
  uint64_t bits = 0;
#pragma unroll 1
  for (int block = 0; block < (skip ? 9 : 8); block++) {
    const PhiloxBlock words = philox(p.seed, first / 4 + block, 0);
#pragma unroll
    for (int w = 0; w < 4; w++)
      bits |= static_cast<uint64_t>(words.word[w] >> 8 >= p.drop_threshold) << (4 * block + w);
  }
  return static_cast<uint32_t>(bits >> skip);
}

// 2^x to 2 ulp; 0 of -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#endif

}  // namespace heed::cuda
