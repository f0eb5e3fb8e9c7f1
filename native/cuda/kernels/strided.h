// Elementwise kernels over operands of one shape with any strides (0 broadcasts).
//
// The host makes a Loop (dimensions of size 1 are dropped, and those that are laid out as one in every operand are
// joined). It cuts the Loop into pieces with fewer than 2^31 elements and offsets, and passes each piece to a kernel as
// Elements: 32-bit indices, with division by multiplication. A thread has V elements. If every operand's rows are
// contiguous (or repeat one value), aligned and whole vectors long, these are neighbours and are read and written with
// one access of up to 16 bytes. Otherwise they lie a block's width apart, so that a warp's accesses are neighbours.
#pragma once
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

constexpr int kElementThreads = 256;

// n / divisor for n < 2^31: Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.
struct Division {
  uint32_t divisor, multiplier, shift;
};

template <int N>
struct Elements {
  uint32_t size;
  int32_t rank;              // at least 1
  int32_t vector;            // true if a thread's elements are neighbours
  Division shape[kMaxRank];  // innermost first
  uint32_t strides[N][kMaxRank];
};

#if HEED_DEVICE_CODE

__device__ __forceinline__ uint32_t divide(uint32_t n, const Division& by) {
  return (__umulhi(n, by.multiplier) + n) >> by.shift;
}

// Finds the places of L elements in each operand. Elements beyond the end get places that must not be used.
template <int N, int L>
__device__ __forceinline__ void locate(const Elements<N>& e, const uint32_t (&element)[L], uint32_t (&offset)[N][L]) {
  uint32_t rest[L];
#pragma unroll
  for (int k = 0; k < L; k++) rest[k] = element[k];
#pragma unroll
  for (int i = 0; i < N; i++)
#pragma unroll
    for (int k = 0; k < L; k++) offset[i][k] = 0;
  const int outermost = e.rank - 1;
#pragma unroll 1
  for (int d = 0; d < outermost; d++) {
    const Division size = e.shape[d];
#pragma unroll
    for (int k = 0; k < L; k++) {
      const uint32_t quotient = divide(rest[k], size), index = rest[k] - quotient * size.divisor;
      rest[k] = quotient;
#pragma unroll
      for (int i = 0; i < N; i++) offset[i][k] += index * e.strides[i][d];
    }
  }
#pragma unroll
  for (int i = 0; i < N; i++)
#pragma unroll
    for (int k = 0; k < L; k++) offset[i][k] += rest[k] * e.strides[i][outermost];
}

template <int N>
__device__ __forceinline__ void locate(const Elements<N>& e, uint32_t element, uint32_t (&offset)[N]) {
  const uint32_t one[1] = {element};
  uint32_t found[N][1];
  locate(e, one, found);
#pragma unroll
  for (int i = 0; i < N; i++) offset[i] = found[i][0];
}

// A thread's V elements.
template <int N, int V>
struct Lanes {
  bool vector;
  uint32_t live;  // one bit per element
  uint32_t offset[N][V];
};

// Elements first, first + 1, …, all of which lie in one row.
template <int V, int N>
__device__ __forceinline__ Lanes<N, V> vector_lanes(const Elements<N>& e, uint32_t first) {
  Lanes<N, V> at;
  at.vector = true;
  at.live = (1u << V) - 1;
  uint32_t offset[N];
  locate(e, first, offset);
#pragma unroll
  for (int i = 0; i < N; i++) at.offset[i][0] = offset[i];
  return at;
}

// Elements first, first + step, …, as far as they exist.
template <int V, int N>
__device__ __forceinline__ Lanes<N, V> single_lanes(const Elements<N>& e, uint32_t first, uint32_t step) {
  Lanes<N, V> at;
  at.vector = false;
  at.live = 0;
  uint32_t element[V];
#pragma unroll
  for (int k = 0; k < V; k++) {
    element[k] = first + k * step;
    at.live |= (element[k] < e.size ? 1u : 0u) << k;
  }
  locate(e, element, at.offset);
  return at;
}

// Lanes of a grid that has one thread for each V elements.
template <int V, int N>
__device__ __forceinline__ Lanes<N, V> lanes_of(const Elements<N>& e) {
  const uint32_t first = (blockIdx.x * kElementThreads + threadIdx.x) * V;
  if (e.vector && first + V <= e.size) return vector_lanes<V>(e, first);
  if (e.vector) return single_lanes<V>(e, first, 1);
  return single_lanes<V>(e, blockIdx.x * V * kElementThreads + threadIdx.x, kElementThreads);
}

// Loads the elements of operand i, whose first is at `data`; zeros for elements that do not exist.
template <int i, class T, int N, int V>
__device__ __forceinline__ Vector<T, V> load_lanes(const Elements<N>& e, const Lanes<N, V>& at, const void* data) {
  const T* p = static_cast<const T*>(data);
  Vector<T, V> x;
  if (at.vector) {
    if (e.strides[i][0] == 1) return Vector<T, V>::load(p + at.offset[i][0]);
    const T repeated = p[at.offset[i][0]];
#pragma unroll
    for (int k = 0; k < V; k++) x.at[k] = repeated;
    return x;
  }
#pragma unroll
  for (int k = 0; k < V; k++) x.at[k] = at.live >> k & 1 ? p[at.offset[i][k]] : T{};
  return x;
}

template <int i, class T, int N, int V>
__device__ __forceinline__ void store_lanes(const Lanes<N, V>& at, void* data, const Vector<T, V>& x) {
  T* p = static_cast<T*>(data);
  if (at.vector) return x.store(p + at.offset[i][0]);
#pragma unroll
  for (int k = 0; k < V; k++)
    if (at.live >> k & 1) p[at.offset[i][k]] = x.at[k];
}

// The same as f32.
template <int i, class T, int N, int V>
__device__ __forceinline__ void load_lane_floats(float (&x)[V], const Elements<N>& e, const Lanes<N, V>& at,
                                                 const void* data) {
  const Vector<T, V> stored = load_lanes<i, T>(e, at, data);
#pragma unroll
  for (int k = 0; k < V; k++) x[k] = to_float(stored.at[k]);
}

// Stores to operand i (default 0), which is an output: it is written or, with `accumulate`, added to.
template <class T, int i = 0, int N, int V>
__device__ __forceinline__ void store_lane_floats(const float (&x)[V], const Elements<N>& e, const Lanes<N, V>& at,
                                                  void* data, bool accumulate) {
  Vector<T, V> stored;
  if (accumulate) {
    stored = load_lanes<i, T>(e, at, data);
#pragma unroll
    for (int k = 0; k < V; k++) stored.at[k] = from_float<T>(to_float(stored.at[k]) + x[k]);
  } else {
#pragma unroll
    for (int k = 0; k < V; k++) stored.at[k] = from_float<T>(x[k]);
  }
  store_lanes<i>(at, data, stored);
}

#else

// Dimensions are outermost first. `first` and `offset` are the number of elements before this piece, in all and in each
// operand.
template <int N>
struct Loop {
  int rank = 0;
  int64_t size = 1, first = 0;
  int64_t shape[kMaxRank] = {};
  int64_t strides[N][kMaxRank] = {};
  int64_t offset[N] = {};

  int64_t row() const { return rank ? shape[rank - 1] : 1; }
  int64_t stride(int operand) const { return rank ? strides[operand][rank - 1] : 0; }
};

// `any` sorts the dimensions by the first operand's strides, the largest outermost. `logical` keeps their order, so
// that the flat index is the element's index in the tensor.
enum class Order { any, logical };

template <int N>
Loop<N> make_loop(const TensorView* const (&views)[N], Order order = Order::any) {
  int dims[kMaxRank], rank = 0;
  for (int d = 0; d < views[0]->rank; d++) {
    if (views[0]->shape[d] == 1) continue;
    int at = rank++;
    if (order == Order::any)
      for (; at > 0 && views[0]->strides[dims[at - 1]] < views[0]->strides[d]; at--) dims[at] = dims[at - 1];
    dims[at] = d;
  }
  Loop<N> loop;
  for (int k = 0; k < rank; k++) {
    const int d = dims[k], outer = loop.rank - 1;
    const int64_t size = views[0]->shape[d];
    loop.size *= size;
    bool joins = loop.rank > 0;
    for (int i = 0; joins && i < N; i++) joins = loop.strides[i][outer] == views[i]->strides[d] * size;
    const int to = joins ? outer : loop.rank++;
    loop.shape[to] = joins ? loop.shape[to] * size : size;
    for (int i = 0; i < N; i++) loop.strides[i][to] = views[i]->strides[d];
  }
  return loop;
}

// Calls f(piece) for parts of the outermost dimensions with fewer than 2^31 elements and offsets, in order of elements.
template <int N, class F>
void for_pieces(const Loop<N>& loop, const F& f) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  bool fits = loop.size < kLimit;
  for (int i = 0; i < N; i++) {
    int64_t extent = 1;
    for (int d = 0; d < loop.rank; d++) extent += (loop.shape[d] - 1) * loop.strides[i][d];
    fits = fits && extent < kLimit;
  }
  if (fits) return f(loop);
  const int64_t half = loop.shape[0] / 2, rest = loop.size / loop.shape[0];
  for (const bool upper : {false, true}) {
    Loop<N> part = loop;
    part.shape[0] = upper ? loop.shape[0] - half : half;
    part.size = part.shape[0] * rest;
    if (upper) {
      part.first += half * rest;
      for (int i = 0; i < N; i++) part.offset[i] += half * loop.strides[i][0];
    }
    if (part.shape[0] == 1) {  // not a dimension any more
      part.rank--;
      for (int d = 0; d < part.rank; d++) {
        part.shape[d] = part.shape[d + 1];
        for (int i = 0; i < N; i++) part.strides[i][d] = part.strides[i][d + 1];
      }
    }
    for_pieces(part, f);
  }
}

inline Division division_by(int64_t size) {
  const uint64_t divisor = static_cast<uint64_t>(size);
  uint32_t shift = 0;
  while ((uint64_t{1} << shift) < divisor) shift++;
  const uint64_t multiplier = ((((uint64_t{1} << shift) - divisor) << 32) / divisor) + 1;
  return {static_cast<uint32_t>(divisor), static_cast<uint32_t>(multiplier), shift};
}

// Returns true if rows are whole vectors of V elements in every operand; `data` is the place at which each operand
// begins.
template <int N>
bool fits_vectors(const Loop<N>& loop, const void* const (&data)[N], const DType (&dtypes)[N], int V) {
  if (loop.stride(0) != 1 || (loop.rank > 1 && loop.row() % V != 0)) return false;
  for (int i = 0; i < N; i++) {
    if (loop.stride(i) == 0) continue;
    if (loop.stride(i) != 1 || !is_aligned(data[i], V * static_cast<int64_t>(size_of(dtypes[i])))) return false;
    for (int d = 0; d < loop.rank - 1; d++)
      if (loop.strides[i][d] % V != 0) return false;
  }
  return true;
}

template <int N>
Elements<N> elements_of(const Loop<N>& loop) {
  Elements<N> e{};
  e.size = static_cast<uint32_t>(loop.size);
  e.rank = loop.rank ? loop.rank : 1;
  e.shape[0] = division_by(1);
  for (int d = 0; d < loop.rank; d++) {
    e.shape[d] = division_by(loop.shape[loop.rank - 1 - d]);
    for (int i = 0; i < N; i++) e.strides[i][d] = static_cast<uint32_t>(loop.strides[i][loop.rank - 1 - d]);
  }
  return e;
}

inline char* element_at(const TensorView& view, int64_t offset) {
  return static_cast<char*>(view.data) + offset * static_cast<int64_t>(size_of(view.dtype));
}

// Calls f(elements, data, blocks) for each launch over views of one shape, with V elements per thread.
template <int N, class F>
void for_launches(const TensorView* const (&views)[N], int V, const F& f) {
  for_pieces(make_loop(views), [&](const Loop<N>& piece) {
    void* data[N];
    const void* starts[N];
    DType dtypes[N];
    for (int i = 0; i < N; i++) {
      starts[i] = data[i] = element_at(*views[i], piece.offset[i]);
      dtypes[i] = views[i]->dtype;
    }
    Elements<N> elements = elements_of(piece);
    elements.vector = fits_vectors(piece, starts, dtypes, V);
    f(elements, data, ceil_div(piece.size, int64_t{kElementThreads} * V));
  });
}

// Returns the number of elements in a 16-byte access.
inline int vector_width(DType dtype) { return static_cast<int>(16 / size_of(dtype)); }

#endif

}  // namespace heed::cuda
