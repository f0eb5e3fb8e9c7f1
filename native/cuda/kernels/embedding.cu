// Embedding: out[i, C] = weight[ids[i], C]; backward dweight[ids[i], C] (+)= Σ dout[i, C].
//
// Forward: a warp copies up to 2 KB of a row. Rows of 16 bits that become f32 are copied first and then widened.
// Backward uses no atomics on floats and gives the same bits each time. Positions are sorted by id (a stable radix sort
// with eight bits per pass, so that positions of one id stay in order). Blocks of 32 sorted positions sum the runs of
// equal ids, one thread per vector of columns. Runs that continue beyond a block leave a part for each block, and the
// last kernel sums the parts in order. Ids out of range are reported: their rows of out are 0, and they add to no row
// of dweight. Backward needs the ids only.
#include "cuda/kernels/columns.h"
#include "cuda/kernels/rows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/embedding.h"
#endif

namespace heed::cuda {

struct EmbeddingForwardParams {
  void* out;
  const int32_t* ids;
  const void* weight;
  bool weight_f32;
  bool vectors;  // rows of out and weight are whole vectors
  int64_t n, V, C;
  FaultSink fault;
};

// One pass of the sort over eight bits of the keys. A key is an id, or V for an id that is out of range.
struct EmbeddingSortParams {
  const int32_t* ids;
  const int32_t* before;  // positions in the order of the previous pass; null in the first pass
  int32_t* after;
  int32_t* counts;  // [tiles][256] keys by digit
  int shift;
  int64_t n, V;
  FaultSink fault;
};

struct EmbeddingSumParams {
  Parameter dweight;
  float* parts;  // [blocks][2][C]: a block's first run if it began earlier, and its last run if it continues
  const void* dout;
  const int32_t *ids, *order;
  bool accumulate;
  int64_t n, V, C;
};

constexpr int kCopyWarps = 8, kCopySlots = 4;  // rows of a block; slots that a lane loads at once
constexpr int kSortThreads = 256, kSortItems = 8, kSortTile = kSortThreads * kSortItems, kDigits = 256;
constexpr int kSumThreads = 64, kRun = 32;  // vectors of columns; sorted positions of a block

#if HEED_DEVICE_CODE

// Copies columns [begin, begin + kCopySlots · 32 slots) of one row.
template <class T, class W>
__device__ __forceinline__ void copy_columns(T* out, const W* row, bool vectors, int64_t begin, int64_t C) {
  constexpr int kPart = 16 / sizeof(W), kParts = kLength<T> / kPart;  // a slot of f32 weights is read in two parts
  const int lane = threadIdx.x % 32;
  if (!vectors) {
    const int64_t end = min(begin + kCopySlots * 32 * kLength<T>, C);
    for (int64_t c = begin + lane; c < end; c += 32) out[c] = from_float<T>(to_float(row[c]));
    return;
  }
  constexpr int V = kLength<T>;
  Vector<W, kPart> v[kCopySlots][kParts];
#pragma unroll
  for (int j = 0; j < kCopySlots; j++)
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      const int64_t c = begin + (lane + j * 32) * V + part * kPart;
      if (c < C) v[j][part] = Vector<W, kPart>::load(row + c);
    }
#pragma unroll
  for (int j = 0; j < kCopySlots; j++) {
    const int64_t c = begin + (lane + j * 32) * V;
    if (c >= C) break;
    Slot<T> slot;
#pragma unroll
    for (int e = 0; e < V; e++) slot.at[e] = from_float<T>(to_float(v[j][e / kPart].at[e % kPart]));
    store_whole(out + c, slot);
  }
}

template <class T>
__device__ __forceinline__ void embedding_forward_body(const EmbeddingForwardParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kCopyWarps + threadIdx.x / 32;
  if (i >= p.n) return;
  const int64_t begin = block_y() * (kCopySlots * 32 * kLength<T>), id = p.ids[i];
  T* out = static_cast<T*>(p.out) + i * p.C;
  if (id < 0 || id >= p.V) {
    if (threadIdx.x % 32 == 0 && begin == 0) report_fault(p.fault, FaultKind::id, id, p.V, i);
    const int64_t end = min(begin + kCopySlots * 32 * kLength<T>, p.C);
    for (int64_t c = begin + threadIdx.x % 32; c < end; c += 32) out[c] = from_float<T>(0);
  } else if (p.weight_f32) {
    copy_columns(out, static_cast<const float*>(p.weight) + id * p.C, p.vectors, begin, p.C);
  } else {
    copy_columns(out, static_cast<const T*>(p.weight) + id * p.C, p.vectors, begin, p.C);
  }
}

__device__ __forceinline__ int64_t key_of(const int32_t* ids, int64_t V, int64_t position) {
  const int64_t id = ids[position];
  return id < 0 || id >= V ? V : id;
}

__device__ __forceinline__ int digit_of(const EmbeddingSortParams& p, int64_t position) {
  return static_cast<int>(key_of(p.ids, p.V, position) >> p.shift) % kDigits;
}

__device__ __forceinline__ void embedding_count_body(const EmbeddingSortParams& p) {
  __shared__ int32_t counts[kDigits];
  counts[threadIdx.x] = 0;
  __syncthreads();
#pragma unroll
  for (int item = 0; item < kSortItems; item++) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kSortTile + item * kSortThreads + threadIdx.x;
    if (i >= p.n) break;
    const int64_t position = p.before ? p.before[i] : i;
    atomicAdd(&counts[digit_of(p, position)], 1);
    const int64_t id = p.ids[position];
    if (!p.before && (id < 0 || id >= p.V)) report_fault(p.fault, FaultKind::id, id, p.V, position);
  }
  __syncthreads();
  p.counts[static_cast<int64_t>(blockIdx.x) * kDigits + threadIdx.x] = counts[threadIdx.x];
}

// Returns the sum of x over the threads before this one.
__device__ __forceinline__ int32_t exclusive_sum(int32_t x) {
  __shared__ int32_t warps[kSortThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t inclusive = x;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int32_t lower = __shfl_up_sync(kFullWarp, inclusive, offset);
    if (lane >= offset) inclusive += lower;
  }
  if (lane == 31) warps[warp] = inclusive;
  __syncthreads();
  int32_t sum = inclusive - x;
  for (int w = 0; w < warp; w++) sum += warps[w];
  return sum;
}

// Puts the keys of a tile into their places: after the keys of smaller digits, then after those of the same digit in
// earlier tiles, then in earlier warps, then in earlier lanes.
__device__ __forceinline__ void embedding_scatter_body(const EmbeddingSortParams& p) {
  constexpr int kWarps = kSortThreads / 32;
  __shared__ int32_t starts[kWarps][kDigits];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t total = 0, earlier = 0;
#pragma unroll 4
  for (int64_t tile = 0; tile < gridDim.x; tile++) {
    const int32_t count = p.counts[tile * kDigits + threadIdx.x];
    total += count;
    if (tile < blockIdx.x) earlier += count;
  }
  const int32_t start = exclusive_sum(total) + earlier;
#pragma unroll
  for (int w = 0; w < kWarps; w++) starts[w][threadIdx.x] = 0;
  __syncthreads();

  int32_t position[kSortItems], rank[kSortItems];
  int digit[kSortItems];
#pragma unroll
  for (int item = 0; item < kSortItems; item++) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kSortTile + (warp * kSortItems + item) * 32 + lane;
    const bool valid = i < p.n;
    position[item] = !valid ? -1 : p.before ? p.before[i] : static_cast<int32_t>(i);
    digit[item] = valid ? digit_of(p, position[item]) : 0;
    unsigned peers = __ballot_sync(kFullWarp, valid);  // lanes with the same digit
#pragma unroll
    for (int bit = 1; bit < kDigits; bit *= 2) {
      const unsigned ones = __ballot_sync(kFullWarp, digit[item] & bit);
      peers &= digit[item] & bit ? ones : ~ones;
    }
    const int before = __popc(peers & ((1u << lane) - 1));
    rank[item] = starts[warp][digit[item]] + before;
    __syncwarp();
    if (valid && before == 0) starts[warp][digit[item]] += __popc(peers);
    __syncwarp();
  }
  __syncthreads();
  int32_t next = start;
#pragma unroll
  for (int w = 0; w < kWarps; w++) {
    const int32_t count = starts[w][threadIdx.x];
    starts[w][threadIdx.x] = next;
    next += count;
  }
  __syncthreads();
#pragma unroll
  for (int item = 0; item < kSortItems; item++)
    if (position[item] >= 0) p.after[starts[warp][digit[item]] + rank[item]] = position[item];
}

// Returns the key at a place in the sorted order, or -1 outside it.
__device__ __forceinline__ int64_t sorted_key(const EmbeddingSumParams& p, int64_t i) {
  return i < 0 || i >= p.n ? -1 : key_of(p.ids, p.V, p.order[i]);
}

template <class T, bool kInVectors>
__device__ __forceinline__ void embedding_sum_body(const EmbeddingSumParams& p) {
  constexpr int V = kVectorLength<T, kInVectors>, kAhead = 4;
  __shared__ int64_t keys[kRun + 2];  // including the key before and the key after
  __shared__ int32_t positions[kRun];
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kRun;
  const int count = static_cast<int>(min(int64_t{kRun}, p.n - begin));
  if (threadIdx.x < count + 2) keys[threadIdx.x] = sorted_key(p, begin + threadIdx.x - 1);
  if (threadIdx.x < count) positions[threadIdx.x] = p.order[begin + threadIdx.x];
  __syncthreads();

  const int64_t vectors = p.C / V, vector = block_y() * kSumThreads + threadIdx.x;
  if (vector >= vectors) return;
  float* parts = p.parts + static_cast<int64_t>(blockIdx.x) * 2 * p.C + vector * V;
  Floats<V> sum = splat<float, V>(0);
  int first = 0;  // first position of the run
  for (int i = 0; i < count; i += kAhead) {
    Vector<T, V> rows[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; k++)
      if (i + k < count) rows[k] = load_vector<T, V>(p.dout, positions[i + k] * p.C, vector, vectors);
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      const int at = i + k;
      if (at >= count) break;
#pragma unroll
      for (int e = 0; e < V; e++) sum.at[e] += to_float(rows[k].at[e]);
      const int64_t key = keys[at + 1], next = keys[at + 2];
      if (at + 1 < count && next == key) continue;
      const bool began_earlier = first == 0 && keys[0] == key, goes_on = next == key;
      if (began_earlier || goes_on)
        store_floats(parts + (began_earlier ? 0 : p.C), sum);
      else if (key < p.V)
        store_gradient<T, V>(p.dweight, key * p.C + vector * V, sum, p.accumulate);
      sum = splat<float, V>(0);
      first = at + 1;
    }
  }
}

// Blocks (blocks of sorted positions, columns): computes the sum of the run that begins in the block and continues
// beyond it.
template <class T>
__device__ __forceinline__ void embedding_join_body(const EmbeddingSumParams& p) {
  const int64_t block = blockIdx.x, begin = block * kRun, end = begin + kRun;
  if (end >= p.n) return;
  const int64_t key = sorted_key(p, end);
  if (key >= p.V || sorted_key(p, end - 1) != key || sorted_key(p, begin - 1) == key) return;
  const int64_t c = block_y() * kRowThreads + threadIdx.x;
  if (c >= p.C) return;
  int64_t last = block + 1, beyond = (p.n + kRun - 1) / kRun;  // `last`: the last block that begins with the run
  while (beyond - last > 1) {
    const int64_t middle = (last + beyond) / 2;
    (sorted_key(p, middle * kRun) == key ? last : beyond) = middle;
  }
  float sum = p.parts[(block * 2 + 1) * p.C + c];
#pragma unroll 8
  for (int64_t b = block + 1; b <= last; b++) sum += p.parts[b * 2 * p.C + c];
  store_gradient<T, 1>(p.dweight, key * p.C + c, {sum}, p.accumulate);
}

#endif

HEED_KERNEL_FLOATS(embedding_copy, EmbeddingForwardParams, kCopyWarps * 32, 2, embedding_forward_body)
HEED_KERNEL(embedding_count, EmbeddingSortParams, kSortThreads, 1, embedding_count_body)
HEED_KERNEL(embedding_scatter, EmbeddingSortParams, kSortThreads, 1, embedding_scatter_body)
HEED_KERNEL_FLOATS(embedding_sum, EmbeddingSumParams, kSumThreads, 8, embedding_sum_body, true)
HEED_KERNEL_FLOATS(embedding_sum_scalar, EmbeddingSumParams, kSumThreads, 8, embedding_sum_body, false)
HEED_KERNEL_FLOATS(embedding_join, EmbeddingSumParams, kRowThreads, 1, embedding_join_body)

#if !HEED_DEVICE_CODE

void host::embedding_forward(Stream& stream, Out out, In ids, In weight) {
  const char* op = "embedding_forward";
  check_embedding_forward(op, out, ids, weight);
  if (out.empty()) return;
  if (size_of(weight.dtype) < size_of(out.dtype)) {
    const Stream::Workspace memory(stream, op, static_cast<size_t>(out.numel()) * size_of(weight.dtype));
    TensorView rows = out;
    rows.dtype = weight.dtype;
    rows.data = memory.as<void>();
    host::embedding_forward(stream, rows, ids, weight);
    return host::copy(stream, out, rows, false);
  }
  const int64_t n = ids.numel(), C = weight.dim(1), length = 16 / static_cast<int64_t>(size_of(out.dtype));
  const bool vectors = in_vectors(C, &out, &weight);
  // i32 is moved as f32, whose bits the kernel does not change.
  const DType dtype = out.dtype == DType::i32 ? DType::f32 : out.dtype;
  const bool wide = size_of(weight.dtype) == 4;
  const EmbeddingForwardParams p{out.data,      ids.i32(), weight.data,     wide, vectors, n,
                                 weight.dim(0), C,         stream.fault(op)};
  const Grid grid = tall_grid(ceil_div(n, kCopyWarps), ceil_div(C, kCopySlots * 32 * length));
  stream.launch(op, embedding_copy(dtype), grid, p);
}

void host::embedding_backward(Stream& stream, Out dweight, In dout, In ids, Bool accumulate) {
  const char* op = "embedding_backward";
  check_embedding_backward(op, dweight, dout, ids);
  const int64_t n = ids.numel(), V = dweight.dim(0), C = dweight.dim(1);
  if (!accumulate && !dweight.empty())
    stream.zero(op, dweight.data, static_cast<size_t>(dweight.numel()) * size_of(dweight.dtype));
  if (dout.empty()) return;

  const int64_t tiles = ceil_div(n, kSortTile), blocks = ceil_div(n, kRun);
  const Stream::Workspace sorted(stream, op, static_cast<size_t>(2 * n + tiles * kDigits) * sizeof(int32_t));
  const Stream::Workspace parts(stream, op, static_cast<size_t>(blocks * 2 * C) * sizeof(float));
  int32_t* const orders[2] = {sorted.as<int32_t>(), sorted.as<int32_t>() + n};
  EmbeddingSortParams sort{ids.i32(), nullptr, nullptr, orders[1] + n, 0, n, V, stream.fault(op)};
  for (int pass = 0; pass == 0 || V >> (8 * pass) > 0; pass++) {
    sort.shift = 8 * pass;
    sort.after = orders[pass % 2];
    stream.launch(op, embedding_count, {tiles}, sort);
    stream.launch(op, embedding_scatter, {tiles}, sort);
    sort.before = sort.after;
  }
  const EmbeddingSumParams p{
      parameter_of(&dweight), parts.f32(), dout.data, ids.i32(), sort.before, accumulate, n, V, C};
  const bool vectors = in_vectors(C, &dweight, &dout);
  const int64_t length = vectors ? 16 / static_cast<int64_t>(size_of(dout.dtype)) : 1;
  stream.launch(op, (vectors ? embedding_sum : embedding_sum_scalar)(dout.dtype),
                tall_grid(blocks, ceil_div(C, length * kSumThreads)), p);
  stream.launch(op, embedding_join(dout.dtype), tall_grid(blocks, ceil_div(C, kRowThreads)), p);
}

#endif

}  // namespace heed::cuda
