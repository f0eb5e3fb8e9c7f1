// Gathers keys and values from their pages: out[b, j] = token j % S of page pages[b, j / S], for j below the sequence's
// length. A prefill reads each key many times, so one more copy of it costs little, and the kernels that use tensor
// cores need not know pages. One thread copies a unit of memory, which has 16 bytes if all rows allow it, and else one
// element. Pages that do not exist are reported, and replaced by the first.
#include "cuda/kernels/attention_pages.h"

namespace heed::cuda {

constexpr int kGatherThreads = 256;

struct GatherParams {
  AttentionParams a;
  void *k, *v;                         // contiguous [B, Tk, Hkv, row]
  int64_t n;                           // units of keys, for all B · Tk
  int64_t row;                         // units of a head
  int64_t k_strides[3], v_strides[3];  // of pages, tokens and heads, in units
};

#if HEED_DEVICE_CODE

template <class Unit>
__device__ void gather_pages(const GatherParams& p) {
  int64_t i = static_cast<int64_t>(blockIdx.x) * kGatherThreads + threadIdx.x;
  if (i >= p.n) return;
  const int64_t at = i, unit = i % p.row;
  i /= p.row;
  const int64_t g = i % p.a.Hkv;
  i /= p.a.Hkv;
  const int64_t j = i % p.a.Tk, b = i / p.a.Tk;
  // The attention that follows reports lengths out of range.
  if (p.a.key_lengths && j >= p.a.key_lengths[b]) return;
  const KeyPages& pages = p.a.pages;
  const int64_t entry = b * pages.columns + j / pages.size;
  int page = pages.table[entry];
  if (page < 0 || page >= pages.count) {
    if (g == 0 && unit == 0 && j % pages.size == 0)
      report_fault(p.a.fault, FaultKind::page, page, pages.count - 1, entry, pages.columns);
    page = 0;
  }
  const int64_t token = j % pages.size;
  const auto copy = [&](void* out, const void* inp, const int64_t(&strides)[3]) {
    static_cast<Unit*>(out)[at] =
        static_cast<const Unit*>(inp)[page * strides[0] + token * strides[1] + g * strides[2] + unit];
  };
  copy(p.k, p.a.k.data, p.k_strides);
  copy(p.v, p.a.v.data, p.v_strides);
}

#endif

HEED_KERNEL(gather_pages_16, GatherParams, kGatherThreads, 1, gather_pages<uint4>)
HEED_KERNEL(gather_pages_4, GatherParams, kGatherThreads, 1, gather_pages<uint32_t>)
HEED_KERNEL(gather_pages_2, GatherParams, kGatherThreads, 1, gather_pages<uint16_t>)

#if !HEED_DEVICE_CODE

GatheredKeys::GatheredKeys(Stream& stream, const char* op, AttentionParams* problem, DType dtype)
    : memory_(stream, op,
              problem ? 2 * static_cast<size_t>(problem->B * problem->Tk * problem->Hkv * problem->D) * size_of(dtype)
                      : 0) {
  if (!problem) return;
  AttentionParams& a = *problem;
  const int64_t item = static_cast<int64_t>(size_of(dtype)), elements = a.B * a.Tk * a.Hkv * a.D;
  char* const memory = memory_.as<char>();
  // The rows of the copies lie side by side, so that they are aligned if a row is.
  const int64_t unit = a.aligned && a.D * item % 16 == 0 ? 16 : item;
  GatherParams p{a, memory, memory + elements * item, elements * item / unit, a.D * item / unit, {}, {}};
  for (int d = 0; d < 3; d++) {
    p.k_strides[d] = a.k.strides[d] * item / unit;
    p.v_strides[d] = a.v.strides[d] * item / unit;
  }
  Kernel<GatherParams>& kernel = unit == 16 ? gather_pages_16 : unit == 4 ? gather_pages_4 : gather_pages_2;
  stream.launch(op, kernel, {(p.n + kGatherThreads - 1) / kGatherThreads}, p);
  const int64_t strides[3] = {int64_t{a.Tk} * a.Hkv * a.D, int64_t{a.Hkv} * a.D, a.D};
  a.k = {p.k, {strides[0], strides[1], strides[2]}};
  a.v = {p.v, {strides[0], strides[1], strides[2]}};
  a.aligned = a.aligned && a.D * item % 16 == 0;
  a.pages = {};
}

#endif

}  // namespace heed::cuda
