// scan (ops.def): cumulative sums and products along n of [outer, n, inner], in f32. A line whose elements are
// neighbours (inner is 1) is scanned by a warp, 32 elements at a time; other lines by a thread each, whose neighbours
// in a warp read neighbouring lines.
//
// The gradient of a product is described in cpu/kernels/scan.cc. A thread computes a line: it goes forward for the
// products before each element, which it keeps in memory, and then back.
#include "cuda/kernels/kernel.h"

#if !HEED_DEVICE_CODE
#include "core/checks/scan.h"
#endif

namespace heed::cuda {

constexpr int kScanThreads = 128;

struct ScanParams {
  void* out;
  const void *inp, *dout;  // dout and `before` for the gradient only
  float* before;
  int64_t lines, n, inner;
  bool product, exclusive, reverse, accumulate;
};

#if HEED_DEVICE_CODE

// Where a line begins and how far its elements are apart, in the order of the scan.
struct ScanLine {
  int64_t first, step;
  __device__ __forceinline__ ScanLine(const ScanParams& p, int64_t line, bool from_end) {
    const int64_t begin = line / p.inner * p.n * p.inner + line % p.inner;
    first = from_end ? begin + (p.n - 1) * p.inner : begin;
    step = from_end ? -p.inner : p.inner;
  }
  __device__ __forceinline__ int64_t at(int64_t i) const { return first + i * step; }
};

__device__ __forceinline__ float combined(const ScanParams& p, float a, float b) { return p.product ? a * b : a + b; }

template <class T>
__device__ __forceinline__ void scan_put(const ScanParams& p, int64_t at, float value) {
  T* const to = static_cast<T*>(p.out) + at;
  *to = from_float<T>(p.accumulate ? to_float(*to) + value : value);
}

template <class T>
__device__ void scan_warp_body(const ScanParams& p) {
  const int lane = threadIdx.x % 32;
  const int64_t number = (static_cast<int64_t>(blockIdx.x) * kScanThreads + threadIdx.x) / 32;
  if (number >= p.lines) return;
  const ScanLine line(p, number, p.reverse);
  const float neutral = p.product ? 1.0f : 0.0f;
  float total = neutral;
  for (int64_t begin = 0; begin < p.n; begin += 32) {
    const int64_t i = begin + lane;
    float x = i < p.n ? to_float(static_cast<const T*>(p.inp)[line.at(i)]) : neutral;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const float before = __shfl_up_sync(kFullWarp, x, offset);
      if (lane >= offset) x = combined(p, before, x);
    }
    const float before = __shfl_up_sync(kFullWarp, x, 1);
    const float value = !p.exclusive ? combined(p, total, x) : lane == 0 ? total : combined(p, total, before);
    if (i < p.n) scan_put<T>(p, line.at(i), value);
    total = combined(p, total, __shfl_sync(kFullWarp, x, 31));
  }
}

template <class T>
__device__ void scan_thread_body(const ScanParams& p) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kScanThreads + threadIdx.x;
  if (number >= p.lines) return;
  const ScanLine line(p, number, p.reverse);
  float total = p.product ? 1.0f : 0.0f;
  for (int64_t i = 0; i < p.n; i++) {
    const int64_t at = line.at(i);
    const float before = total;
    total = combined(p, total, to_float(static_cast<const T*>(p.inp)[at]));
    scan_put<T>(p, at, p.exclusive ? before : total);
  }
}

template <class T>
__device__ void scan_product_backward_body(const ScanParams& p) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kScanThreads + threadIdx.x;
  if (number >= p.lines) return;
  const T* const inp = static_cast<const T*>(p.inp);
  const ScanLine forward(p, number, p.reverse), back(p, number, !p.reverse);
  float product = 1;
  for (int64_t i = 0; i < p.n; i++) {
    const int64_t at = forward.at(i);
    p.before[at] = product;
    product *= to_float(inp[at]);
  }
  float sum = 0, x = 0, later = 0;
  for (int64_t i = 0; i < p.n; i++) {
    const int64_t at = back.at(i);
    const float dy = to_float(static_cast<const T*>(p.dout)[at]);
    sum = fmaf(x, sum, p.exclusive ? later : dy);
    later = dy;
    x = to_float(inp[at]);
    scan_put<T>(p, at, p.before[at] * sum);
  }
}

#endif

HEED_KERNEL_FLOATS(scan_warp_kernel, ScanParams, kScanThreads, 1, scan_warp_body)
HEED_KERNEL_FLOATS(scan_thread_kernel, ScanParams, kScanThreads, 1, scan_thread_body)
HEED_KERNEL_FLOATS(scan_product_backward_kernel, ScanParams, kScanThreads, 1, scan_product_backward_body)

#if !HEED_DEVICE_CODE

void host::scan(Stream& stream, Out out, In inp, Bool product, Bool exclusive, Bool reverse, Bool accumulate) {
  const char* op = "scan";
  check_scan(op, "out", out, "inp", inp);
  if (out.empty()) return;
  const int64_t inner = inp.shape[2], lines = inp.shape[0] * inner;
  const ScanParams p{out.data, inp.data, nullptr,   nullptr, lines,     inp.shape[1],
                     inner,    product,  exclusive, reverse, accumulate};
  if (inner == 1)
    stream.launch(op, scan_warp_kernel(inp.dtype), {ceil_div(lines, kScanThreads / 32)}, p);
  else
    stream.launch(op, scan_thread_kernel(inp.dtype), {ceil_div(lines, kScanThreads)}, p);
}

void host::scan_product_backward(Stream& stream, Out dinp, In dout, In inp, Bool exclusive, Bool reverse,
                                 Bool accumulate) {
  const char* op = "scan_product_backward";
  check_scan(op, "dinp", dinp, "inp", inp);
  check_scan(op, "dout", dout, "inp", inp);
  if (dinp.empty()) return;
  const Stream::Workspace before(stream, op, static_cast<size_t>(inp.numel()) * sizeof(float));
  const int64_t inner = inp.shape[2], lines = inp.shape[0] * inner;
  const ScanParams p{dinp.data, inp.data, dout.data, before.f32(), lines,     inp.shape[1],
                     inner,     true,     exclusive, reverse,      accumulate};
  stream.launch(op, scan_product_backward_kernel(inp.dtype), {ceil_div(lines, kScanThreads)}, p);
}

#endif

}  // namespace heed::cuda
