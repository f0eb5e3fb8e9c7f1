// cache_write: cache[b, starts[b] + t] = values[b, t] adds the new keys or values of each sequence to the ones it has.
// cache is [B, S, H, D], or [N, S, H, D] with pages (ops.def), and values [B, T, H, D], of any strides with D
// contiguous. If they have one dtype, one thread copies a unit of memory, which has 16 bytes if all rows allow it, and
// else one element; it rounds one element of f32 to a cache in 16 bits. With scales, cache receives codes, and one warp
// has the head of a token. If a start is out of range, nothing of its sequence is written; a page that does not exist
// is not written.
#include "core/checks/attention.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

struct CacheWriteParams {
  void* cache;
  const void* values;
  float* scales;          // or null
  const int32_t* starts;  // [B] or null
  const int32_t* pages;   // [B, columns] or null
  int64_t columns, page_size, page_count;
  int64_t n, T, H, row;                         // in all, and units of a head; n counts threads
  int64_t cache_strides[3], values_strides[3];  // in units
  int64_t last_start;
  FaultSink fault;
};

#if HEED_DEVICE_CODE

// A head of a new token: where it comes from, where it goes to, and the place of its scale.
struct CacheRow {
  int64_t from, to, scale;
  bool exists = false;

  // The first thread that has a row that does not exist says so.
  __device__ __forceinline__ CacheRow(const CacheWriteParams& p, int64_t i, bool first_thread) {
    const int64_t h = i % p.H;
    i /= p.H;
    const int64_t t = i % p.T, b = i / p.T;
    const int64_t start = p.starts ? p.starts[b] : 0;
    const bool reports = h == 0 && first_thread;
    if (start < 0 || start > p.last_start) {
      if (t == 0 && reports) report_fault(p.fault, FaultKind::start, start, p.last_start, b);
      return;
    }
    int64_t row = b, token = start + t;
    if (p.pages) {
      const int64_t entry = b * p.columns + token / p.page_size;
      row = p.pages[entry];
      token %= p.page_size;
      if (row < 0 || row >= p.page_count) {
        if (reports) report_fault(p.fault, FaultKind::page, row, p.page_count - 1, entry, p.columns);
        return;
      }
    }
    exists = true;
    from = b * p.values_strides[0] + t * p.values_strides[1] + h * p.values_strides[2];
    to = row * p.cache_strides[0] + token * p.cache_strides[1] + h * p.cache_strides[2];
    scale = (row * p.page_size + token) * p.H + h;
  }
};

template <class Unit>
__device__ void cache_write_body(const CacheWriteParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const int64_t unit = i % p.row;
  const CacheRow row(p, i / p.row, unit == 0);
  if (row.exists) static_cast<Unit*>(p.cache)[row.to + unit] = static_cast<const Unit*>(p.values)[row.from + unit];
}

template <class T>
__device__ void cache_write_rounded(const CacheWriteParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const int64_t element = i % p.row;
  const CacheRow row(p, i / p.row, element == 0);
  if (!row.exists) return;
  static_cast<T*>(p.cache)[row.to + element] = from_float<T>(static_cast<const float*>(p.values)[row.from + element]);
}

template <class T>
__device__ void cache_write_codes(const CacheWriteParams& p) {
  constexpr float kMostCode = 127, kSmallestScale = 1.17549435e-38f;
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (i >= p.n / 32) return;
  const CacheRow row(p, i, lane == 0);
  if (!row.exists) return;
  const T* const x = static_cast<const T*>(p.values) + row.from;
  uint8_t* const codes = static_cast<uint8_t*>(p.cache) + row.to;
  float most = 0, nan = 0;
  for (int64_t d = lane; d < p.row; d += 32) {
    const float value = to_float(x[d]);
    most = fmaxf(most, fabsf(value));
    nan += value - value;  // NaN for numbers that are not finite, and else 0
  }
  float scale = __fdiv_rn(warp_max(most), kMostCode);
  if (scale < kSmallestScale) scale = 0;
  scale += warp_sum(nan);
  if (lane == 0) p.scales[row.scale] = scale;
  for (int64_t d = lane; d < p.row; d += 32)
    codes[d] = scale > 0 ? static_cast<uint8_t>(__float2int_rn(__fdiv_rn(to_float(x[d]), scale))) : 0;
}

#endif

HEED_KERNEL(cache_write_16, CacheWriteParams, 256, 1, cache_write_body<uint4>)
HEED_KERNEL(cache_write_4, CacheWriteParams, 256, 1, cache_write_body<uint32_t>)
HEED_KERNEL(cache_write_2, CacheWriteParams, 256, 1, cache_write_body<uint16_t>)
HEED_KERNEL(cache_write_1, CacheWriteParams, 256, 1, cache_write_body<uint8_t>)
HEED_KERNEL(cache_write_rounded_bf16, CacheWriteParams, 256, 1, cache_write_rounded<bf16>)
HEED_KERNEL(cache_write_rounded_f16, CacheWriteParams, 256, 1, cache_write_rounded<f16>)
HEED_KERNEL(cache_write_codes_f32, CacheWriteParams, 256, 1, cache_write_codes<float>)
HEED_KERNEL(cache_write_codes_bf16, CacheWriteParams, 256, 1, cache_write_codes<bf16>)
HEED_KERNEL(cache_write_codes_f16, CacheWriteParams, 256, 1, cache_write_codes<f16>)

#if !HEED_DEVICE_CODE

namespace {

Kernel<CacheWriteParams>& copy_kernel(int64_t unit) {
  return unit == 16 ? cache_write_16 : unit == 4 ? cache_write_4 : unit == 2 ? cache_write_2 : cache_write_1;
}
Kernel<CacheWriteParams>& rounding_kernel(DType dtype) {
  return dtype == DType::bf16 ? cache_write_rounded_bf16 : cache_write_rounded_f16;
}
Kernel<CacheWriteParams>& codes_kernel(DType dtype) {
  return dtype == DType::f32    ? cache_write_codes_f32
         : dtype == DType::bf16 ? cache_write_codes_bf16
                                : cache_write_codes_f16;
}

}  // namespace

void host::cache_write(Stream& stream, AnyInOut cache, OptIn scales, In values, OptIn starts, OptIn pages) {
  const char* op = "cache_write";
  check_cache_write(op, cache, scales, values, starts, pages);
  if (values.empty()) return;

  const int64_t item = static_cast<int64_t>(size_of(values.dtype));
  const int64_t columns = pages ? pages->shape[1] : 1;
  const int64_t B = values.shape[0], T = values.shape[1], H = values.shape[2], D = values.shape[3];
  // Strides of dimensions of size 1 have no effect.
  int64_t bits = reinterpret_cast<intptr_t>(cache.data) | reinterpret_cast<intptr_t>(values.data) | D * item;
  for (int d = 0; d < 3; d++) {
    if (cache.shape[d] > 1) bits |= cache.strides[d] * item;
    if (values.shape[d] > 1) bits |= values.strides[d] * item;
  }
  const bool copies = cache.dtype == values.dtype;
  const int64_t unit = copies && bits % 16 == 0 ? 16 : item;
  CacheWriteParams p{cache.data,
                     values.data,
                     scales ? scales->f32() : nullptr,
                     starts ? starts->i32() : nullptr,
                     pages ? pages->i32() : nullptr,
                     columns,
                     cache.shape[1],
                     cache.shape[0],
                     scales ? 32 * B * T * H : values.numel() * item / unit,
                     T,
                     H,
                     D * item / unit,
                     {},
                     {},
                     columns * cache.shape[1] - T,
                     stream.fault(op)};
  for (int d = 0; d < 3; d++) {
    p.cache_strides[d] = cache.shape[d] > 1 ? cache.strides[d] * item / unit : 0;  // codes are units, too
    p.values_strides[d] = values.shape[d] > 1 ? values.strides[d] * item / unit : 0;
  }
  Kernel<CacheWriteParams>& kernel = scales   ? codes_kernel(values.dtype)
                                     : copies ? copy_kernel(unit)
                                              : rounding_kernel(cache.dtype);
  stream.launch(op, kernel, {(p.n + 255) / 256}, p);
}

#endif

}  // namespace heed::cuda
