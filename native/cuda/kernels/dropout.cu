// Inverted dropout (Srivastava et al., 2014): out = keep ? inp / (1 - p) : 0. Element i, in row-major order, is kept if
// its Philox draw under `seed` is at least p; p = 1 gives zeros. It takes one float dtype and any strides.
//
// Backward is the same function with the same seed and dout for inp: the mask is drawn again and never stored. A thread
// draws one block and has its four elements; rows that are aligned and whole are read and written as vectors.
#include "core/checks/elementwise.h"
#include "cuda/kernels/philox.h"
#include "cuda/kernels/strided.h"

namespace heed::cuda {

// `first` is the index in the tensor of element 0. `skip` is its remainder by 4: the number of elements of the first
// thread's block that come before it.
struct DropoutParams {
  Elements<2> elements;
  void* out;
  const void* inp;
  uint64_t seed, first;
  uint32_t skip, threshold;
  float scale;
  int32_t accumulate;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void dropout_body(const DropoutParams& p) {
  const uint32_t thread = blockIdx.x * kElementThreads + threadIdx.x;
  const uint32_t start = thread * 4 - p.skip;  // the first thread may get a number below 0, which is no element's index
  if (thread * 4 >= p.elements.size + p.skip) return;
  const PhiloxBlock words = philox(p.seed, p.first / 4 + thread, kDropoutDraws);
  const Lanes<2, 4> at = p.elements.vector && start + 4 <= p.elements.size ? vector_lanes<4>(p.elements, start)
                                                                           : single_lanes<4>(p.elements, start, 1);
  float x[4];
  load_lane_floats<1, T>(x, p.elements, at, p.inp);
#pragma unroll
  for (int k = 0; k < 4; k++) x[k] = words.word[k] >> 8 >= p.threshold ? x[k] * p.scale : 0.0f;
  store_lane_floats<T>(x, p.elements, at, p.out, p.accumulate);
}

#endif

HEED_KERNEL_FLOATS(dropout_kernel, DropoutParams, kElementThreads, 1, dropout_body)

#if !HEED_DEVICE_CODE

void host::dropout(Stream& stream, Out out, In inp, Float p, Int seed, Bool accumulate) {
  check_dropout(out, inp, p);
  if (out.empty()) return;
  for_pieces(make_loop<2>({&out, &inp}, Order::logical), [&](const Loop<2>& piece) {
    DropoutParams params{};
    params.out = element_at(out, piece.offset[0]);
    params.inp = element_at(inp, piece.offset[1]);
    params.seed = static_cast<uint64_t>(seed);
    params.first = static_cast<uint64_t>(piece.first);
    params.skip = static_cast<uint32_t>(piece.first % 4);
    params.threshold = dropout_threshold(p);
    params.scale = p < 1 ? 1 / (1 - p) : 0;
    params.accumulate = accumulate;
    params.elements = elements_of(piece);
    params.elements.vector =
        params.skip == 0 && fits_vectors<2>(piece, {params.out, params.inp}, {out.dtype, inp.dtype}, 4);
    stream.launch("dropout", dropout_kernel(out.dtype),
                  {ceil_div(piece.size + params.skip, int64_t{kElementThreads} * 4)}, params);
  });
}

#endif

}  // namespace heed::cuda
