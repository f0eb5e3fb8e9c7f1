// cache_write: cache[b, starts[b] + t] = values[b, t] writes the new keys or values of each sequence behind its old
// ones. cache [B, S, H, D] and values [B, T, H, D] have one dtype and any strides with D contiguous. The work is
// parallel over tokens.
#include "core/checks/attention.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu {

void HEED_ISA::cache_write(Stream& stream, AnyInOut cache, In values, OptIn starts) {
  constexpr const char* op = "cache_write";
  check_cache_write(op, cache, values, starts);
  const int64_t B = cache.shape[0], S = cache.shape[1], H = cache.shape[2], D = cache.shape[3], T = values.shape[1];
  if (values.empty()) return;

  const int32_t* first = starts ? starts->i32() : nullptr;
  stream.launch(op, [=] {
    for (int64_t b = 0; first && b < B; b++)
      if (first[b] < 0 || first[b] > S - T)
        fail(Code::range, "expected starts from 0 to %lld, got %d", static_cast<long long>(S - T), first[b]);
    const int64_t item = static_cast<int64_t>(size_of(cache.dtype));
    const int64_t grain = max_of<int64_t>(1, 32768 / max_of<int64_t>(1, H * D * item));
    parallel_for(B * T, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t b = i / T, t = i % T, to = (first ? first[b] : 0) + t;
        for (int64_t h = 0; h < H; h++)
          std::memcpy(
              cache.ptr<char>() + (b * cache.strides[0] + to * cache.strides[1] + h * cache.strides[2]) * item,
              values.ptr<char>() + (b * values.strides[0] + t * values.strides[1] + h * values.strides[2]) * item,
              static_cast<size_t>(D * item));
      }
    });
  });
}

}  // namespace heed::cpu
