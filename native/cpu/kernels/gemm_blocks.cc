// gemm_blocks: out[M, N] = activation(a[M, K] · W + bias) + residual, with W in blocks of a GGUF file (core/blocks.h).
// dequantize_blocks: rows of the file's matrix. gemm_blocks_backward: dinp[M, K] (+)= dout[M, N] · Wᵀ.
//
// A tile is some columns of the product, which are rows of the file. With AVX512-VNNI or AVX2 activations are cut into
// bytes or numbers of 16 bits (gemm_blocks_int8.h); otherwise codes become floats (gemm_blocks_f32.h). An element is
// summed by one thread in an order that does not depend on the rows beside it, so its bits depend neither on them nor
// on the number of threads.
#include "core/checks/blocks.h"
#include "cpu/isa.h"
#include "cpu/kernels/gemm_blocks_f32.h"
#include "cpu/kernels/gemm_blocks_int8.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

// Rows of a file's matrix, or the numbers of them from `first` on, in the dtype of out [n, depth].
struct BlockRows {
  BlockLayout weight;
  const uint8_t* blocks;
  const int32_t* ids;  // the rows to read, or null for all
  int64_t n, first, depth;
  TensorView out;
};

inline void read_rows(const BlockRows& p) {
  const BlockLayout& w = p.weight;
  if (p.ids)
    for (int64_t i = 0; i < p.n; i++)
      if (p.ids[i] < 0 || p.ids[i] >= w.N)
        fail(Code::range, "expected ids in [0, %lld), got %d at position %lld", static_cast<long long>(w.N), p.ids[i],
             static_cast<long long>(i));
  const Decoder decoder = decoder_of(w.kind);
  parallel_for(p.n, max_of<int64_t>(1, 4096 / max_of<int64_t>(p.depth, 1)), [&](int64_t begin, int64_t end) {
    alignas(64) float numbers[kBlockDepth];
    for (int64_t i = begin; i < end; i++) {
      const uint8_t* const row = p.blocks + (p.ids ? p.ids[i] : i) * w.row_bytes();
      for (int64_t k = 0; k < p.depth; k += kBlockDepth) {
        const int64_t n = min_of<int64_t>(kBlockDepth, p.depth - k);
        decoder(row + w.at(p.first + k), n / w.numbers(), numbers);
        for (int64_t j = 0; j < n; j += kWidth) store_floats(p.out, i * p.depth + k + j, load(numbers + j), n - j);
      }
    }
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::dequantize_blocks(Stream& stream, Out out, OptIn ids, In blocks, Int format) {
  const BlockLayout weight = check_dequantize_blocks(out, ids, blocks, format);
  const int64_t n = ids ? ids->numel() : weight.N;
  const BlockRows p{weight, blocks.ptr<uint8_t>(), ids ? ids->i32() : nullptr, n, 0, weight.K, out};
  stream.launch("dequantize_blocks", [p] { read_rows(p); });
}

void HEED_ISA::gemm_blocks(Stream& stream, Out out, In a, In blocks, OptIn bias, OptIn residual, OptOut preact,
                           Int activation, Int precision, Int format) {
  const char* op = "gemm_blocks";
  const BlockLayout weight = check_gemm_blocks(out, a, blocks, bias, residual, preact, activation, precision, format);
  if (out.empty()) return;
  const BlockProduct p{weight,
                       weight.row_bytes(),
                       a.dim(0),
                       blocks.ptr<uint8_t>(),
                       a,
                       out,
                       bias ? *bias : TensorView{},
                       residual ? *residual : TensorView{},
                       preact ? *preact : TensorView{},
                       static_cast<Activation>(activation)};
#ifdef HEED_DIGITS
  if (const int64_t most = digits_of(p, precision)) {
    return with_digits(most, [&](auto digits) {
      constexpr int D = digits.value;
      const int64_t bytes = p.rows * InputRows<D>{p.rows, weight.K, nullptr}.row_bytes();
      const Stream::Workspace memory(stream, op, static_cast<size_t>(bytes));
      stream.launch(op, [p, rows = static_cast<char*>(memory.data())] { multiply_digits<D>(p, rows); });
    });
  }
#endif
  if (a.dtype == DType::f32) return stream.launch(op, [p] { multiply_floats(p, p.a.f32()); });
  const Stream::Workspace memory(stream, op, static_cast<size_t>(a.numel()) * sizeof(float));
  stream.launch(op, [p, rows = memory.f32()] {
    widen_rows(p.a, rows);
    multiply_floats(p, rows);
  });
}

void HEED_ISA::gemm_blocks_backward(Stream& stream, Out dinp, In dout, In blocks, Bool accumulate, Int format) {
  const char* op = "gemm_blocks_backward";
  constexpr int64_t kStripBytes = int64_t{32} << 20;
  const BlockLayout weight = check_gemm_blocks_backward(dinp, dout, blocks, format);
  if (dinp.empty()) return;
  const int64_t K = weight.K, N = weight.N, element = static_cast<int64_t>(size_of(dout.dtype));
  const int64_t bytes = max_of<int64_t>(N, 1) * element;
  const int64_t strip = min_of(K, max_of<int64_t>(1, kStripBytes / bytes / kBlockDepth) * kBlockDepth);
  const Stream::Workspace memory(stream, op, static_cast<size_t>(strip * bytes));
  // Strips of the weight's inputs become a matrix [N, inputs], which gemm multiplies.
  for (int64_t first = 0; first < K; first += strip) {
    const int64_t inputs = min_of(strip, K - first);
    TensorView rows;
    rows.data = memory.data();
    rows.dtype = dout.dtype;
    rows.rank = 2;
    rows.shape[0] = N, rows.shape[1] = rows.strides[0] = inputs;
    rows.strides[1] = 1;
    const BlockRows p{weight, blocks.ptr<uint8_t>(), nullptr, N, first, inputs, rows};
    stream.launch(op, [p] { read_rows(p); });
    TensorView part = dinp;
    part.shape[1] = inputs;
    part.data = dinp.ptr<uint8_t>() + first * static_cast<int64_t>(size_of(dinp.dtype));
    gemm(stream, part, nullptr, dout, rows, nullptr, nullptr, nullptr, nullptr, 0, false, accumulate, false, false,
         false);
  }
}

}  // namespace heed::cpu
