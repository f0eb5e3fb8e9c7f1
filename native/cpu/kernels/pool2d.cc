// max_pool2d and avg_pool2d (ops.def), and their gradients. Every channel is pooled alone, so that vectors lie along
// the channels, and the work is parallel over rows of targets.
//
// The gradient of a mean is gathered: an element of the image sums what each window that it is part of sends to its
// elements. That of a maximum is scattered, because the place of the maximum has to be found again: threads share it by
// rows of windows, or, where these overlap, by images and channels, so that nothing is added in another order. It is
// summed in f32.
#include "core/checks/windows.h"
#include "cpu/kernels/gemm.h"
#include "cpu/kernels/window_rows.h"

namespace heed::cpu {
namespace HEED_ISA {
namespace {

struct Pool {
  TensorView out, inp;
  Axis y, x;
  float whole;  // elements of a window, if those outside of the image count too, or else 0

  template <bool kMax, class T>
  void run() const {
    parallel_for(out.shape[0] * y.targets, window_rows_per_task(x.targets * out.shape[3], int64_t{y.taps} * x.taps),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; row++) pool_row<kMax, T>(row);
                 });
  }

 private:
  template <bool kMax, class T>
  void pool_row(int64_t number) const {
    const int64_t C = out.shape[3];
    const WindowRow<T> row(inp.ptr<const T>(), C, y, x, number);
    T* const to = out.ptr<T>() + number * x.targets * C;
    over_targets(x, [&](auto neighbours, int s, int begin, int end) {
      constexpr int n = decltype(neighbours)::value;
      const float count =
          whole > 0 ? whole
                    : static_cast<float>(max_of(1, row.end - row.begin)) * static_cast<float>(max_of(1, end - begin));
      const vf scale = set1(1 / count);
      over_vectors(C, [&](int64_t c, auto lanes) {
        vf result[n];
#pragma GCC unroll 4
        for (int q = 0; q < n; q++) result[q] = set1(kMax ? -HUGE_VALF : 0.0f);
        row.template over_taps<n>(s, begin, end, c, lanes, [&](int, int, const vf(&v)[n]) {
#pragma GCC unroll 4
          for (int q = 0; q < n; q++) result[q] = kMax ? vmax(v[q], result[q]) : result[q] + v[q];
        });
#pragma GCC unroll 4
        for (int q = 0; q < n; q++) lanes.store(to + (s + q) * C + c, kMax ? result[q] : result[q] * scale);
      });
    });
  }
};

// The gradient of a mean: targets are the elements of dinp of a phase. A window (y, x) sends weights_y[y] ·
// weights_x[x] of its gradient to each element.
struct MeanGradient {
  TensorView dinp, dout;
  Axis y, x;
  const float *weights_y, *weights_x;
  bool accumulate;

  template <class T>
  void run() const {
    parallel_for(dinp.shape[0] * y.targets, window_rows_per_task(x.targets * dinp.shape[3], int64_t{y.taps} * x.taps),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; row++) sum_row<T>(row);
                 });
  }

 private:
  template <class T>
  void sum_row(int64_t number) const {
    const int64_t C = dinp.shape[3], apart = x.targets_apart * C;
    const WindowRow<T> row(dout.ptr<const T>(), C, y, x, number);
    T* const to = dinp.ptr<T>() + (row.number * dinp.shape[1] + y.target_at(row.target)) * dinp.shape[2] * C;
    over_targets(x, [&](auto neighbours, int s, int begin, int end) {
      constexpr int n = decltype(neighbours)::value;
      over_vectors(C, [&](int64_t c, auto lanes) {
        vf sum[n] = {};
        row.template over_taps<n>(s, begin, end, c, lanes, [&](int i, int j, const vf(&v)[n]) {
          const float weight = weights_y[y.at(row.target, i)];
#pragma GCC unroll 4
          for (int q = 0; q < n; q++) sum[q] = fma(v[q], set1(weight * weights_x[x.at(s + q, j)]), sum[q]);
        });
#pragma GCC unroll 4
        for (int q = 0; q < n; q++) {
          T* const place = to + x.target_at(s) * C + q * apart + c;
          if (accumulate) sum[q] += lanes.load(place);
          lanes.store(place, sum[q]);
        }
      });
    });
  }
};

// weights[place] = 1 / the elements that a window covers there in one dimension.
void weigh(float* weights, const Axis& forward, bool count_padding) {
  for (int place = 0; place < forward.targets; place++) {
    const int covered = forward.end_tap(place) - forward.begin_tap(place);
    weights[place] = 1 / static_cast<float>(count_padding ? forward.taps : max_of(1, covered));
  }
}

// sums += the gradient of the first maximum of each window, for rows of windows [first, last) and channels [c, stop).
template <class T>
void scatter(float* sums, const TensorView& inp, const TensorView& dout, const Axis& y, const Axis& x, int64_t first,
             int64_t last, int64_t from, int64_t stop) {
  const int64_t C = inp.shape[3];
  for (int64_t number = first; number < last; number++) {
    const WindowRow<T> row(inp.ptr<const T>(), C, y, x, number);
    const T* const upstream = dout.ptr<const T>() + number * x.targets * C;
    for (int s = 0; s < x.targets; s++) {
      const int begin = x.begin_tap(s), end = x.end_tap(s);
      over_vectors(stop - from, [&](int64_t offset, auto lanes) {
        const int64_t c = from + offset;
        vf best = set1(-HUGE_VALF);
        vi place = set1i(-1);
        row.template over_taps<1>(s, begin, end, c, lanes, [&](int i, int j, const vf(&v)[1]) {
          const vi higher = v[0] > best;
          best = select(higher, v[0], best);
          place = select(higher, set1i(i * x.taps + j), place);
        });
        const vf dy = lanes.load(upstream + s * C + c);
        for (int i = row.begin; i < row.end; i++)
          for (int j = begin; j < end; j++) {
            float* const to = sums + (row.at(s, i, j) - inp.ptr<const T>()) + c;
            lanes.store(to, lanes.load(to) + select(place == set1i(i * x.taps + j), dy, vf{}));
          }
      });
    }
  }
}

void zero(float* data, int64_t n) {
  parallel_for(n, 1 << 18, [&](int64_t begin, int64_t end) {
    std::memset(data + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
  });
}

}  // namespace
}  // namespace HEED_ISA

void HEED_ISA::max_pool2d(Stream& stream, Out out, In inp, Int window_h, Int window_w, Int stride_h, Int stride_w,
                          Int pad_top, Int pad_left, Int dilation_h, Int dilation_w) {
  const char* op = "max_pool2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_pool(op, "inp", inp, "out", out, window_h, window_w, o);
  if (out.empty()) return;
  const Pool pool{out, inp, forward_axis(inp.shape[1], out.shape[1], o.vertical(window_h)),
                  forward_axis(inp.shape[2], out.shape[2], o.horizontal(window_w)), 0};
  stream.launch(op, [pool] { with_float_type(pool.out.dtype, [&](auto type) { pool.run<true, decltype(type)>(); }); });
}

void HEED_ISA::max_pool2d_backward(Stream& stream, Out dinp, In dout, In inp, Int window_h, Int window_w, Int stride_h,
                                   Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                                   Bool accumulate) {
  const char* op = "max_pool2d_backward";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_max_pool_backward(op, dinp, dout, inp, window_h, window_w, o);
  if (dinp.empty()) return;
  const Axis y = forward_axis(inp.shape[1], dout.shape[1], o.vertical(window_h));
  const Axis x = forward_axis(inp.shape[2], dout.shape[2], o.horizontal(window_w));
  const bool in_place = dinp.dtype == DType::f32;
  const int64_t size = dinp.numel();
  const Stream::Workspace scratch(stream, op, in_place ? 0 : static_cast<size_t>(size) * sizeof(float));
  stream.launch(op, [=, sums = in_place ? dinp.f32() : scratch.f32()] {
    if (!in_place || !accumulate) zero(sums, size);
    const bool overlap = (window_h - 1) * dilation_h >= stride_h;
    const int64_t channels = overlap ? 4 * kWidth : inp.shape[3];
    const int64_t blocks = ceil_div(inp.shape[3], channels), rows = dout.shape[0] * y.targets;
    const int64_t together =
        overlap ? y.targets : window_rows_per_task(x.targets * inp.shape[3], 2 * window_h * window_w);
    with_float_type(dinp.dtype, [&](auto type) {
      using T = decltype(type);
      parallel_for(ceil_div(rows, max_of<int64_t>(1, together)) * blocks, 1, [&](int64_t task, int64_t end) {
        for (; task < end; task++) {
          const int64_t first = task / blocks * together, c = task % blocks * channels;
          scatter<T>(sums, inp, dout, y, x, first, min_of(rows, first + together), c,
                     min_of(inp.shape[3], c + channels));
        }
      });
      if (in_place) return;
      parallel_for(size, 16384, [&](int64_t begin, int64_t end) {
        T* const to = dinp.ptr<T>();
        for (int64_t i = begin; i < end; i += kWidth) {
          vf v = load_upto(sums + i, end - i);
          if (accumulate) v += load_upto(to + i, end - i);
          store_upto(to + i, v, end - i);
        }
      });
    });
  });
}

void HEED_ISA::avg_pool2d(Stream& stream, Out out, In inp, Int window_h, Int window_w, Int stride_h, Int stride_w,
                          Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool count_padding) {
  const char* op = "avg_pool2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_pool(op, "inp", inp, "out", out, window_h, window_w, o);
  if (out.empty()) return;
  const Pool pool{out, inp, forward_axis(inp.shape[1], out.shape[1], o.vertical(window_h)),
                  forward_axis(inp.shape[2], out.shape[2], o.horizontal(window_w)),
                  count_padding ? static_cast<float>(window_h) * static_cast<float>(window_w) : 0.0f};
  stream.launch(op, [pool] { with_float_type(pool.out.dtype, [&](auto type) { pool.run<false, decltype(type)>(); }); });
}

void HEED_ISA::avg_pool2d_backward(Stream& stream, Out dinp, In dout, Int window_h, Int window_w, Int stride_h,
                                   Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                                   Bool count_padding, Bool accumulate) {
  const char* op = "avg_pool2d_backward";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_pool(op, "dinp", dinp, "dout", dout, window_h, window_w, o);
  if (dinp.empty()) return;
  const int64_t H = dinp.shape[1], W = dinp.shape[2], OH = dout.shape[1], OW = dout.shape[2];
  const Sliding vertical = o.vertical(window_h), horizontal = o.horizontal(window_w);
  const Stream::Workspace weights(stream, op, static_cast<size_t>(OH + OW) * sizeof(float));
  MeanGradient gradient{dinp, dout, {}, {}, weights.f32(), weights.f32() + OH, accumulate};
  stream.launch(op, [=, to = weights.f32()] {
    weigh(to, forward_axis(H, OH, vertical), count_padding);
    weigh(to + OH, forward_axis(W, OW, horizontal), count_padding);
  });
  for (int64_t h = 0; h < phases(H, stride_h); h++)
    for (int64_t w = 0; w < phases(W, stride_w); w++) {
      gradient.y = backward_axis(H, OH, vertical, h);
      gradient.x = backward_axis(W, OW, horizontal, w);
      stream.launch(
          op, [gradient] { with_float_type(gradient.dinp.dtype, [&](auto type) { gradient.run<decltype(type)>(); }); });
    }
}

}  // namespace heed::cpu
