// max_pool2d and avg_pool2d (ops.def), and their gradients: a thread computes an element. Gradients are gathered,
// without atomics: an element of the image sums what each window that it is part of sends to it. For a maximum, it
// finds out whether it is the first one of that window by reading the window again.
#include "cuda/kernels/windows.h"

#if !HEED_DEVICE_CODE
#include "core/checks/windows.h"
#endif

namespace heed::cuda {

struct PoolParams {
  Targets targets;
  void* out;
  const void* inp;
  float whole;  // elements of a window, if those outside of the image count too, or else 0
  bool max;
};

// Targets are the elements of dinp of a phase; `forward` are the windows, of which each may send its gradient.
struct PoolBackwardParams {
  Targets targets;
  Axis forward_y, forward_x;
  void* dinp;
  const void *dout, *inp;
  float whole;
  bool accumulate;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void pool_body(const PoolParams& p) {
  const Targets& t = p.targets;
  const Target target(t);
  if (!target.exists) return;
  float result = p.max ? -INFINITY : 0.0f;
  int taps = 0;
  over_taps(t, target, static_cast<const T*>(p.inp), [&](int, int, float value) {
    taps++;
    if (!p.max)
      result += value;
    else if (value > result)
      result = value;
  });
  if (!p.max) result *= 1 / (p.whole > 0 ? p.whole : static_cast<float>(max(taps, 1)));
  static_cast<T*>(p.out)[place_of(t, target, t.y.targets, t.x.targets)] = from_float<T>(result);
}

__device__ __forceinline__ int covered(const Axis& axis, int place) {
  return max(1, axis.end_tap(place) - axis.begin_tap(place));
}

template <class T>
__device__ void avg_pool_backward_body(const PoolBackwardParams& p) {
  const Targets& t = p.targets;
  const Target target(t);
  if (!target.exists) return;
  float sum = 0;
  over_taps(t, target, static_cast<const T*>(p.dout), [&](int i, int j, float value) {
    const float count = p.whole > 0 ? p.whole
                                    : static_cast<float>(covered(p.forward_y, t.y.at(target.row, i))) *
                                          static_cast<float>(covered(p.forward_x, t.x.at(target.column, j)));
    sum = fmaf(value, 1 / count, sum);
  });
  put(static_cast<T*>(p.dinp) + place_of(t, target, p.forward_y.source, p.forward_x.source), sum, p.accumulate);
}

// Returns true if the element, which the window at (row, column) reads by tap (tap_y, tap_x), is its first maximum.
template <class T>
__device__ __forceinline__ bool is_first_maximum(const PoolBackwardParams& p, const T* image, int64_t channels, int row,
                                                 int column, int tap_y, int tap_x, float value) {
  const Axis &y = p.forward_y, &x = p.forward_x;
  if (!(value > -INFINITY)) return false;
  const int end_y = y.end_tap(row), begin_x = x.begin_tap(column), end_x = x.end_tap(column);
  for (int i = y.begin_tap(row); i < end_y; i++)
    for (int j = begin_x; j < end_x; j++) {
      const float other = to_float(image[(static_cast<int64_t>(y.at(row, i)) * x.source + x.at(column, j)) * channels]);
      const bool before = i < tap_y || (i == tap_y && j < tap_x);
      if (other > value || (before && other == value)) return false;
    }
  return true;
}

template <class T>
__device__ void max_pool_backward_body(const PoolBackwardParams& p) {
  const Targets& t = p.targets;
  const Target target(t);
  if (!target.exists) return;
  const int height = p.forward_y.source, width = p.forward_x.source;
  const int64_t place = place_of(t, target, height, width);
  const T* const inp = static_cast<const T*>(p.inp);
  const float value = to_float(inp[place]);
  const T* const image = inp + static_cast<int64_t>(target.image) * height * width * t.channels + target.channel;
  float sum = 0;
  over_taps(t, target, static_cast<const T*>(p.dout), [&](int i, int j, float dy) {
    if (is_first_maximum(p, image, t.channels, t.y.at(target.row, i), t.x.at(target.column, j), t.y.tap_at(i),
                         t.x.tap_at(j), value))
      sum += dy;
  });
  put(static_cast<T*>(p.dinp) + place, sum, p.accumulate);
}

#endif

HEED_KERNEL_FLOATS(pool_kernel, PoolParams, kWindowThreads, 1, pool_body)
HEED_KERNEL_FLOATS(avg_pool_backward_kernel, PoolBackwardParams, kWindowThreads, 1, avg_pool_backward_body)
HEED_KERNEL_FLOATS(max_pool_backward_kernel, PoolBackwardParams, kWindowThreads, 1, max_pool_backward_body)

#if !HEED_DEVICE_CODE

namespace {

void pool(Stream& stream, const char* op, Out out, In inp, Int window_h, Int window_w, const WindowOptions& o, bool max,
          bool count_padding) {
  check_pool(op, "inp", inp, "out", out, window_h, window_w, o);
  if (out.empty()) return;
  const Targets targets(forward_axis(inp.shape[1], out.shape[1], o.vertical(window_h)),
                        forward_axis(inp.shape[2], out.shape[2], o.horizontal(window_w)), out.shape[0], out.shape[3]);
  const float whole = count_padding ? static_cast<float>(window_h) * static_cast<float>(window_w) : 0.0f;
  stream.launch(op, pool_kernel(out.dtype), targets.grid(), PoolParams{targets, out.data, inp.data, whole, max});
}

// `inp` is null for a mean.
void pool_backward(Stream& stream, const char* op, Out dinp, In dout, const TensorView* inp, Int window_h, Int window_w,
                   const WindowOptions& o, bool count_padding, bool accumulate) {
  if (dinp.empty()) return;
  const int64_t H = dinp.shape[1], W = dinp.shape[2], OH = dout.shape[1], OW = dout.shape[2];
  const Sliding vertical = o.vertical(window_h), horizontal = o.horizontal(window_w);
  const float whole = count_padding ? static_cast<float>(window_h) * static_cast<float>(window_w) : 0.0f;
  for (int64_t h = 0; h < phases(H, o.stride_h); h++)
    for (int64_t w = 0; w < phases(W, o.stride_w); w++) {
      const Targets targets(backward_axis(H, OH, vertical, h), backward_axis(W, OW, horizontal, w), dinp.shape[0],
                            dinp.shape[3]);
      const PoolBackwardParams p{targets,
                                 forward_axis(H, OH, vertical),
                                 forward_axis(W, OW, horizontal),
                                 dinp.data,
                                 dout.data,
                                 inp ? inp->data : nullptr,
                                 whole,
                                 accumulate};
      stream.launch(op, inp ? max_pool_backward_kernel(dinp.dtype) : avg_pool_backward_kernel(dinp.dtype),
                    targets.grid(), p);
    }
}

}  // namespace

void host::max_pool2d(Stream& stream, Out out, In inp, Int window_h, Int window_w, Int stride_h, Int stride_w,
                      Int pad_top, Int pad_left, Int dilation_h, Int dilation_w) {
  pool(stream, "max_pool2d", out, inp, window_h, window_w,
       {stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w}, true, false);
}

void host::max_pool2d_backward(Stream& stream, Out dinp, In dout, In inp, Int window_h, Int window_w, Int stride_h,
                               Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                               Bool accumulate) {
  const char* op = "max_pool2d_backward";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_max_pool_backward(op, dinp, dout, inp, window_h, window_w, o);
  pool_backward(stream, op, dinp, dout, &inp, window_h, window_w, o, false, accumulate);
}

void host::avg_pool2d(Stream& stream, Out out, In inp, Int window_h, Int window_w, Int stride_h, Int stride_w,
                      Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool count_padding) {
  pool(stream, "avg_pool2d", out, inp, window_h, window_w,
       {stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w}, false, count_padding);
}

void host::avg_pool2d_backward(Stream& stream, Out dinp, In dout, Int window_h, Int window_w, Int stride_h,
                               Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                               Bool count_padding, Bool accumulate) {
  const char* op = "avg_pool2d_backward";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_pool(op, "dinp", dinp, "dout", dout, window_h, window_w, o);
  pool_backward(stream, op, dinp, dout, nullptr, window_h, window_w, o, count_padding, accumulate);
}

#endif

}  // namespace heed::cuda
