// attention_backward: P is the softmax of the scores, recomputed tile by tile as exp(scores - lse), and delta =
// rowsum(dout ∘ out) (FlashAttention-2, Dao 2023, algorithm 2):
//   dP = dout v^T,  dS = P ∘ (dP - delta),  dq = scale · dS k,  dk = scale · dS^T q,  dv = P^T dout.
// With dropout, dv uses the dropped P, dP is dropped in the same way, and the mask is drawn again. dq, dk and dv are
// written (=). There are two kernels (attention_gradients.h). They run on tensor cores for bf16 and f16 with D <= 256,
// or D <= 128 under a block mask, and in f32 otherwise.
#include "cuda/kernels/attention_gradients.h"
#include "cuda/kernels/attention_host.h"
#include "cuda/kernels/attention_tiles.h"

namespace heed::cuda {

#if !HEED_DEVICE_CODE

void host::attention_backward(Stream& stream, Out dq, Out dk, Out dv, In dout, In q, In k, In v, In out, In lse,
                              OptIn key_lengths, OptIn query_starts, OptIn key_ranges, OptIn slopes, Bool causal,
                              Int window, Float softcap, Float scale, Float dropout_p, Int seed, OptIn block_mask,
                              Int block_size) {
  const char* op = "attention_backward";
  const AttentionOptions options{nullptr, nullptr, nullptr,    key_lengths, query_starts, key_ranges,
                                 slopes,  nullptr, block_mask, block_size,  causal,       window,
                                 softcap, scale,   dropout_p,  seed};
  const AttentionSizes n = check_attention(op, q, k, v, options, false);
  expect_queries(op, "dq", dq, n, q.dtype);
  expect_keys(op, "dk", dk, n, q.dtype);
  expect_keys(op, "dv", dv, n, q.dtype);
  expect_queries(op, "dout", dout, n, q.dtype);
  expect_queries(op, "out", out, n, q.dtype);
  expect_lse(op, lse, n);
  if (dq.empty() && dk.empty()) return;

  const Stream::Workspace workspace(stream, op, static_cast<size_t>(n.B * n.H * n.Tq) * 4);
  AttentionBackwardParams p{};
  p.a = attention_params(op, stream, n, q, k, v, options);
  for (const TensorView* x : {&dq, &dk, &dv, &dout, &out}) p.a.aligned = p.a.aligned && rows_aligned(*x);
  p.dq = heads_view(dq);
  p.dk = heads_view(dk);
  p.dv = heads_view(dv);
  p.dout = heads_view(dout);
  p.out = heads_view(out);
  p.lse = lse.f32();
  p.delta = workspace.f32();
  const bool mma = q.dtype != DType::f32 && p.a.D <= most_fast_head(p.a), masked = p.a.blocks.mask;
  const auto launch = [&](const BackwardKernel& chosen, TilesOf order, int64_t rows) {
    const MaskedTiles tiles(stream, op, p.a, order, chosen.block, chosen.tile);
    p.blocks = ceil_div(rows, chosen.block);
    const Grid grid{n.B * n.Hkv * p.blocks, ceil_div(n.D, chosen.columns)};
    stream.launch(op, *chosen.kernel, grid, p, chosen.shared);
  };
  if (!dq.empty())
    launch(mma ? attention_backward_queries_mma_kernel(q.dtype, p.a.D, masked)
               : attention_backward_queries_fma_kernel(q.dtype, p.a.D, masked),
           TilesOf::keys, p.a.rows);
  if (!dk.empty())
    launch(mma ? attention_backward_keys_mma_kernel(q.dtype, p.a.D, masked)
               : attention_backward_keys_fma_kernel(q.dtype, p.a.D, masked),
           TilesOf::rows, n.Tk);
}

#endif

}  // namespace heed::cuda
