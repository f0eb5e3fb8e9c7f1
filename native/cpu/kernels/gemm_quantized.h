// Definitions that both forms of the product with a quantised weight share: the problem, its epilogue, and its division
// into tasks. gemm_blocks.h has the same epilogue.
#pragma once
#include "cpu/kernels/activation.h"
#include "cpu/kernels/claims.h"
#include "cpu/kernels/quantized.h"

namespace heed::cpu::HEED_ISA {
namespace {

// The problem; rows of a, out and residual are contiguous.
struct QuantizedProduct {
  QuantizedLayout weight;
  int64_t rows;
  const uint8_t* codes;
  const bf16* scales;
  TensorView a, out, bias, residual, preact;  // data is null if an optional one is absent
  Activation activation;

  const uint8_t* panel_codes(int64_t panel) const { return codes + panel * weight.words() * kPanelBytes; }
  const bf16* panel_scales(int64_t panel) const { return scales + panel * weight.groups() * kPanelColumns; }
};

// Loads the f32, bf16 or f16 elements of a tensor from `at` on.
inline vf load_floats(const TensorView& from, int64_t at, int64_t n) {
  switch (from.dtype) {
    case DType::bf16:
      return load_some(from.ptr<bf16>() + at, n);
    case DType::f16:
      return load_some(from.ptr<f16>() + at, n);
    default:
      return load_some(from.f32() + at, n);
  }
}
inline void store_floats(const TensorView& to, int64_t at, vf v, int64_t n) {
  switch (to.dtype) {
    case DType::bf16:
      return store_some(to.ptr<bf16>() + at, v, n);
    case DType::f16:
      return store_some(to.ptr<f16>() + at, v, n);
    default:
      return store_some(to.f32() + at, v, n);
  }
}

inline vf activated(Activation activation, vf x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::gelu_erf:
      return gelu_erf(x);
    case Activation::silu:
      return silu(x);
    case Activation::sigmoid:
      return sigmoid(x);
  }
  return x;
}

// Takes the sums of kWidth columns from `column` on, or of the first `most` of them, through the epilogue to their
// row. It tests dtypes and the activation for each vector, which takes almost no time compared with the sum over K
// before it.
template <class Product>
inline void finish(const Product& p, int64_t row, int64_t column, vf sum, int64_t most = kWidth) {
  const int64_t n = min_of(most, p.weight.N - column), at = row * p.weight.N + column;
  if (n <= 0) return;
  if (p.bias.data) sum = sum + load_floats(p.bias, column, n);
  if (p.preact.data) store_floats(p.preact, at, sum, n);
  sum = activated(p.activation, sum);
  if (p.residual.data) sum = sum + load_floats(p.residual, at, n);
  store_floats(p.out, at, sum, n);
}

// Panels that a thread multiplies by a block of rows at a time.
struct PanelRun {
  int64_t panel, panels, first_row, rows;
  int64_t next;  // the panel that the thread has next, or this one if it has none
};

// Calls body(run) for all panels and blocks of rows, in parallel. A block of rows stays in L2 while the panels of a
// task are processed, and a panel is read from memory once per block. `row_bytes` is the size of a row of a. A run has
// `at_once` panels: 1, 2, or 4, of which the last runs have 2, so that threads end together. Single panels are read
// without prefetching, and so belong to long tasks.
template <class Body>
inline void over_panels(const QuantizedProduct& p, int64_t row_bytes, int64_t at_once, const Body& body) {
  constexpr int64_t kBlockBytes = 256 << 10, kTaskBytes = 16 << 10, kLongTaskBytes = 128 << 10;
  constexpr int64_t kTurnBytes = 4 << 20;  // times rows, which a thread does without a break
  const int64_t panels = p.weight.panels(), panel_bytes = max_of<int64_t>(1, p.weight.words() * kPanelBytes);
  const int64_t block = max_of<int64_t>(16, kBlockBytes / max_of<int64_t>(row_bytes, 1) / 16 * 16);
  const int64_t blocks = ceil_div(p.rows, block), rows = min_of(block, p.rows);
  const int64_t fours = at_once == 4 ? max_of<int64_t>(0, panels / 4 - thread_count()) : 0;
  const int64_t fewer = min_of<int64_t>(at_once, 2), runs = fours + ceil_div(panels - 4 * fours, fewer);
  const int64_t long_task = min_of(kLongTaskBytes, panels * panel_bytes / (4 * thread_count()));
  const int64_t task_bytes = at_once == 1 ? max_of(kTaskBytes, long_task) : kTaskBytes;
  const int64_t together = max_of<int64_t>(1, task_bytes / (fewer * panel_bytes));
  const int64_t tasks = ceil_div(runs, together);
  const int64_t most = max_of<int64_t>(1, kTurnBytes / (together * at_once * panel_bytes * rows));
  const auto panel_of = [&](int64_t run) { return run < fours ? 4 * run : 4 * fours + fewer * (run - fours); };
  parallel_ahead(blocks * tasks, most, [&](int64_t task, int64_t next) {
    const int64_t row = task / tasks * block, begin = task % tasks * together, end = min_of(begin + together, runs);
    for (int64_t run = begin; run < end; run++) {
      const int64_t then = run + 1 < end ? run + 1 : next < blocks * tasks ? next % tasks * together : run;
      body(PanelRun{panel_of(run), run < fours ? 4 : fewer, row, min_of(block, p.rows - row), panel_of(then)});
    }
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
