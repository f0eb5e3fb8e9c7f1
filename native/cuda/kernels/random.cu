// Normal and uniform random tensors of a float dtype, contiguous. Element i depends only on the seed and on i
// (philox.h). It is drawn as f32, the same on every device, and rounded to the dtype; a uniform number stays in [low,
// high).
//
// Normal: Box and Muller (1958). Words 2j and 2j + 1 of a block give u in (0, 1] and v in [0, 1), and its elements 2j
// and 2j + 1 are sqrt(-2 ln u) · cos 2πv and sqrt(-2 ln u) · sin 2πv, computed in f64 and rounded once. A thread draws
// a block and writes its four elements.
#include <cmath>

#include "core/checks/elementwise.h"
#include "cuda/kernels/philox.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

// a and b are the mean and the standard deviation, or low and high.
struct RandomParams {
  void* out;
  int64_t n;
  uint64_t seed;
  double a, b;
  UniformBounds bounds;
  int32_t vector;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ __forceinline__ void store_block(const RandomParams& p, int64_t block, const float (&x)[4]) {
  T* out = static_cast<T*>(p.out) + block * 4;
  if (p.vector && block * 4 + 4 <= p.n) {
    Vector<T, 4> v;
#pragma unroll
    for (int k = 0; k < 4; k++) v.at[k] = from_float<T>(x[k]);
    return v.store(out);
  }
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (block * 4 + k < p.n) out[k] = from_float<T>(x[k]);
}

template <class T>
__device__ void random_normal_body(const RandomParams& p) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  if (block * 4 >= p.n) return;
  const PhiloxBlock words = philox(p.seed, block, kTensorDraws);
  float x[4];
#pragma unroll 1
  for (int pair = 0; pair < 2; pair++) {
    const uint32_t u = pair ? words.word[2] : words.word[0], v = pair ? words.word[3] : words.word[1];
    const double radius = p.b * sqrt(-2.0 * log((u + 1.0) * 0x1p-32));
    double sine, cosine;
    sincospi(2.0 * (v * 0x1p-32), &sine, &cosine);
    const float first = static_cast<float>(p.a + radius * cosine), second = static_cast<float>(p.a + radius * sine);
    if (pair) {
      x[2] = first;
      x[3] = second;
    } else {
      x[0] = first;
      x[1] = second;
    }
  }
  store_block<T>(p, block, x);
}

// If numbers stay between these bounds, rounding to T does not leave the interval.
template <class T>
__device__ void random_uniform_body(const RandomParams& p) {
  const int64_t block = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  if (block * 4 >= p.n) return;
  const PhiloxBlock words = philox(p.seed, block, kTensorDraws);
  const double span = p.b - p.a;
  float x[4];
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const float value = static_cast<float>(p.a + span * uniform01(words.word[k]));
    x[k] = fminf(fmaxf(value, p.bounds.first), p.bounds.last);
  }
  store_block<T>(p, block, x);
}

#endif

HEED_KERNEL_FLOATS(random_normal_kernel, RandomParams, kElementThreads, 1, random_normal_body)
HEED_KERNEL_FLOATS(random_uniform_kernel, RandomParams, kElementThreads, 1, random_uniform_body)

#if !HEED_DEVICE_CODE

namespace {

RandomParams params_for(Out out, Int seed, double a, double b) {
  RandomParams p{};
  p.out = out.data;
  p.n = out.numel();
  p.seed = static_cast<uint64_t>(seed);
  p.a = a;
  p.b = b;
  p.vector = is_aligned(out.data, 4 * static_cast<int64_t>(size_of(out.dtype)));
  return p;
}

Grid grid_for(Out out) { return {ceil_div(out.numel(), 4 * kElementThreads)}; }

}  // namespace

void host::random_normal(Stream& stream, Out out, Float mean, Float stddev, Int seed) {
  check_random_normal(out, mean, stddev);
  if (out.empty()) return;
  const RandomParams p = params_for(out, seed, static_cast<double>(mean), static_cast<double>(stddev));
  stream.launch("random_normal", random_normal_kernel(out.dtype), grid_for(out), p);
}

void host::random_uniform(Stream& stream, Out out, Float low, Float high, Int seed) {
  check_random_uniform(out, low, high);
  if (out.empty()) return;
  RandomParams p = params_for(out, seed, static_cast<double>(low), static_cast<double>(high));
  p.bounds = uniform_bounds(out.dtype, low, high);
  stream.launch("random_uniform", random_uniform_kernel(out.dtype), grid_for(out), p);
}

#endif

}  // namespace heed::cuda
