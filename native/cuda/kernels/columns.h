// Rows of C elements in which a lane has the same columns of each row: lane l of kLanes has the vectors l, l + kLanes,
// ... of V elements. V is 16 bytes of T if all rows lie on 16-byte boundaries (in_vectors on the host), and 1
// otherwise. Parameters and their gradients, with one value per column, lie in the same vectors; they are of dtype T or
// f32.
#pragma once
#include "cuda/kernels/slots.h"

namespace heed::cuda {

// A parameter or its gradient; data is null if there is none.
struct Parameter {
  void* data;
  bool is_f32;
};

#if HEED_DEVICE_CODE

// The vector length V.
template <class T, bool kInVectors>
constexpr int kVectorLength = kInVectors ? kLength<T> : 1;

template <int V>
using Floats = Vector<float, V>;

template <class T, int V>
__device__ __forceinline__ Floats<V> to_floats(const Vector<T, V>& x) {
  Floats<V> v;
#pragma unroll
  for (int e = 0; e < V; e++) v.at[e] = to_float(x.at[e]);
  return v;
}

template <class T, int V>
__device__ __forceinline__ Vector<T, V> splat(float value) {
  Vector<T, V> v;
#pragma unroll
  for (int e = 0; e < V; e++) v.at[e] = from_float<T>(value);
  return v;
}

// Loads a vector of a row that has `vectors` of them, or zeros beyond the row.
template <class T, int V, class Index>
__device__ __forceinline__ Vector<T, V> load_vector(const void* data, int64_t row, Index vector, Index vectors) {
  if (vector < vectors) return Vector<T, V>::load(static_cast<const T*>(data) + row + vector * V);
  return splat<T, V>(0);
}

template <class T, int V>
__device__ __forceinline__ void store_vector(T* address, const Vector<T, V>& v) {
  if constexpr (sizeof v == 16)
    store_whole(address, v);
  else
    v.store(address);
}

// Loads V floats, in accesses of 16 bytes if there are enough of them.
template <int V>
__device__ __forceinline__ Floats<V> load_floats(const float* address) {
  constexpr int kPart = V < 4 ? V : 4;
  Floats<V> v;
#pragma unroll
  for (int part = 0; part < V; part += kPart) {
    const Floats<kPart> values = Floats<kPart>::load(address + part);
#pragma unroll
    for (int e = 0; e < kPart; e++) v.at[part + e] = values.at[e];
  }
  return v;
}
template <int V>
__device__ __forceinline__ void store_floats(float* address, const Floats<V>& v) {
  constexpr int kPart = V < 4 ? V : 4;
#pragma unroll
  for (int part = 0; part < V; part += kPart) {
    Floats<kPart> values;
#pragma unroll
    for (int e = 0; e < kPart; e++) values.at[e] = v.at[part + e];
    store_vector(address + part, values);
  }
}

// Loads columns [c, c + V) of a parameter, or `absent` if there is none.
template <class T, int V>
__device__ __forceinline__ Floats<V> load_parameter(const Parameter& parameter, int64_t c, float absent) {
  if (!parameter.data) return splat<float, V>(absent);
  if (parameter.is_f32) return load_floats<V>(static_cast<const float*>(parameter.data) + c);
  return to_floats(Vector<T, V>::load(static_cast<const T*>(parameter.data) + c));
}

// Writes a gradient or adds to it.
template <class T, int V>
__device__ __forceinline__ void store_gradient(const Parameter& gradient, int64_t c, Floats<V> v, bool accumulate) {
  if (accumulate) {
    const Floats<V> before = load_parameter<T, V>(gradient, c, 0);
#pragma unroll
    for (int e = 0; e < V; e++) v.at[e] += before.at[e];
  }
  if (gradient.is_f32) return store_floats(static_cast<float*>(gradient.data) + c, v);
  Vector<T, V> stored;
#pragma unroll
  for (int e = 0; e < V; e++) stored.at[e] = from_float<T>(v.at[e]);
  store_vector(static_cast<T*>(gradient.data) + c, stored);
}

// A row of f32 in shared memory. The groups of four of a vector lie apart, so that the lanes of a warp access 16 bytes
// each without bank conflicts. (For vectors of one element, a group has one element.)
template <int V>
struct SharedRow {
  static constexpr int kPart = V < 4 ? V : 4;
  float* memory;
  int vectors;

  __device__ __forceinline__ SharedRow(float* memory, int n) : memory(memory), vectors(n / V) {}
  __device__ __forceinline__ float* part(int vector, int k) const { return memory + (k * vectors + vector) * kPart; }

  __device__ __forceinline__ Floats<V> load(int vector) const {
    Floats<V> v;
#pragma unroll
    for (int k = 0; k < V / kPart; k++) {
      const Floats<kPart> values = Floats<kPart>::load(part(vector, k));
#pragma unroll
      for (int e = 0; e < kPart; e++) v.at[k * kPart + e] = values.at[e];
    }
    return v;
  }
  __device__ __forceinline__ void store(int vector, const Floats<V>& v) const {
#pragma unroll
    for (int k = 0; k < V / kPart; k++) {
      Floats<kPart> values;
#pragma unroll
      for (int e = 0; e < kPart; e++) values.at[e] = v.at[k * kPart + e];
      values.store(part(vector, k));
    }
  }
  // Returns the q-th group of four of the row.
  __device__ __forceinline__ float* four(int q) const { return part(q / (V / kPart), q % (V / kPart)); }

  // Fills the whole row from a parameter, or with `absent` if there is none. The caller is responsible for the barrier.
  template <class T>
  __device__ __forceinline__ void fill(const Parameter& parameter, float absent) const {
    for (int q = threadIdx.x; q < vectors * (V / kPart); q += blockDim.x)
      load_parameter<T, kPart>(parameter, q * kPart, absent).store(four(q));
  }
  __device__ __forceinline__ void copy_to(float* row) const {
    for (int q = threadIdx.x; q < vectors * (V / kPart); q += blockDim.x)
      store_vector(row + q * kPart, Floats<kPart>::load(four(q)));
  }
};

#else

inline Parameter parameter_of(OptIn view) { return {view ? view->data : nullptr, view && view->dtype == DType::f32}; }

// Returns true if the rows of C elements of all given tensors lie on 16-byte boundaries.
template <class... Views>
bool in_vectors(int64_t C, const Views*... views) {
  bool aligned = true;
  const auto look = [&](const TensorView* view) {
    if (!view) return;
    const int64_t bytes = C * static_cast<int64_t>(size_of(view->dtype));
    aligned = aligned && bytes % 16 == 0 && is_aligned(view->data);
  };
  (look(views), ...);
  return aligned;
}

#endif

}  // namespace heed::cuda
