// Loops over the windows of a row of targets (core/windows.h), for kernels that treat each channel alone: vectors lie
// along the channels.
#pragma once
#include "core/windows.h"
#include "cpu/kernels/rows.h"

namespace heed::cpu::HEED_ISA {
namespace {

template <int n>
struct Neighbours {
  static constexpr int value = n;
};

// Calls body(Neighbours<n>{}, s, begin, end) for targets [s, s + n) of an axis, which read by taps [begin, end): four
// at a time where all taps lie within the source, else one.
template <class Body>
__attribute__((always_inline)) inline void over_targets(const Axis& x, const Body& body) {
  const int inner = x.begin_inner(), outer = x.end_inner();
  int s = 0;
  for (; s < inner; s++) body(Neighbours<1>{}, s, x.begin_tap(s), x.end_tap(s));
  for (; s + 4 <= outer; s += 4) body(Neighbours<4>{}, s, 0, x.taps);
  for (; s < x.targets; s++) body(Neighbours<1>{}, s, x.begin_tap(s), x.end_tap(s));
}

// Images [count, y.source, x.source, C] under a window, and row `row` of its targets on all of them, one image after
// the other.
template <class T>
struct WindowRow {
  const Axis &y, &x;
  int64_t C;
  const T* image;
  int64_t number;          // of the image
  int target, begin, end;  // the row's target of y, and its taps

  WindowRow(const T* images, int64_t channels, const Axis& y_axis, const Axis& x_axis, int64_t row)
      : y(y_axis),
        x(x_axis),
        C(channels),
        image(images + row / y.targets * y.source * x.source * channels),
        number(row / y.targets),
        target(static_cast<int>(row % y.targets)),
        begin(y.begin_tap(target)),
        end(y.end_tap(target)) {}

  // Returns the place of channel 0 that target s reads by taps i and j.
  const T* at(int s, int i, int j) const {
    return image + (static_cast<int64_t>(y.at(target, i)) * x.source + x.at(s, j)) * C;
  }

  // Calls step(i, j, v) for each tap, where v[q] are the channels from c on that target s + q reads.
  template <int n, class Lanes, class Step>
  __attribute__((always_inline)) inline void over_taps(int s, int begin_x, int end_x, int64_t c, Lanes lanes,
                                                       const Step& step) const {
    const int64_t next_tap = x.advance * C, next_target = x.step * C;
    for (int i = begin; i < end; i++) {
      const T* from = at(s, i, begin_x) + c;
      for (int j = begin_x; j < end_x; j++, from += next_tap) {
        vf v[n];
#pragma GCC unroll 4
        for (int q = 0; q < n; q++) v[q] = lanes.load(from + q * next_target);
        step(i, j, v);
      }
    }
  }
};

// Returns the rows of targets that are worth a task, of `taps` taps and `width` elements.
inline int64_t window_rows_per_task(int64_t width, int64_t taps) {
  return ceil_div(32768, max_of<int64_t>(1, width * (taps + 1)));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
