// Attention of up to kR query rows per group over many keys, mostly for decoding one token. It reads each key and value
// once, which bounds its speed. So it multiplies with ordinary instructions, in f32, and keeps nothing in shared
// memory. kLanes lanes share a key; each has 8 of its elements in one or two vectors of 16 bytes. The 128 / kLanes
// teams of a block take turns at the keys of one split (Flash-Decoding), each with an online softmax of its own, and
// are merged at the end.
#include "cuda/kernels/attention_host.h"
#include "cuda/kernels/attention_split.h"

namespace heed::cuda {

constexpr int kDecodeThreads = 128;
constexpr int kLaneElements = 8;  // elements of a key or value that a lane has
constexpr int kPartStats = 8;     // floats in front of the part that a split leaves: m and l of up to 4 rows

#if HEED_DEVICE_CODE

// The elements of a row that a lane has: vectors of 16 bytes, lane after lane.
template <class T, int kLanes>
struct Part {
  static constexpr int kVector = 16 / sizeof(T);

  // Loads zeros beyond D.
  __device__ __forceinline__ static void load(float (&x)[kLaneElements], const T* row, const AttentionParams& p) {
#pragma unroll
    for (int i = 0; i < kLaneElements; i += kVector) {
      const int c = i * kLanes + threadIdx.x % kLanes * kVector;
      if (p.aligned && c + kVector <= p.D) {
        const auto part = Vector<T, kVector>::load(row + c);
#pragma unroll
        for (int e = 0; e < kVector; e++) x[i + e] = to_float(part.at[e]);
      } else {
#pragma unroll
        for (int e = 0; e < kVector; e++) x[i + e] = c + e < p.D ? to_float(row[c + e]) : 0;
      }
    }
  }

  // In shared memory, vectors of 4 floats lie lane after lane, and the second vectors of all lanes follow at a
  // distance, so that neither writing nor reading a row has bank conflicts.
  static constexpr int kSecond = kLanes * 4 + 16, kFloats = kSecond + kLanes * 4;
  __device__ __forceinline__ static void store(float* row, const float (&x)[kLaneElements]) {
#pragma unroll
    for (int i = 0; i < 2; i++)
      Vector<float, 4>{{x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]}}.store(row + i * kSecond +
                                                                                   threadIdx.x % kLanes * 4);
  }
  __device__ __forceinline__ static int place(int d) {
    return kVector == 8 ? d / 4 % 2 * kSecond + d / 8 * 4 + d % 4 : d / (4 * kLanes) * kSecond + d % (4 * kLanes);
  }
};

// The state of one row's softmax over some of its keys: maximum (in powers of two), sum, and a part of the output.
struct RowState {
  float m = kLowest, l = 0, o[kLaneElements] = {};

  __device__ __forceinline__ void merge(float other_m, float other_l, const float (&other_o)[kLaneElements]) {
    const float highest = fmaxf(m, other_m);
    const float mine = exp2_fast(m - highest), theirs = exp2_fast(other_m - highest);
    m = highest;
    l = l * mine + other_l * theirs;
#pragma unroll
    for (int e = 0; e < kLaneElements; e++) o[e] = o[e] * mine + other_o[e] * theirs;
  }
};

template <class T, int kLanes, int kR>
__device__ void attention_decode(const AttentionForwardParams& p) {
  using Elements = Part<T, kLanes>;
  constexpr int kTeams = kDecodeThreads / kLanes, kWarps = kDecodeThreads / 32;
  constexpr int kKeys = 4;  // keys of a team at once, so that enough loads are in flight
  const AttentionParams& a = p.a;
  const int team = threadIdx.x / kLanes;
  const ForwardItem item(p);
  const VisibleKeys visible(a, item.b);
  const int64_t first_row = item.block * kR;
  const int count = static_cast<int>(min(static_cast<int64_t>(kR), a.rows - first_row));
  const GroupRows rows(a, item.g, first_row);
  const KeyBounds bounds = visible.of_all<kDecodeThreads>(rows.query(0), rows.query(count - 1));
  const ItemKeys keys(p, item, bounds);
  if (keys.nothing_to_do()) return;
  const int end = keys.end;
  const bool capped = a.cap_log2 != 0;

  RowState state[kR];
  float q[kR][kLaneElements];
  KeyInterval sees[kR];
#pragma unroll
  for (int r = 0; r < kR; r++) {
    const int row = min(r, count - 1);
    Elements::load(q[r], rows.row<const T>(a.q, item.b, row), a);
#pragma unroll
    for (int e = 0; e < kLaneElements; e++) q[r][e] *= capped ? a.cap_scale : a.scale_log2;
    sees[r] = visible.of(rows.query(row));
  }

  for (int first = keys.first; first < end; first += kTeams * kKeys) {
    float k[kKeys][kLaneElements], v[kKeys][kLaneElements];
#pragma unroll
    for (int j = 0; j < kKeys; j++) {
      const int key = min(first + j * kTeams + team, end - 1);
      Elements::load(k[j], key_row<T>(a, a.k, item.b, key, item.g), a);
      Elements::load(v[j], key_row<T>(a, a.v, item.b, key, item.g), a);
    }
#pragma unroll
    for (int r = 0; r < kR; r++) {
      RowState& row = state[r];
      float s[kKeys], highest = row.m;
#pragma unroll
      for (int j = 0; j < kKeys; j++) {
        s[j] = 0;
#pragma unroll
        for (int e = 0; e < kLaneElements; e++) s[j] += q[r][e] * k[j][e];
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2) s[j] += __shfl_xor_sync(kFullWarp, s[j], offset);
        const int key = first + j * kTeams + team;
        if (capped) s[j] = a.cap_log2 * tanhf(s[j]);
        if (a.slopes) {
          const int at = min(r, count - 1);
          const auto distance = static_cast<float>(visible.position(rows.query(at)) - key);
          s[j] = fmaf(-slope_log2(a, rows.head(at)), fabsf(distance), s[j]);
        }
        if (key < sees[r].first || key >= min(end, sees[r].end)) s[j] = -kInfinity;
        highest = fmaxf(highest, s[j]);
      }
      const float alpha = exp2_fast(row.m - highest);
      row.m = highest;
      row.l *= alpha;
#pragma unroll
      for (int e = 0; e < kLaneElements; e++) row.o[e] *= alpha;
#pragma unroll
      for (int j = 0; j < kKeys; j++) {
        const float prob = exp2_fast(s[j] - highest);
        row.l += prob;
#pragma unroll
        for (int e = 0; e < kLaneElements; e++) row.o[e] += prob * v[j][e];
      }
    }
  }

  __shared__ float stats[kWarps][kR][2];
  __shared__ __align__(16) float sums[kWarps][kR][Elements::kFloats];
#pragma unroll
  for (int r = 0; r < kR; r++) {
    RowState& row = state[r];
#pragma unroll
    for (int offset = kLanes; offset < 32; offset *= 2) {
      float other[kLaneElements];
#pragma unroll
      for (int e = 0; e < kLaneElements; e++) other[e] = __shfl_xor_sync(kFullWarp, row.o[e], offset);
      row.merge(__shfl_xor_sync(kFullWarp, row.m, offset), __shfl_xor_sync(kFullWarp, row.l, offset), other);
    }
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) {
      stats[warp][r][0] = row.m;
      stats[warp][r][1] = row.l;
    }
    if (lane < kLanes) Elements::store(sums[warp][r], row.o);
  }
  __syncthreads();

  // Calls body(r, d) for row r and column d of the output. Each body combines the maximum m, the sum l, and the output
  // not yet divided by l.
  const auto for_each = [&](const auto& body) {
#pragma unroll 1
    for (int r = 0; r < count; r++)
#pragma unroll 1
      for (int d = threadIdx.x; d < a.D; d += kDecodeThreads) body(r, d);
  };
  const auto store = [&](int r, int d, float l, float sum) {
    rows.row<T>(p.out, item.b, r)[d] = from_float<T>(sum * row_factor(a, l));
  };
  const ItemParts parts(p);
  for_each([&](int r, int d) {
    float m = kLowest, l = 0, sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; w++) m = fmaxf(m, stats[w][r][0]);
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      const float weight = exp2_fast(stats[w][r][0] - m);
      l += weight * stats[w][r][1];
      sum += weight * sums[w][r][Elements::place(d)];
    }
    if (keys.parts == 1) return store(r, d, l, sum);
    float* const part = parts.part(keys.part);
    if (d == 0) Vector<float, 2>{{m, l}}.store_global(part + 2 * r);
    part[kPartStats + r * a.D + d] = sum;
  });
  if (keys.parts == 1 || !last_to_arrive(parts.arrivals, keys.parts)) return;
  for_each([&](int r, int d) {
    float m = kLowest, l = 0, sum = 0;
#pragma unroll 4
    for (int s = 0; s < keys.parts; s++) m = fmaxf(m, load_part<2>(parts.part(s) + 2 * r).at[0]);
#pragma unroll 4
    for (int s = 0; s < keys.parts; s++) {
      const auto part_stats = load_part<2>(parts.part(s) + 2 * r);
      const float weight = exp2_fast(part_stats.at[0] - m);
      l += weight * part_stats.at[1];
      sum += weight * load_part<1>(parts.part(s) + kPartStats + r * a.D + d).at[0];
    }
    store(r, d, l, sum);
  });
}

#endif

// Number of lanes that share a key, and the largest number of rows.
#define KERNELS(X) X(8, 1) X(8, 4) X(16, 1) X(16, 4) X(32, 1) X(32, 4)

#define KERNEL(lanes, rows)                                                                        \
  HEED_KERNEL(attention_decode_##lanes##_##rows##_f32, AttentionForwardParams, kDecodeThreads, 1,  \
              attention_decode<float, lanes, rows>)                                                \
  HEED_KERNEL(attention_decode_##lanes##_##rows##_bf16, AttentionForwardParams, kDecodeThreads, 1, \
              attention_decode<bf16, lanes, rows>)                                                 \
  HEED_KERNEL(attention_decode_##lanes##_##rows##_f16, AttentionForwardParams, kDecodeThreads, 1,  \
              attention_decode<f16, lanes, rows>)
KERNELS(KERNEL)

static_assert(32 * kLaneElements == kMostFastHead, "a kernel for every head that is sent here");

#if !HEED_DEVICE_CODE

ForwardKernel attention_decode_kernel(DType dtype, int D, int64_t rows) {
  const auto kernel = [&](auto& f32, auto& bf16, auto& f16, int most_rows) {
    ForwardKernel kernel{};
    kernel.kernel = dtype == DType::f32 ? &f32 : dtype == DType::bf16 ? &bf16 : &f16;
    kernel.rows = most_rows;
    kernel.columns = D;
    kernel.keys = kDecodeThreads;  // it has no tiles
    kernel.part_floats = static_cast<int>(kPartStats + ceil_div(most_rows * D, 8) * 8);
    kernel.speed = 8.0 * most_rows;  // 64 keys in a memory latency or two
    kernel.together = 2;
    return kernel;
  };
#define CHOOSE(lanes, most_rows)                                                                               \
  if (D <= lanes * kLaneElements && (rows == 1 || most_rows > 1))                                              \
    return kernel(attention_decode_##lanes##_##most_rows##_f32, attention_decode_##lanes##_##most_rows##_bf16, \
                  attention_decode_##lanes##_##most_rows##_f16, most_rows);
  KERNELS(CHOOSE)
  fail(Code::internal, "attention: there is no kernel for heads of a size of %d", D);
}

#endif

}  // namespace heed::cuda
