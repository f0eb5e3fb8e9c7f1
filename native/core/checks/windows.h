// Checks of convolutions and pooling.
#pragma once
#include "core/params.h"
#include "core/windows.h"

namespace heed {

// The options of a window as ops.def lists them.
struct WindowOptions {
  int64_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;

  Sliding vertical(int64_t taps) const { return {taps, stride_h, pad_top, dilation_h}; }
  Sliding horizontal(int64_t taps) const { return {taps, stride_w, pad_left, dilation_w}; }
};

// The checks of convolutions take a filter [kh, kw, C, N] or, of a depthwise one, [kh, kw, C].
void check_convolution(const char* op, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation,
                       const WindowOptions& options, bool depthwise);
void check_convolution_input(const char* op, Out dinp, In dout, In filter, const WindowOptions& options,
                             bool depthwise);
void check_convolution_filter(const char* op, Out dfilter, In inp, In dout, const WindowOptions& options,
                              bool depthwise);
// The images' tensor may be given twice.
void check_pool(const char* op, const char* images_name, const TensorView& images, const char* pooled_name,
                const TensorView& pooled, Int window_h, Int window_w, const WindowOptions& options);
void check_max_pool_backward(const char* op, Out dinp, In dout, In inp, Int window_h, Int window_w,
                             const WindowOptions& options);

}  // namespace heed
