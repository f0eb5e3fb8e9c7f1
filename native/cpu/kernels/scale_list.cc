// Multiplies all elements of lists of tensors by a number, in place and in one parallel loop: gradients of a scaled
// loss become those of the loss itself.
#include "core/checks/lists.h"
#include "cpu/kernels/chunks.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu {

void HEED_ISA::scale_list(Stream& stream, InOutList tensors, Float factor) {
  const char* op = "scale_list";
  check_scale_list(tensors, factor);

  const Stream::Workspace starts(stream, op, static_cast<size_t>(tensors.size()) * sizeof(int64_t));
  int64_t* first = static_cast<int64_t*>(starts.data());
  stream.launch(op, [=] {
    over_chunks(tensors, first, [&](int64_t, int64_t t, int64_t begin, int64_t n) {
      float* x = tensors[t].f32() + begin;
      over_row(n, [&](int64_t i, auto lanes, int) { lanes.store(x + i, lanes.load(x + i) * set1(factor)); });
    });
  });
}

}  // namespace heed::cpu
