// depthwise_conv2d (ops.def) and its gradients: every channel is convolved alone, so that vectors lie along the
// channels.
//
//   out[b, y, x, c]    = act(Σ_{i, j} inp[b, ·, ·, c] · filter[i, j, c] + bias[c])
//   dinp               = the same sum over dout, for each phase of a stride (core/windows.h)
//   dfilter[i, j, c]   = Σ_{b, y, x} inp[b, ·, ·, c] · dout[b, y, x, c]
//
// The work is parallel over rows of targets. A sum over taps is one chain in their order, in f32. The filter's gradient
// is summed by fixed runs of rows, whose number depends on the shapes only, and the runs are added in order.
#include "core/checks/windows.h"
#include "cpu/kernels/activation.h"
#include "cpu/kernels/sum_rows.h"
#include "cpu/kernels/window_rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

__attribute__((noinline)) vf activate_rarely(Activation activation, vf x) {
  switch (activation) {
    case Activation::gelu_tanh:
      return activate<Activation::gelu_tanh>(x);
    case Activation::gelu_erf:
      return activate<Activation::gelu_erf>(x);
    case Activation::silu:
      return activate<Activation::silu>(x);
    case Activation::sigmoid:
      return activate<Activation::sigmoid>(x);
    default:
      return x;
  }
}
inline vf activated(Activation activation, vf x) {
  if (activation == Activation::none) return x;
  return activation == Activation::relu ? relu(x) : activate_rarely(activation, x);
}

// A sum over taps: targets are the pixels of `out`, or those of a phase of it.
struct Sums {
  TensorView out, from, filter;
  Axis y, x;
  Floats bias, preact;
  Activation activation = Activation::none;
  bool accumulate = false;

  template <class T>
  void run() const {
    const int64_t taps = int64_t{y.taps} * x.taps;
    parallel_for(out.shape[0] * y.targets, window_rows_per_task(x.targets * out.shape[3], taps),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; row++) sum_row<T>(row);
                 });
  }

 private:
  template <class T>
  void sum_row(int64_t number) const {
    const int64_t C = out.shape[3], apart = x.targets_apart * C, window_w = filter.shape[1];
    const WindowRow<T> row(from.ptr<const T>(), C, y, x, number);
    const int64_t place = (row.number * out.shape[1] + y.target_at(row.target)) * out.shape[2] * C;
    over_targets(x, [&](auto neighbours, int s, int begin, int end) {
      constexpr int n = decltype(neighbours)::value;
      const int64_t to = place + x.target_at(s) * C;
      over_vectors(C, [&](int64_t c, auto lanes) {
        vf sum[n] = {};
        row.template over_taps<n>(s, begin, end, c, lanes, [&](int i, int j, const vf(&v)[n]) {
          const vf weight = lanes.load(filter.ptr<const T>() + (y.tap_at(i) * window_w + x.tap_at(j)) * C + c);
#pragma GCC unroll 4
          for (int q = 0; q < n; q++) sum[q] = fma(v[q], weight, sum[q]);
        });
        if (bias) {
          const vf b =
              bias.dtype == DType::f32 ? lanes.load(bias.as<const float>() + c) : lanes.load(bias.as<const T>() + c);
          for (int q = 0; q < n; q++) sum[q] += b;
        }
        for (int q = 0; q < n; q++) {
          const int64_t at = to + q * apart + c;
          if (preact) lanes.store(preact.as<T>() + at, sum[q]);
          vf v = activated(activation, sum[q]);
          if (accumulate) v += lanes.load(out.ptr<T>() + at);
          lanes.store(out.ptr<T>() + at, v);
        }
      });
    });
  }
};

void launch(Stream& stream, const char* op, const Sums& sums) {
  stream.launch(op, [sums] { with_float_type(sums.out.dtype, [&](auto type) { sums.run<decltype(type)>(); }); });
}

// sums[i, j, c] = Σ inp · dout over the rows [begin, end) of dout.
template <class T>
void correlate(float* sums, const TensorView& inp, const TensorView& dout, const Axis& y, const Axis& x, int64_t begin,
               int64_t end) {
  const int64_t C = inp.shape[3];
  std::memset(sums, 0, static_cast<size_t>(y.taps * x.taps * C) * sizeof(float));
  for (int64_t number = begin; number < end; number++) {
    const WindowRow<T> row(inp.ptr<const T>(), C, y, x, number);
    const T* const upstream = dout.ptr<const T>() + number * x.targets * C;
    for (int i = row.begin; i < row.end; i++)
      for (int j = 0; j < x.taps; j++) {
        // Targets [first, last) read within the image by this tap.
        const int before = -x.at(0, j), left = x.source - x.at(0, j);
        const int first = before <= 0 ? 0 : (before - 1) / x.step + 1;
        const int last = min_of(x.targets, left <= 0 ? 0 : (left - 1) / x.step + 1);
        if (first >= last) continue;
        float* const to = sums + (static_cast<int64_t>(i) * x.taps + j) * C;
        over_vectors(C, [&](int64_t c, auto lanes) {
          const T *from = row.at(first, i, j) + c, *dy = upstream + first * C + c;
          const int64_t next = x.step * C;
          vf sum[4] = {};
          int s = first;
          for (; s + 4 <= last; s += 4, from += 4 * next, dy += 4 * C)
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) sum[q] = fma(lanes.load(from + q * next), lanes.load(dy + q * C), sum[q]);
          for (; s < last; s++, from += next, dy += C) sum[0] = fma(lanes.load(from), lanes.load(dy), sum[0]);
          lanes.store(to + c, lanes.load(to + c) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
        });
      }
  }
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::depthwise_conv2d(Stream& stream, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation,
                                Int stride_h, Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                                Bool accumulate) {
  const char* op = "depthwise_conv2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution(op, out, inp, filter, bias, preact, activation, o, true);
  if (out.empty()) return;
  Sums sums;
  sums.out = out;
  sums.from = inp;
  sums.filter = filter;
  sums.y = forward_axis(inp.shape[1], out.shape[1], o.vertical(filter.shape[0]));
  sums.x = forward_axis(inp.shape[2], out.shape[2], o.horizontal(filter.shape[1]));
  if (bias) sums.bias = Floats(*bias);
  if (preact) sums.preact = Floats(*preact);
  sums.activation = static_cast<Activation>(activation);
  sums.accumulate = accumulate;
  launch(stream, op, sums);
}

void HEED_ISA::depthwise_conv2d_input(Stream& stream, Out dinp, In dout, In filter, Int stride_h, Int stride_w,
                                      Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "depthwise_conv2d_input";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_input(op, dinp, dout, filter, o, true);
  if (dinp.empty()) return;
  Sums sums;
  sums.out = dinp;
  sums.from = dout;
  sums.filter = filter;
  sums.accumulate = accumulate;
  for (int64_t h = 0; h < phases(dinp.shape[1], stride_h); h++)
    for (int64_t w = 0; w < phases(dinp.shape[2], stride_w); w++) {
      sums.y = backward_axis(dinp.shape[1], dout.shape[1], o.vertical(filter.shape[0]), h);
      sums.x = backward_axis(dinp.shape[2], dout.shape[2], o.horizontal(filter.shape[1]), w);
      launch(stream, op, sums);
    }
}

void HEED_ISA::depthwise_conv2d_filter(Stream& stream, Out dfilter, In inp, In dout, Int stride_h, Int stride_w,
                                       Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "depthwise_conv2d_filter";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_filter(op, dfilter, inp, dout, o, true);
  if (dfilter.empty()) return;
  if (dout.empty() || inp.empty()) {
    if (!accumulate) fill(stream, dfilter, 0);
    return;
  }
  constexpr int64_t kRuns = 64;
  const int64_t rows = dout.shape[0] * dout.shape[1], size = dfilter.numel();
  const int64_t run = ceil_div(rows, kRuns), runs = ceil_div(rows, run);
  const Axis y = forward_axis(inp.shape[1], dout.shape[1], o.vertical(dfilter.shape[0]));
  const Axis x = forward_axis(inp.shape[2], dout.shape[2], o.horizontal(dfilter.shape[1]));
  const Stream::Workspace partial(stream, op, static_cast<size_t>(runs * size) * sizeof(float));
  stream.launch(op, [=, sums = partial.f32()] {
    parallel_for(runs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++)
        with_float_type(inp.dtype, [&](auto type) {
          correlate<decltype(type)>(sums + r * size, inp, dout, y, x, r * run, min_of(rows, (r + 1) * run));
        });
    });
  });
  sum_rows(stream, op, Floats(dfilter), Floats(partial.f32(), DType::f32), runs, size, size, 1, accumulate);
}

}  // namespace heed::cpu
