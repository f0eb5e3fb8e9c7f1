// depthwise_conv2d (ops.def) and its gradients: a thread sums an element over its taps, in f32 and in their order. The
// gradient by the image is the same sum over dout, for each phase of a stride (core/windows.h).
//
// The gradient of the filter is summed in two stages, without atomics: each chunk of the pixels of dout is summed into
// a filter of its own, and then the chunks are added up. In a block, a warp's threads are 32 channels, and the warps
// take the chunk's pixels in turn; their sums are added in order.
#include "cuda/kernels/activation.h"
#include "cuda/kernels/windows.h"

#if !HEED_DEVICE_CODE
#include <algorithm>

#include "core/convolution.h"
#endif

namespace heed::cuda {

struct DepthwiseParams {
  Targets targets;
  void *out, *preact;
  const void *inp, *filter, *bias;
  int height, width, window_w;  // of the images that the targets are pixels of; of the filter
  Activation activation;
  bool bias_f32, accumulate;
};

struct DepthwiseFilterParams {
  Axis y, x;
  int64_t channels;
  const void *inp, *dout;
  float* partial;  // [chunks, taps, channels]
  int64_t pixels, chunk;
};

#if HEED_DEVICE_CODE

template <class T>
__device__ void depthwise_body(const DepthwiseParams& p) {
  const Targets& t = p.targets;
  const Target target(t);
  if (!target.exists) return;
  const T* const filter = static_cast<const T*>(p.filter) + target.channel;
  float sum = 0;
  over_taps(t, target, static_cast<const T*>(p.inp), [&](int i, int j, float value) {
    const int64_t tap = static_cast<int64_t>(t.y.tap_at(i)) * p.window_w + t.x.tap_at(j);
    sum = fmaf(value, to_float(filter[tap * t.channels]), sum);
  });
  if (p.bias)
    sum += p.bias_f32 ? static_cast<const float*>(p.bias)[target.channel]
                      : to_float(static_cast<const T*>(p.bias)[target.channel]);
  const int64_t place = place_of(t, target, p.height, p.width);
  if (p.preact) static_cast<T*>(p.preact)[place] = from_float<T>(sum);
  with_activation(p.activation, [&](auto f, auto) { sum = f(sum); });
  put(static_cast<T*>(p.out) + place, sum, p.accumulate);
}

constexpr int kFilterWarps = kWindowThreads / 32;

template <class T>
__device__ void depthwise_filter_body(const DepthwiseFilterParams& p) {
  __shared__ float sums[kFilterWarps][32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  const unsigned begin = static_cast<unsigned>(blockIdx.y * p.chunk) + warp;
  const unsigned end = static_cast<unsigned>(min(p.pixels, (blockIdx.y + 1) * p.chunk));
  for (int i = 0; i < p.y.taps; i++)
    for (int j = 0; j < p.x.taps; j++) {
      float sum = 0;
      if (channel < p.channels) {
        unsigned rest = begin / p.x.targets;
        int column = static_cast<int>(begin % p.x.targets), row = static_cast<int>(rest % p.y.targets);
        int64_t image = rest / p.y.targets;
        for (unsigned pixel = begin; pixel < end; pixel += kFilterWarps) {
          const int at_y = p.y.at(row, i), at_x = p.x.at(column, j);
          if (p.y.inside(at_y) && p.x.inside(at_x)) {
            const int64_t from = (image * p.y.source + at_y) * p.x.source + at_x;
            sum = fmaf(to_float(static_cast<const T*>(p.inp)[from * p.channels + channel]),
                       to_float(static_cast<const T*>(p.dout)[pixel * p.channels + channel]), sum);
          }
          column += kFilterWarps;
          while (column >= p.x.targets) {
            column -= p.x.targets;
            if (++row == p.y.targets) {
              row = 0;
              image++;
            }
          }
        }
      }
      sums[warp][lane] = sum;
      __syncthreads();
      if (warp == 0 && channel < p.channels) {
        float total = 0;
#pragma unroll
        for (int w = 0; w < kFilterWarps; w++) total += sums[w][lane];
        const int64_t taps = static_cast<int64_t>(p.y.taps) * p.x.taps, tap = static_cast<int64_t>(i) * p.x.taps + j;
        p.partial[(blockIdx.y * taps + tap) * p.channels + channel] = total;
      }
      __syncthreads();
    }
}

#endif

HEED_KERNEL_FLOATS(depthwise_kernel, DepthwiseParams, kWindowThreads, 1, depthwise_body)
HEED_KERNEL_FLOATS(depthwise_filter_kernel, DepthwiseFilterParams, kWindowThreads, 1, depthwise_filter_body)

#if !HEED_DEVICE_CODE

void host::depthwise_conv2d(Stream& stream, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation,
                            Int stride_h, Int stride_w, Int pad_top, Int pad_left, Int dilation_h, Int dilation_w,
                            Bool accumulate) {
  const char* op = "depthwise_conv2d";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution(op, out, inp, filter, bias, preact, activation, o, true);
  if (out.empty()) return;
  const Targets targets(forward_axis(inp.shape[1], out.shape[1], o.vertical(filter.shape[0])),
                        forward_axis(inp.shape[2], out.shape[2], o.horizontal(filter.shape[1])), out.shape[0],
                        out.shape[3]);
  const DepthwiseParams p{targets,
                          out.data,
                          preact ? preact->data : nullptr,
                          inp.data,
                          filter.data,
                          bias ? bias->data : nullptr,
                          static_cast<int>(out.shape[1]),
                          static_cast<int>(out.shape[2]),
                          static_cast<int>(filter.shape[1]),
                          static_cast<Activation>(activation),
                          bias && bias->dtype == DType::f32,
                          accumulate};
  stream.launch(op, depthwise_kernel(out.dtype), targets.grid(), p);
}

void host::depthwise_conv2d_input(Stream& stream, Out dinp, In dout, In filter, Int stride_h, Int stride_w, Int pad_top,
                                  Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "depthwise_conv2d_input";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_input(op, dinp, dout, filter, o, true);
  if (dinp.empty()) return;
  const int64_t H = dinp.shape[1], W = dinp.shape[2];
  for (int64_t h = 0; h < phases(H, stride_h); h++)
    for (int64_t w = 0; w < phases(W, stride_w); w++) {
      const Targets targets(backward_axis(H, dout.shape[1], o.vertical(filter.shape[0]), h),
                            backward_axis(W, dout.shape[2], o.horizontal(filter.shape[1]), w), dinp.shape[0],
                            dinp.shape[3]);
      const DepthwiseParams p{targets,
                              dinp.data,
                              nullptr,
                              dout.data,
                              filter.data,
                              nullptr,
                              static_cast<int>(H),
                              static_cast<int>(W),
                              static_cast<int>(filter.shape[1]),
                              Activation::none,
                              false,
                              accumulate};
      stream.launch(op, depthwise_kernel(dinp.dtype), targets.grid(), p);
    }
}

void host::depthwise_conv2d_filter(Stream& stream, Out dfilter, In inp, In dout, Int stride_h, Int stride_w,
                                   Int pad_top, Int pad_left, Int dilation_h, Int dilation_w, Bool accumulate) {
  const char* op = "depthwise_conv2d_filter";
  const WindowOptions o{stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w};
  check_convolution_filter(op, dfilter, inp, dout, o, true);
  if (dfilter.empty()) return;
  if (dout.empty() || inp.empty()) {
    if (!accumulate) fill(stream, dfilter, 0);
    return;
  }
  constexpr int64_t kChunks = 128, kLeastPixels = 256;
  const int64_t size = dfilter.numel(), C = inp.shape[3], pixels = dout.numel() / C;
  const int64_t chunk = std::max(kLeastPixels, ceil_div(pixels, kChunks)), chunks = ceil_div(pixels, chunk);
  const Stream::Workspace partial(stream, op, static_cast<size_t>(chunks * size) * sizeof(float));
  const DepthwiseFilterParams p{forward_axis(inp.shape[1], dout.shape[1], o.vertical(dfilter.shape[0])),
                                forward_axis(inp.shape[2], dout.shape[2], o.horizontal(dfilter.shape[1])),
                                C,
                                inp.data,
                                dout.data,
                                partial.f32(),
                                pixels,
                                chunk};
  stream.launch(op, depthwise_filter_kernel(inp.dtype), {ceil_div(C, 32), chunks}, p);
  // The sums of the chunks are in f32, and so is their total.
  const bool in_place = dfilter.dtype == DType::f32;
  const Stream::Workspace total(stream, op, in_place ? 0 : static_cast<size_t>(size) * sizeof(float));
  TensorView sums = matrix_at(dfilter, partial.f32(), chunks, size, size, 1);
  sums.dtype = DType::f32;
  TensorView row = matrix_at(sums, in_place ? dfilter.data : total.f32(), size, 1, 1, 1);
  row.rank = 1;
  bias_backward(stream, row, sums, in_place && accumulate);
  if (in_place) return;
  TensorView flat = matrix_at(dfilter, dfilter.data, size, 1, 1, 1);
  flat.rank = 1;
  copy(stream, flat, row, accumulate);
}

#endif

}  // namespace heed::cuda
