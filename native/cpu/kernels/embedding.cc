// Embedding: out[i, C] = weight[ids[i], C]; backward dweight[ids[i], C] (+)= dout[i, C].
//
// Every id is checked before anything is written. Forward copies rows in parallel. Backward splits the columns among
// the tasks and takes the positions in order in each: no two threads share an element, and the sum of a row has one
// order whatever the threads. Backward needs the ids only.
#include "core/checks/embedding.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

inline void check_ids(const int32_t* ids, int64_t n, int64_t V) {
  for (int64_t i = 0; i < n; i++)
    if (ids[i] < 0 || ids[i] >= V)
      fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(V), ids[i],
           static_cast<long long>(i));
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::embedding_forward(Stream& stream, Out out, In ids, In weight) {
  const char* op = "embedding_forward";
  expect_f32(op, "weight", weight);
  expect_f32(op, "out", out);
  check_embedding_forward(op, out, ids, weight);
  const int64_t n = ids.numel(), V = weight.dim(0), C = weight.dim(1);
  float* y = out.f32();
  const float* table = weight.f32();
  const int32_t* id = ids.i32();
  stream.launch(op, [=] {
    check_ids(id, n, V);
    parallel_for(n, max_of<int64_t>(1, 16384 / max_of<int64_t>(C, 1)), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        std::memcpy(y + i * C, table + id[i] * C, static_cast<size_t>(C) * sizeof(float));
    });
  });
}

void HEED_ISA::embedding_backward(Stream& stream, Out dweight, In dout, In ids, Bool accumulate) {
  const char* op = "embedding_backward";
  expect_f32(op, "dweight", dweight);
  expect_f32(op, "dout", dout);
  check_embedding_backward(op, dweight, dout, ids);
  const int64_t n = ids.numel(), V = dweight.dim(0), C = dweight.dim(1);
  float* table = dweight.f32();
  const float* dy = dout.f32();
  const int32_t* id = ids.i32();
  stream.launch(op, [=] {
    check_ids(id, n, V);
    if (!accumulate)
      parallel_for(V * C, 1 << 16, [=](int64_t begin, int64_t end) {
        std::memset(table + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
      });
    // 64 columns are whole cache lines, so that threads do not write to the same one.
    parallel_for(C, 64, [=](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < n; i++) {
        float* to = table + id[i] * C;
        const float* from = dy + i * C;
        for (int64_t c = begin; c < end; c++) to[c] += from[c];
      }
    });
  });
}

}  // namespace heed::cpu
