// Kernels over windows (core/windows.h): a block has `lanes` channels, a power of two, of some targets, one a thread,
// so that a warp reads neighbouring channels.
#pragma once
#include "core/windows.h"
#include "cuda/kernels/kernel.h"

namespace heed::cuda {

constexpr int kWindowThreads = 256;

// The targets of a window on `count` images of `channels`.
struct Targets {
  Axis y, x;
  int count, lanes;
  int64_t channels;

#if HEED_DEVICE_CODE
  __device__ __forceinline__ unsigned places() const {
    return static_cast<unsigned>(count) * static_cast<unsigned>(y.targets) * static_cast<unsigned>(x.targets);
  }
#else
  Targets(const Axis& y_axis, const Axis& x_axis, int64_t images, int64_t C)
      : y(y_axis), x(x_axis), count(static_cast<int>(images)), lanes(32), channels(C) {
    while (lanes > 1 && lanes / 2 >= C) lanes /= 2;
    while (lanes < kWindowThreads && lanes < C) lanes *= 2;
  }
  Grid grid() const {
    const int64_t places = int64_t{count} * y.targets * x.targets;
    return tall_grid(ceil_div(channels, lanes), ceil_div(places, kWindowThreads / lanes));
  }
#endif
};

#if HEED_DEVICE_CODE

// A thread's target (image, row, column), and its channel.
struct Target {
  int image, row, column;
  int64_t channel;
  bool exists;

  __device__ __forceinline__ explicit Target(const Targets& t) {
    channel = static_cast<int64_t>(blockIdx.x) * t.lanes + threadIdx.x % t.lanes;
    const int64_t place = block_y() * (kWindowThreads / t.lanes) + threadIdx.x / t.lanes;
    exists = channel < t.channels && place < t.places();
    const unsigned at = exists ? static_cast<unsigned>(place) : 0, rest = at / t.x.targets;
    column = static_cast<int>(at % t.x.targets);
    row = static_cast<int>(rest % t.y.targets);
    image = static_cast<int>(rest / t.y.targets);
  }
};

// Calls step(i, j, value) with what a target reads by each of its taps from images [count, y.source, x.source,
// channels].
template <class T, class Step>
__device__ __forceinline__ void over_taps(const Targets& t, const Target& target, const T* images, const Step& step) {
  const int begin_y = t.y.begin_tap(target.row), end_y = t.y.end_tap(target.row);
  const int begin_x = t.x.begin_tap(target.column), end_x = t.x.end_tap(target.column);
  for (int i = begin_y; i < end_y; i++) {
    const int64_t row = static_cast<int64_t>(target.image) * t.y.source + t.y.at(target.row, i);
    const T* from = images + (row * t.x.source + t.x.at(target.column, begin_x)) * t.channels + target.channel;
    for (int j = begin_x; j < end_x; j++, from += t.x.advance * t.channels) step(i, j, to_float(*from));
  }
}

// Returns the place of a target in its images, which have the size [height, width].
__device__ __forceinline__ int64_t place_of(const Targets& t, const Target& target, int height, int width) {
  const int64_t row = static_cast<int64_t>(target.image) * height + t.y.target_at(target.row);
  return (row * width + t.x.target_at(target.column)) * t.channels + target.channel;
}

template <class T>
__device__ __forceinline__ void put(T* to, float value, bool accumulate) {
  *to = from_float<T>(accumulate ? to_float(*to) + value : value);
}

#endif

}  // namespace heed::cuda
