// outs[i] = inps[i] for lists of contiguous tensors of equal shapes and any pairs of dtypes, converted as convert.h
// describes. One parallel loop goes over chunks of all of them.
#include <type_traits>
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/convert.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

template <class To, class From>
void convert_row(To* out, const From* in, int64_t n) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) convert(out + i, in + i);
  if (i == n) return;
  From from[kWidth] = {};
  To to[kWidth];
  std::memcpy(from, in + i, static_cast<size_t>(n - i) * sizeof(From));
  convert(to, from);
  std::memcpy(out + i, to, static_cast<size_t>(n - i) * sizeof(To));
}

void copy_chunk(const TensorView& out, const TensorView& inp, int64_t begin, int64_t n) {
  with_type(out.dtype, [&](auto to) {
    using To = decltype(to);
    To* destination = static_cast<To*>(out.data) + begin;
    with_type(inp.dtype, [&](auto from) {
      using From = decltype(from);
      const From* source = static_cast<const From*>(inp.data) + begin;
      if constexpr (std::is_same_v<To, From>)
        std::memcpy(destination, source, static_cast<size_t>(n) * sizeof(To));
      else
        convert_row(destination, source, n);
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::copy_list(Stream& stream, OutList outs, InList inps) {
  check_copy_list(outs, inps);
  const Stream::Workspace starts(stream, "copy_list", static_cast<size_t>(outs.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  stream.launch("copy_list", [=] {
    over_chunks(outs, first,
                [&](int64_t, int64_t i, int64_t begin, int64_t n) { copy_chunk(outs[i], inps[i], begin, n); });
  });
}

}  // namespace heed::cpu
