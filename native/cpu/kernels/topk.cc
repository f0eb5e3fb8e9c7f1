// The k largest elements of each row of the last dimension and their indices, in descending order. The lowest index
// wins a tie, and NaN comes last.
//
// A row is scanned once against a rising threshold, and only the remaining k are sorted: O(V + k log k). Rows run in
// parallel, in at most 32 tasks with a buffer each.
#include "core/checks/choose.h"
#include "cpu/kernels/select.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// values and ids [k]
template <class T>
inline void topk_row(T* values, int32_t* ids, const T* x, int64_t V, int64_t k, Candidate* kept) {
  int64_t count = select_top(kept, x, V, k);
  std::sort(kept, kept + count, ComesFirst{});
  for (int64_t j = 0; j < count; j++) ids[j] = static_cast<int32_t>(kept[j].index());
  for (int64_t i = 0; i < V && count < k; i++)
    if (load_one(x + i) == -INFINITY) ids[count++] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < V && count < k; i++)
    if (std::isnan(load_one(x + i))) ids[count++] = static_cast<int32_t>(i);
  for (int64_t j = 0; j < k; j++) values[j] = x[ids[j]];
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::topk(Stream& stream, Out values, Out ids, In inp) {
  const char* op = "topk";
  check_topk(values, ids, inp);
  const int64_t V = inp.dim(-1), rows = leading_shape(inp).numel(), k = values.dim(-1);
  if (rows == 0 || k == 0) return;

  const int64_t grain = max_of(rows_per_task(V), ceil_div(rows, 32)), capacity = top_capacity(V, k);
  const Stream::Workspace workspace(stream, op,
                                    static_cast<size_t>(ceil_div(rows, grain) * capacity) * sizeof(Candidate));
  Candidate* buffers = static_cast<Candidate*>(workspace.data());
  int32_t* at = ids.i32();
  with_float_type(inp.dtype, [&](auto type) {
    using T = decltype(type);
    T* best = values.ptr<T>();
    const T* x = inp.ptr<T>();
    stream.launch(op, [=] {
      parallel_for(rows, grain, [=](int64_t begin, int64_t end) {
        Candidate* kept = buffers + begin / grain * capacity;
        for (int64_t r = begin; r < end; r++) topk_row(best + r * k, at + r * k, x + r * V, V, k, kept);
      });
    });
  });
}

}  // namespace heed::cpu
