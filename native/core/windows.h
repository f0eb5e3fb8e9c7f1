// Windows that slide over images [B, H, W, C] (ops.def), for the kernels of every device.
//
// One dimension of such a window is an Axis: target r reads, by tap i, the source at r · step + offset + i · advance,
// if that lies within the source. In a convolution, targets are its outputs and the source is the image. In the
// gradient by the image it is the other way round: an element of the image reads the outputs that it has contributed
// to. With a stride of s these are found by one tap in s, which tap depends on the element's position modulo s, its
// phase; the targets of an axis are then the elements of one phase.
#pragma once
#include <cstdint>

#include "core/inlined.h"

namespace heed {

// Coordinates are int: the checks (checks/windows.cc) limit them so that no sum below overflows.
struct Axis {
  int source, targets, taps;
  int step, offset, advance;        // advance > 0
  int first_target, targets_apart;  // target r is at first_target + r · targets_apart in its image
  int first_tap, taps_apart;        // tap i is tap first_tap + i · taps_apart of the window

  HEED_INLINED int at(int target, int tap) const { return target * step + offset + tap * advance; }
  HEED_INLINED int target_at(int target) const { return first_target + target * targets_apart; }
  HEED_INLINED int tap_at(int tap) const { return first_tap + tap * taps_apart; }
  HEED_INLINED bool inside(int position) const {
    return static_cast<unsigned>(position) < static_cast<unsigned>(source);
  }

  // Taps [begin_tap, end_tap) of a target lie within the source.
  HEED_INLINED int begin_tap(int target) const {
    const int before = -at(target, 0);
    const int begin = before <= 0 ? 0 : (before - 1) / advance + 1;
    return begin < taps ? begin : taps;
  }
  HEED_INLINED int end_tap(int target) const {
    const int left = source - at(target, 0);
    const int end = left <= 0 ? 0 : (left - 1) / advance + 1;
    return end < taps ? end : taps;
  }

  // All taps of the targets [begin_inner, end_inner) lie within the source.
  HEED_INLINED int begin_inner() const {
    const int begin = offset >= 0 ? 0 : (-offset - 1) / step + 1;
    return begin < targets ? begin : targets;
  }
  HEED_INLINED int end_inner() const {
    const int left = source - offset - (taps - 1) * advance, begin = begin_inner();
    const int end = left <= 0 ? 0 : (left - 1) / step + 1;
    return end < begin ? begin : end < targets ? end : targets;
  }
};

// The options of one dimension of a window.
struct Sliding {
  int64_t taps, stride, pad, dilation;
};

// The outputs of a window on an image of `size`.
HEED_INLINED Axis forward_axis(int64_t size, int64_t outputs, const Sliding& w) {
  Axis axis;
  axis.source = static_cast<int>(size);
  axis.targets = static_cast<int>(outputs);
  axis.taps = static_cast<int>(w.taps);
  axis.step = static_cast<int>(w.stride);
  axis.offset = static_cast<int>(-w.pad);
  axis.advance = static_cast<int>(w.dilation);
  axis.first_target = 0;
  axis.targets_apart = 1;
  axis.first_tap = 0;
  axis.taps_apart = 1;
  return axis;
}

// The elements of an image of `size` in a phase, below both the stride and the size, as targets of `outputs`. Tap k of
// the window leads to the output (position + pad - k · dilation) / stride, if that is a whole number: to one in
// stride / gcd(stride, dilation) of them. They are counted from the last one, so that positions rise.
HEED_INLINED Axis backward_axis(int64_t size, int64_t outputs, const Sliding& w, int64_t phase) {
  int64_t a = w.stride, b = w.dilation;
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  const int64_t apart = w.stride / a;
  int64_t tap = 0;
  while (tap < apart && tap < w.taps && (phase + w.pad - tap * w.dilation) % w.stride != 0) tap++;
  const bool any = tap < apart && tap < w.taps;
  const int64_t count = any ? (w.taps - 1 - tap) / apart + 1 : 0;
  const int64_t last = tap + (count - 1) * apart;
  Axis axis;
  axis.source = static_cast<int>(outputs);
  axis.targets = static_cast<int>((size - phase - 1) / w.stride + 1);
  axis.taps = static_cast<int>(count);
  axis.step = 1;
  axis.offset = any ? static_cast<int>((phase + w.pad - last * w.dilation) / w.stride) : 0;
  axis.advance = static_cast<int>(w.dilation / a);
  axis.first_target = static_cast<int>(phase);
  axis.targets_apart = static_cast<int>(w.stride);
  axis.first_tap = any ? static_cast<int>(last) : 0;
  axis.taps_apart = -static_cast<int>(apart);
  return axis;
}

// Returns the number of phases of a dimension.
HEED_INLINED int64_t phases(int64_t size, int64_t stride) { return size < stride ? size : stride; }

}  // namespace heed
