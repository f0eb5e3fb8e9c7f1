// Divides attention's forward problem into items and combines the results of items. An item is a block of rows of a
// group over one split of the keys. There are splits if blocks of rows are too few to fill the device (Flash-Decoding).
// A split leaves the sums o of its rows, not yet divided by l, with their m and l. The last split to arrive
// (last_block.h) computes
//   out = Σ_s 2^(m_s - m) o_s / Σ_s 2^(m_s - m) l_s,   m = max_s m_s
// (Milakov & Gimelshein 2018, eq. 4), in the order of the splits. m counts powers of two. Splits that hold no key of
// the block take no part in it.
#pragma once
#include "cuda/kernels/attention.h"
#include "cuda/kernels/last_block.h"

namespace heed::cuda {

struct AttentionForwardParams {
  AttentionParams a;
  HeadsView out;
  float* lse;  // [B, H, Tq] or null
  int64_t blocks;
  int splits, split_keys;
  float* parts;        // [column blocks, groups, blocks, splits, part_floats]
  int part_floats;     // floats that a block leaves: a multiple of 4
  unsigned* arrivals;  // [column blocks, groups, blocks]
};

#if HEED_DEVICE_CODE

struct ForwardItem {
  int64_t b, block;
  int g, split;

  // The last rows come first, because causal rows there have the most keys. Neighbouring blocks share their keys.
  __device__ __forceinline__ explicit ForwardItem(const AttentionForwardParams& p, unsigned item = blockIdx.x) {
    const unsigned blocks = static_cast<unsigned>(p.blocks);
    block = blocks - 1 - item % blocks;
    item /= blocks;
    split = static_cast<int>(item % p.splits);
    item /= p.splits;
    g = static_cast<int>(item % p.a.Hkv);
    b = item / p.a.Hkv;
  }
};

// The keys of an item: those keys of its split that its rows see.
struct ItemKeys {
  int first, end;
  int parts, part;  // number of splits that have any, and the index of this one; one part if no row sees a key

  __device__ __forceinline__ ItemKeys(const AttentionForwardParams& p, const ForwardItem& item, const KeyBounds& bounds)
      : first(bounds.first), end(bounds.end), parts(1), part(item.split) {
    if (p.splits == 1 || end <= first) return;
    const int first_split = first / p.split_keys;
    parts = (end - 1) / p.split_keys - first_split + 1;
    part = item.split - first_split;
    first = max(first, item.split * p.split_keys);
    end = first + min(end - first, p.split_keys - first % p.split_keys);
  }
  __device__ __forceinline__ bool nothing_to_do() const { return part < 0 || part >= parts; }
};

// The parts that the splits of an item's rows leave, and the counter of the splits that have left theirs.
struct ItemParts {
  float* parts;
  unsigned* arrivals;
  int64_t step;

  __device__ __forceinline__ explicit ItemParts(const AttentionForwardParams& p) : step(p.part_floats) {
    unsigned number = blockIdx.x;
    keep(number);  // the item is computed again instead of being kept through the loop over keys
    const ForwardItem item(p, number);
    const int64_t groups = p.a.B * p.a.Hkv;
    const int64_t rows = (blockIdx.y * groups + item.b * p.a.Hkv + item.g) * p.blocks + item.block;
    parts = p.parts + rows * p.splits * step;
    arrivals = p.arrivals + rows;
  }
  __device__ __forceinline__ float* part(int number) const { return parts + number * step; }
};

// Combines the parts of an item's rows; returns false if another block will. A thread has kRows rows with their maxima
// and sums, and `element(v, e)` is its element of the output, in kVectors vectors of 4, which belongs to row row_of(v,
// e). It reads the part of the thread with the same number in the other blocks, so that parts lie as registers do:
// vectors of all threads side by side.
template <int kThreads, int kVectors, int kRows, class Element, class RowOf>
__device__ __forceinline__ bool join_parts(const AttentionForwardParams& p, const ItemKeys& keys, float (&m)[kRows],
                                           float (&l)[kRows], const Element& element, const RowOf& row_of) {
  static_assert(kRows % 2 == 0, "maximum and sum of two rows are a vector");
  const ItemParts parts(p);
  const int place = threadIdx.x * 4;
  float* const mine = parts.part(keys.part) + place;
  const auto store = [&](int at, float x, float y, float z, float w) {
    __stcg(reinterpret_cast<float4*>(mine + at), make_float4(x, y, z, w));
  };
#pragma unroll
  for (int i = 0; i < kRows; i += 2) store(i / 2 * kThreads * 4, m[i], l[i], m[i + 1], l[i + 1]);
  constexpr int kFirst = kRows / 2 * kThreads * 4;
#pragma unroll
  for (int v = 0; v < kVectors; v++)
    store(kFirst + v * kThreads * 4, element(v, 0), element(v, 1), element(v, 2), element(v, 3));
  if (!last_to_arrive(parts.arrivals, keys.parts)) return false;

  float highest[kRows];
#pragma unroll
  for (int i = 0; i < kRows; i++) highest[i] = kLowest, l[i] = 0;
#pragma unroll 1
  for (int s = 0; s < keys.parts; s++)
#pragma unroll
    for (int i = 0; i < kRows; i += 2) {
      const auto stats = load_part<4>(parts.part(s) + place + i / 2 * kThreads * 4);
      highest[i] = fmaxf(highest[i], stats.at[0]);
      highest[i + 1] = fmaxf(highest[i + 1], stats.at[2]);
    }
#pragma unroll
  for (int v = 0; v < kVectors; v++)
#pragma unroll
    for (int e = 0; e < 4; e++) element(v, e) = 0;
#pragma unroll 1
  for (int s = 0; s < keys.parts; s++) {
    const float* const part = parts.part(s) + place;
    float weight[kRows];
#pragma unroll
    for (int i = 0; i < kRows; i += 2) {
      const auto stats = load_part<4>(part + i / 2 * kThreads * 4);
      weight[i] = exp2_fast(stats.at[0] - highest[i]);
      weight[i + 1] = exp2_fast(stats.at[2] - highest[i + 1]);
      l[i] += weight[i] * stats.at[1];
      l[i + 1] += weight[i + 1] * stats.at[3];
    }
#pragma unroll
    for (int v = 0; v < kVectors; v++) {
      const auto values = load_part<4>(part + kFirst + v * kThreads * 4);
#pragma unroll
      for (int e = 0; e < 4; e++) element(v, e) += weight[row_of(v, e)] * values.at[e];
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; i++) m[i] = highest[i];
  return true;
}

__device__ __forceinline__ float log_sum(float m, float l) { return l > 0 ? (m + log2f(l)) * kLn2 : -kInfinity; }
// Returns the remaining factor of a row's sum. It is 0 for a row that saw no key.
__device__ __forceinline__ float row_factor(const AttentionParams& p, float l) { return l > 0 ? p.keep_scale / l : 0; }

#else

// A kernel and the shape of its blocks.
struct ForwardKernel {
  Kernel<AttentionForwardParams>* kernel;
  int rows, columns;  // of the output, per block
  int keys;           // of a tile
  int part_floats;    // see AttentionForwardParams
  double speed;       // rough multiplications per clock of a block, for the choice of splits
  int together;       // blocks of a multiprocessor at that speed, for the choice of splits
  size_t shared;
};

ForwardKernel attention_decode_kernel(DType dtype, int D, int64_t rows);
ForwardKernel attention_mma_kernel(DType dtype, int D, bool masked);  // bf16 and f16; `masked`: with a block mask
ForwardKernel attention_fma_kernel(DType dtype, int D, bool masked);  // f32, and any D

#endif

}  // namespace heed::cuda
