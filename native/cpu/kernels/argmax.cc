// Returns the index of the largest element of each row of the last dimension. The lowest index wins a tie, and NaN
// loses to every number.
//
// One pass keeps the maximum over blocks and the first block that has it, so that only that block is searched for the
// index. Rows run in parallel.
#include "core/checks/choose.h"
#include "cpu/kernels/select.h"

namespace heed::cpu {

void HEED_ISA::argmax(Stream& stream, Out ids, In inp) {
  const char* op = "argmax";
  check_argmax(ids, inp);
  const int64_t V = inp.dim(-1), rows = ids.numel();
  if (rows == 0) return;

  int32_t* out = ids.i32();
  with_float_type(inp.dtype, [&](auto type) {
    const auto* x = inp.ptr<decltype(type)>();
    stream.launch(op, [=] {
      parallel_for(rows, rows_per_task(V), [=](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; r++) out[r] = static_cast<int32_t>(argmax_row(x + r * V, V));
      });
    });
  });
}

}  // namespace heed::cpu
