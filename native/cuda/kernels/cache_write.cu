// cache_write: cache[b, starts[b] + t] = values[b, t] adds the new keys or values of each sequence to the ones it has.
// cache is [B, S, H, D], or [N, S, H, D] with pages (ops.def), and values [B, T, H, D]. They have one dtype, and any
// strides with D contiguous. One thread copies a unit of memory, which has 16 bytes if all rows allow it, and else one
// element. If a start is out of range, nothing of its sequence is written; a page that does not exist is not written.
#include "core/checks/attention.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

struct CacheWriteParams {
  void* cache;
  const void* values;
  const int32_t* starts;  // [B] or null
  const int32_t* pages;   // [B, columns] or null
  int64_t columns, page_size, page_count;
  int64_t n, T, H, row;                         // in all, and units of a head
  int64_t cache_strides[3], values_strides[3];  // in units
  int64_t last_start;
  FaultSink fault;
};

#if HEED_DEVICE_CODE

template <class Unit>
__device__ void cache_write_body(const CacheWriteParams& p) {
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= p.n) return;
  const int64_t unit = i % p.row;
  i /= p.row;
  const int64_t h = i % p.H;
  i /= p.H;
  const int64_t t = i % p.T, b = i / p.T;
  const int64_t start = p.starts ? p.starts[b] : 0;
  if (start < 0 || start > p.last_start) {
    if (t == 0 && h == 0 && unit == 0) report_fault(p.fault, FaultKind::start, start, p.last_start, b);
    return;
  }
  int64_t row = b, token = start + t;
  if (p.pages) {
    const int64_t entry = b * p.columns + token / p.page_size;
    row = p.pages[entry];
    token %= p.page_size;
    if (row < 0 || row >= p.page_count) {
      if (h == 0 && unit == 0) report_fault(p.fault, FaultKind::page, row, p.page_count - 1, entry, p.columns);
      return;
    }
  }
  static_cast<Unit*>(p.cache)[row * p.cache_strides[0] + token * p.cache_strides[1] + h * p.cache_strides[2] + unit] =
      static_cast<const Unit*>(
          p.values)[b * p.values_strides[0] + t * p.values_strides[1] + h * p.values_strides[2] + unit];
}

#endif

HEED_KERNEL(cache_write_16, CacheWriteParams, 256, 1, cache_write_body<uint4>)
HEED_KERNEL(cache_write_4, CacheWriteParams, 256, 1, cache_write_body<uint32_t>)
HEED_KERNEL(cache_write_2, CacheWriteParams, 256, 1, cache_write_body<uint16_t>)
HEED_KERNEL(cache_write_1, CacheWriteParams, 256, 1, cache_write_body<uint8_t>)

#if !HEED_DEVICE_CODE

void host::cache_write(Stream& stream, AnyInOut cache, In values, OptIn starts, OptIn pages) {
  const char* op = "cache_write";
  check_cache_write(op, cache, values, starts, pages);
  if (values.empty()) return;

  const int64_t item = static_cast<int64_t>(size_of(cache.dtype));
  const int64_t columns = pages ? pages->shape[1] : 1;
  const int64_t T = values.shape[1], H = values.shape[2], D = values.shape[3];
  // Strides of dimensions of size 1 have no effect.
  int64_t bits = reinterpret_cast<intptr_t>(cache.data) | reinterpret_cast<intptr_t>(values.data) | D * item;
  for (int d = 0; d < 3; d++) {
    if (cache.shape[d] > 1) bits |= cache.strides[d] * item;
    if (values.shape[d] > 1) bits |= values.strides[d] * item;
  }
  const int64_t unit = bits % 16 == 0 ? 16 : item;
  CacheWriteParams p{cache.data,
                     values.data,
                     starts ? starts->i32() : nullptr,
                     pages ? pages->i32() : nullptr,
                     columns,
                     cache.shape[1],
                     cache.shape[0],
                     values.numel() * item / unit,
                     T,
                     H,
                     D * item / unit,
                     {},
                     {},
                     columns * cache.shape[1] - T,
                     stream.fault(op)};
  for (int d = 0; d < 3; d++) {
    p.cache_strides[d] = cache.shape[d] > 1 ? cache.strides[d] * item / unit : 0;
    p.values_strides[d] = values.shape[d] > 1 ? values.strides[d] * item / unit : 0;
  }
  Kernel<CacheWriteParams>& kernel = unit == 16  ? cache_write_16
                                     : unit == 4 ? cache_write_4
                                     : unit == 2 ? cache_write_2
                                                 : cache_write_1;
  stream.launch(op, kernel, {(p.n + 255) / 256}, p);
}

#endif

}  // namespace heed::cuda
