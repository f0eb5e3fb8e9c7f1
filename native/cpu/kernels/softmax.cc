// Softmax over the last dimension: out = exp(inp - max) / Σ exp(inp - max); a row that consists of -inf gives zeros.
// Backward: dinp = out · (dout - Σ_j dout_j out_j), written or, with `accumulate`, added.
//
// Tensors are [..., C]; rows are contiguous, and the leading dimensions may have any strides. The work is parallel over
// rows; sums run in f32 lanes over a block and in f64 across blocks. Subnormal numbers count as zeros. Backward needs
// only the forward's output.
#include "core/checks/softmax.h"
#include "core/checks/rows.h"
#include "cpu/kernels/flush_subnormals.h"
#include "cpu/kernels/strided.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

constexpr int64_t kBlock = 32 * kWidth;

// NaN wins, so that a row with a NaN becomes NaN as a whole.
inline float max_or_nan(float m, float x) { return x > m || x != x ? x : m; }
inline vf max_or_nan(vf m, vf x) { return select((x > m) | (x != x), x, m); }

template <class T>
float row_max(const T* x, int64_t n) {
  const float infinity = HUGE_VALF;
  vf m = set1(-infinity);
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) m = max_or_nan(m, load(x + i));
  float result = -infinity;
  for (int k = 0; k < kWidth; k++) result = max_or_nan(result, m[k]);
  for (; i < n; i++) result = max_or_nan(result, load_one(x + i));
  return result;
}

// In f32 the exponentials are kept in `out` until their sum is known; a shorter type would round them, so they are
// computed again.
template <class T>
void forward_row(T* out, const T* inp, int64_t n) {
  constexpr bool kKept = std::is_same_v<T, float>;
  const float max = row_max(inp, n);
  if (max == -HUGE_VALF) {
    std::memset(out, 0, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  const vf shift = set1(max);
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = min_of(begin + kBlock, n);
    vf lanes{};
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) {
      const vf e = vexp(load(inp + i) - shift);
      if constexpr (kKept) store(out + i, e);
      lanes = lanes + e;
    }
    double tail = 0;
    if (i < end) {
      const vf e = vexp(load_n(inp + i, end - i) - shift);
      if constexpr (kKept) store_n(out + i, e, end - i);
      for (int64_t k = 0; k < end - i; k++) tail += static_cast<double>(e[k]);
    }
    sum += static_cast<double>(hsum(lanes)) + tail;
  }
  const vf scale = set1(static_cast<float>(1 / sum));
  if constexpr (kKept)
    map_row(Contiguous<T>{out}, n, false, [=](vf e) { return e * scale; }, Contiguous<T>{out});
  else
    map_row(Contiguous<T>{out}, n, false, [=](vf x) { return vexp(x - shift) * scale; }, Contiguous<const T>{inp});
}

template <class T>
double dot(const T* a, const T* b, int64_t n) {
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = min_of(begin + kBlock, n);
    vf lanes{};
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) lanes = fma(load(a + i), load(b + i), lanes);
    if (i < end) lanes = fma(load_n(a + i, end - i), load_n(b + i, end - i), lanes);
    sum += static_cast<double>(hsum(lanes));
  }
  return sum;
}

template <class T>
void backward_row(T* dinp, const T* dout, const T* out, int64_t n, bool accumulate) {
  const vf mean = set1(static_cast<float>(dot(dout, out, n)));
  map_row(
      Contiguous<T>{dinp}, n, accumulate, [=](vf d, vf y) { return y * (d - mean); }, Contiguous<const T>{dout},
      Contiguous<const T>{out});
}

// Calls body(offsets) for each row.
template <int N, class Body>
void parallel_over_rows(const Loop<N>& rows, int64_t columns, const Body& body) {
  parallel_for(rows.size, ceil_div(kGrain, columns), [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    for_rows(rows, begin, end, [&](const int64_t* offsets, int64_t n) {
      int64_t at[N];
      for (int64_t k = 0; k < n; k++) {
        for (int i = 0; i < N; i++) at[i] = offsets[i] + k * rows.stride(i);
        body(at);
      }
    });
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::softmax_forward(Stream& stream, Out out, In inp) {
  check_softmax_forward("softmax_forward", out, inp);
  if (out.empty()) return;
  stream.launch("softmax_forward", [out, inp] {
    const TensorView out_rows = leading_shape(out), inp_rows = leading_shape(inp);
    const int64_t columns = out.dim(-1);
    with_float_type(out.dtype, [&](auto type) {
      using T = decltype(type);
      parallel_over_rows(make_loop({&out_rows, &inp_rows}), columns,
                         [&](const int64_t* at) { forward_row(out.ptr<T>() + at[0], inp.ptr<T>() + at[1], columns); });
    });
  });
}

void HEED_ISA::softmax_backward(Stream& stream, Out dinp, In dout, In out, Bool accumulate) {
  check_softmax_backward("softmax_backward", dinp, dout, out);
  if (dinp.empty()) return;
  stream.launch("softmax_backward", [dinp, dout, out, accumulate] {
    const TensorView dinp_rows = leading_shape(dinp), dout_rows = leading_shape(dout), out_rows = leading_shape(out);
    const int64_t columns = dinp.dim(-1);
    with_float_type(dinp.dtype, [&](auto type) {
      using T = decltype(type);
      parallel_over_rows(make_loop({&dinp_rows, &dout_rows, &out_rows}), columns, [&](const int64_t* at) {
        backward_row(dinp.ptr<T>() + at[0], dout.ptr<T>() + at[1], out.ptr<T>() + at[2], columns, accumulate);
      });
    });
  });
}

}  // namespace heed::cpu
