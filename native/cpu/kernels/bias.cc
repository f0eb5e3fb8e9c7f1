// bias_backward: dbias[c] (+)= Σ_rows dout[row, c], dout [..., C].
//
// Two stages, so that the order of summation does not depend on the number of threads: each fixed chunk of rows is
// summed into a row of its own, then the chunks are added in order, column by column.
#include "core/checks/gemm.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu {

void HEED_ISA::bias_backward(Stream& stream, Out dbias, In dout, Bool accumulate) {
  constexpr const char* op = "bias_backward";
  check_bias_backward(dbias, dout);
  expect_dtype(op, "dout", dout, DType::f32);
  const int64_t width = dout.dim(-1);
  if (width == 0) return;
  const int64_t rows = dout.numel() / width;
  constexpr int64_t kChunk = 128;
  const int64_t chunks = max_of<int64_t>(1, ceil_div(rows, kChunk));
  const Stream::Workspace partial(stream, op, static_cast<size_t>(chunks * width) * sizeof(float));
  stream.launch(op, [out = dbias.f32(), in = dout.f32(), sums = partial.f32(), rows, width, chunks, accumulate] {
    parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; chunk++) {
        float* sum = sums + chunk * width;
        std::memset(sum, 0, static_cast<size_t>(width) * sizeof(float));
        const int64_t last = min_of((chunk + 1) * kChunk, rows);
        for (int64_t r = chunk * kChunk; r < last; r++) {
          const float* row = in + r * width;
          int64_t c = 0;
          for (; c + kWidth <= width; c += kWidth) store(sum + c, load(sum + c) + load(row + c));
          for (; c < width; c++) sum[c] += row[c];
        }
      }
    });
    parallel_for(width, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        double total = accumulate ? out[c] : 0.0;
        for (int64_t chunk = 0; chunk < chunks; chunk++) total += sums[chunk * width + c];
        out[c] = static_cast<float>(total);
      }
    });
  });
}

}  // namespace heed::cpu
