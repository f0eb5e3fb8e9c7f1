#include "core/checks/windows.h"

#include "core/checks/checks.h"
#include "core/error.h"

namespace heed {
namespace {

// Sums of two of these, which are the positions that a kernel computes, fit into 32 bits, and so do the numbers of all
// pixels.
constexpr int64_t kMost = int64_t{1} << 29;

void expect_between(const char* op, const char* name, int64_t value, int64_t low) {
  if (value < low || value > kMost)
    fail(Code::range, "%s: expected %s from %lld to %lld, got %lld", op, name, static_cast<long long>(low),
         static_cast<long long>(kMost), static_cast<long long>(value));
}

// Checks that no position of a window of this size overflows, for `places` of it.
void check_axis(const char* op, const char* direction, int64_t size, int64_t places, const Sliding& w) {
  expect_between(op, "the size of an image", size, 0);
  expect_between(op, "the number of places of a window", places, 0);
  expect_between(op, "the size of a window", w.taps, 1);
  expect_between(op, "a stride", w.stride, 1);
  expect_between(op, "a dilation", w.dilation, 1);
  expect_between(op, "padding", w.pad, 0);
  if (places * w.stride > kMost || w.taps * w.dilation > kMost)
    fail(Code::range,
         "%s: expected a window within %lld elements in the %s direction, got %lld places %lld apart with "
         "%lld taps %lld apart",
         op, static_cast<long long>(kMost), direction, static_cast<long long>(places), static_cast<long long>(w.stride),
         static_cast<long long>(w.taps), static_cast<long long>(w.dilation));
}

void check_window(const char* op, const TensorView& images, const TensorView& places, int64_t height, int64_t width,
                  const WindowOptions& options) {
  check_axis(op, "vertical", images.shape[1], places.shape[1], options.vertical(height));
  check_axis(op, "horizontal", images.shape[2], places.shape[2], options.horizontal(width));
  for (const TensorView* view : {&images, &places})
    if (view->shape[0] * view->shape[1] * view->shape[2] > kMost)
      fail(Code::range, "%s: expected at most %lld pixels in all images, got %lld", op, static_cast<long long>(kMost),
           static_cast<long long>(view->shape[0] * view->shape[1] * view->shape[2]));
}

void expect_images(const char* op, const char* name, const TensorView& view) {
  expect_rank(op, name, view, 4);
  expect_contiguous(op, name, view);
}

// Checks the images (inp or dinp), the places of the window (out or dout) and the filter (or dfilter) of a convolution.
void check_convolved(const char* op, const char* images_name, const TensorView& images, const char* places_name,
                     const TensorView& places, const char* filter_name, const TensorView& filter,
                     const WindowOptions& options, bool depthwise) {
  expect_float(op, images_name, images);
  expect_same_dtype(op, places_name, places, images_name, images);
  expect_images(op, images_name, images);
  expect_images(op, places_name, places);
  expect_rank(op, filter_name, filter, depthwise ? 3 : 4);
  expect_contiguous(op, filter_name, filter);
  const int64_t B = images.shape[0], C = images.shape[3], N = places.shape[3];
  expect_shape(op, places_name, places, {B, places.shape[1], places.shape[2], depthwise ? C : N});
  if (depthwise)
    expect_shape(op, filter_name, filter, {filter.shape[0], filter.shape[1], C});
  else
    expect_shape(op, filter_name, filter, {filter.shape[0], filter.shape[1], C, N});
  check_window(op, images, places, filter.shape[0], filter.shape[1], options);
}

}  // namespace

void check_convolution(const char* op, Out out, In inp, In filter, OptIn bias, OptOut preact, Int activation,
                       const WindowOptions& options, bool depthwise) {
  check_convolved(op, "inp", inp, "out", out, "filter", filter, options, depthwise);
  expect_same_dtype(op, "filter", filter, "inp", inp);
  if (bias) {
    expect_shape(op, "bias", *bias, {out.shape[3]});
    expect_parameter_dtype(op, "bias", *bias, inp.dtype);
    expect_contiguous(op, "bias", *bias);
  }
  if (preact) {
    expect_same_dtype(op, "preact", *preact, "inp", inp);
    expect_same_shape(op, "preact", *preact, out);
    expect_contiguous(op, "preact", *preact);
  }
  expect_activation(op, activation);
}

void check_convolution_input(const char* op, Out dinp, In dout, In filter, const WindowOptions& options,
                             bool depthwise) {
  check_convolved(op, "dinp", dinp, "dout", dout, "filter", filter, options, depthwise);
  expect_same_dtype(op, "filter", filter, "dinp", dinp);
}

void check_convolution_filter(const char* op, Out dfilter, In inp, In dout, const WindowOptions& options,
                              bool depthwise) {
  check_convolved(op, "inp", inp, "dout", dout, "dfilter", dfilter, options, depthwise);
  expect_parameter_dtype(op, "dfilter", dfilter, inp.dtype);
}

void check_pool(const char* op, const char* images_name, const TensorView& images, const char* pooled_name,
                const TensorView& pooled, Int window_h, Int window_w, const WindowOptions& options) {
  expect_float(op, images_name, images);
  expect_same_dtype(op, pooled_name, pooled, images_name, images);
  expect_images(op, images_name, images);
  expect_images(op, pooled_name, pooled);
  expect_shape(op, pooled_name, pooled, {images.shape[0], pooled.shape[1], pooled.shape[2], images.shape[3]});
  check_window(op, images, pooled, window_h, window_w, options);
}

void check_max_pool_backward(const char* op, Out dinp, In dout, In inp, Int window_h, Int window_w,
                             const WindowOptions& options) {
  check_pool(op, "dinp", dinp, "dout", dout, window_h, window_w, options);
  expect_same_dtype(op, "inp", inp, "dinp", dinp);
  expect_same_shape(op, "inp", inp, dinp);
  expect_contiguous(op, "inp", inp);
}

}  // namespace heed
