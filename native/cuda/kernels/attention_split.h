// Divides attention's forward problem into items and combines the sums over splits of the keys. The sums over a split
// are o of each row, not yet divided by l, with their m and l; m counts powers of two. They are added to those of the
// splits before, in order (Milakov & Gimelshein 2018, eq. 4):
//   m = max(m_before, m_split),   (o, l) = 2^(m_before - m) (o, l)_before + 2^(m_split - m) (o, l)_split
// An item is a block of rows of a group over one split, if blocks of rows are too few to fill the device
// (Flash-Decoding); the last item of a row to arrive (last_block.h) adds up what the others left. Otherwise it goes
// over all splits, and puts the sums aside at the end of each. Splits that hold no key of a row change nothing.
#pragma once
#include "cuda/kernels/attention.h"
#include "cuda/kernels/last_block.h"

namespace heed::cuda {

struct AttentionForwardParams {
  AttentionParams a;
  HeadsView out;
  float* lse;  // [B, H, Tq] or null
  int64_t blocks;
  int splits;          // items of a row: one for each split, or one
  int split_keys;      // keys of a split, which are counted from key 0
  float* parts;        // [column blocks, groups, blocks, splits, part_floats]; null if sums are kept in shared memory
  size_t kept;         // the place of these sums, in bytes
  int part_floats;     // floats that a block leaves: a multiple of 4
  int part_threads;    // the threads that have rows
  unsigned* arrivals;  // [column blocks, groups, blocks]
};

enum class ForwardKind {
  forward,
  masked,  // with a block mask
  int8,    // keys and values are codes
  bf16,    // keys and values are bf16 or f16 beside queries in f32
  f16,
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

// A thread's rows: their maxima and sums, and their elements of the output in kVectors vectors of 4. `element(v, e)`
// belongs to row row_of(v, e). In memory they lie as in registers, with vectors of all threads side by side, so that a
// thread reads what it wrote, or what the thread with its number in another block wrote.
template <int kVectors, int kRows, class Element, class RowOf>
struct RowSums {
  static_assert(kRows % 2 == 0, "maximum and sum of two rows are a vector");
  float (&m)[kRows], (&l)[kRows];
  const Element& element;
  const RowOf& row_of;
  int step;  // floats between the vectors of a thread

  __device__ __forceinline__ RowSums(const AttentionForwardParams& p, float (&m)[kRows], float (&l)[kRows],
                                     const Element& element, const RowOf& row_of)
      : m(m), l(l), element(element), row_of(row_of), step(p.part_threads * 4) {}

  __device__ __forceinline__ void clear() const {
#pragma unroll
    for (int i = 0; i < kRows; i++) m[i] = kLowest, l[i] = 0;
#pragma unroll
    for (int v = 0; v < kVectors; v++)
#pragma unroll
      for (int e = 0; e < 4; e++) element(v, e) = 0;
  }
  __device__ __forceinline__ void store(float* part) const {
    float* at = part + threadIdx.x * 4;
#pragma unroll
    for (int i = 0; i < kRows; i += 2, at += step) four(at) = make_float4(m[i], l[i], m[i + 1], l[i + 1]);
#pragma unroll
    for (int v = 0; v < kVectors; v++, at += step)
      four(at) = make_float4(element(v, 0), element(v, 1), element(v, 2), element(v, 3));
  }
  // Adds these sums to those of the splits before, which the thread itself stored.
  __device__ __forceinline__ void add_to(const float* part) const {
    merge<true>(part, [](const float* at) {
      const float4 x = four(const_cast<float*>(at));
      return Vector<float, 4>{{x.x, x.y, x.z, x.w}};
    });
  }
  // Adds the sums of the next split, which another block stored.
  __device__ __forceinline__ void add(const float* part) const {
    merge<false>(part, [](const float* at) { return load_part<4>(at); });
  }

 private:
  // The compiler makes one access of 16 bytes of it, in whichever memory it is.
  __device__ __forceinline__ static float4& four(float* at) { return *reinterpret_cast<float4*>(at); }

  template <bool kBefore, class Load>
  __device__ __forceinline__ void merge(const float* part, const Load& load) const {
    const float* at = part + threadIdx.x * 4;
    float mine[kRows], theirs[kRows];
    // Written out, because every kernel has to round alike.
    const auto merged = [](float x, float factor, float other, float other_factor) {
      return kBefore ? __fmaf_rn(other, other_factor, __fmul_rn(x, factor))
                     : __fmaf_rn(x, factor, __fmul_rn(other, other_factor));
    };
#pragma unroll
    for (int i = 0; i < kRows; i += 2, at += step) {
      const auto stats = load(at);
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const float other = stats.at[2 * j], highest = fmaxf(m[i + j], other);
        mine[i + j] = exp2_fast(m[i + j] - highest);
        theirs[i + j] = exp2_fast(other - highest);
        m[i + j] = highest;
        l[i + j] = merged(l[i + j], mine[i + j], stats.at[2 * j + 1], theirs[i + j]);
      }
    }
#pragma unroll
    for (int v = 0; v < kVectors; v++, at += step) {
      const auto values = load(at);
#pragma unroll
      for (int e = 0; e < 4; e++)
        element(v, e) = merged(element(v, e), mine[row_of(v, e)], values.at[e], theirs[row_of(v, e)]);
    }
  }
};

// What a block remembers of the splits that it has gone over, whose sums each thread puts aside. It is in shared
// memory, because registers have no room for it while the block goes over keys. It is volatile, because it must not be
// read before the first barrier after begin().
struct KeptSums {
  volatile int next_split;  // the key at which the next split begins
  volatile bool any;

  __device__ __forceinline__ void begin(const AttentionForwardParams& p, int first_key) {
    if (threadIdx.x == 0) next_split = end_of_split(p, first_key), any = false;
  }
  // Returns true if a split ends before `key`; then the threads put their sums aside.
  __device__ __forceinline__ bool split_ends(int key, int first_key) const {
    return key != first_key && key >= next_split;
  }
  template <class Sums>
  __device__ __forceinline__ void put(const AttentionForwardParams& p, unsigned char* shared, const Sums& sums) const {
    float* const to = place(p, shared);
    if (any) sums.add_to(to);
    sums.store(to);
    sums.clear();
  }
  // Called for each tile of keys, between two barriers of the block that separate it from the calls above.
  __device__ __forceinline__ void go_on(const AttentionForwardParams& p, int key) {
    if (threadIdx.x == 0 && key >= next_split) next_split = end_of_split(p, key), any = true;
  }
  // Called if there was a tile.
  template <class Sums>
  __device__ __forceinline__ void finish(const AttentionForwardParams& p, unsigned char* shared,
                                         const Sums& sums) const {
    if (any) sums.add_to(place(p, shared));
  }

 private:
  __device__ __forceinline__ static float* place(const AttentionForwardParams& p, unsigned char* shared) {
    return p.parts ? ItemParts(p).part(0) : reinterpret_cast<float*>(shared + p.kept);
  }
  __device__ __forceinline__ static int end_of_split(const AttentionForwardParams& p, int key) {
    return (key / p.split_keys + 1) * p.split_keys;
  }
};

// Combines the parts of an item's rows; returns false if another block will. Threads whose warp has no rows are not
// `active`.
template <class Sums>
__device__ __forceinline__ bool join_parts(const AttentionForwardParams& p, const ItemKeys& keys, bool active,
                                           const Sums& sums) {
  const ItemParts parts(p);
  if (active) sums.store(parts.part(keys.part));
  if (!last_to_arrive(parts.arrivals, keys.parts)) return false;
  if (!active) return true;
  sums.clear();
#pragma unroll 1
  for (int s = 0; s < keys.parts; s++) sums.add(parts.part(s));
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
  int warp_rows;      // rows of a warp
  int keys;           // of a tile
  int thread_floats;  // floats that a thread leaves as its part of the sums over a split
  double speed;       // rough multiplications per clock of a block, for the choice of splits
  int together;       // blocks of a multiprocessor at that speed, for the choice of splits
  size_t shared;
};

ForwardKernel attention_mma_kernel(DType dtype, int D, ForwardKind kind);  // bf16 and f16
ForwardKernel attention_fma_kernel(DType dtype, int D, ForwardKind kind);  // f32, and any D

#endif

}  // namespace heed::cuda
