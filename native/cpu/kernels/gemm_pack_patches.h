// Packing for the matrix product by patches of images (gemm.h): they are gathered, a piece at a time, into a few rows
// that stay in L1, and packed from there. So the matrix of patches, which has each element of an image as often as
// windows overlap, never exists in memory.
#pragma once
#include "cpu/kernels/gemm_micro.h"
#include "cpu/kernels/gemm_pack.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Moves n elements in whole vectors of 4 · kWidth bytes: up to a vector behind them is written too, which later pieces
// of a row overwrite, and read if it lies before `end`.
template <class T>
struct Mover {
  static constexpr int64_t kStep = 4 * kWidth / static_cast<int64_t>(sizeof(T));

  static __attribute__((always_inline)) inline void copy(T* to, const T* from, int64_t n, const T* end) {
    if (end - from < n + kStep) {
      __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
      return;
    }
    for (int64_t i = 0; i < n; i += kStep) store_as(to + i, load_as<vf>(from + i));
  }
  static __attribute__((always_inline)) inline void zero(T* to, int64_t n) {
    for (int64_t i = 0; i < n; i += kStep) store_as(to + i, vf{});
  }
};

// Elements [first, first + n) of patches, one patch after the other.
template <class T>
class Gather {
 public:
  Gather(const Patches& patches, int64_t patch, int64_t first, int64_t n)
      : p(patches),
        images(patches.images.as<const T>()),
        width(p.x.source * p.channels),
        end(images + p.count * p.y.source * width),
        span(p.x.taps * p.channels),
        first_tap(static_cast<int>(first / span)),
        within(first % span),
        elements(n) {
    const int64_t row = patch / p.x.targets;
    target_x = static_cast<int>(patch % p.x.targets);
    target_y = static_cast<int>(row % p.y.targets);
    image = images + row / p.y.targets * p.y.source * width;
  }

  // Writes the elements of the patch to `to`, and up to a vector of anything behind them; goes on to the next patch.
  void next(T* to) {
    const int x = p.x.at(target_x, 0), y = p.y.at(target_y, 0);
    // With neighbouring taps, what lies within the image is one piece of a row of the patch.
    const bool together = p.x.advance == 1;
    const int64_t begin = max_of(-x, 0) * p.channels, stop = max_of(p.x.source - x, 0) * p.channels;
    int64_t left = elements, from = within;
    for (int tap = first_tap; left > 0; tap++, from = 0) {
      const int64_t until = min_of(span, from + left);
      const int at = y + tap * p.y.advance;
      if (!p.y.inside(at))
        Mover<T>::zero(to, until - from);
      else if (together)
        piece(to, image + at * width + x * p.channels, from, until, begin, stop);
      else
        apart(to, image + at * width, x, from, until);
      to += until - from;
      left -= until - from;
    }
    if (++target_x < p.x.targets) return;
    target_x = 0;
    if (++target_y < p.y.targets) return;
    target_y = 0;
    image += p.y.source * width;
  }

 private:
  // to[i - from] = row[i] for i in [from, until), or 0 outside of [begin, stop).
  __attribute__((always_inline)) void piece(T* to, const T* row, int64_t from, int64_t until, int64_t begin,
                                            int64_t stop) const {
    const int64_t low = max_of(from, min_of(begin, until)), high = max_of(low, min_of(stop, until));
    if (from < low) Mover<T>::zero(to, low - from);
    if (low < high) Mover<T>::copy(to + (low - from), row + low, high - low, end);
    if (high < until) Mover<T>::zero(to + (high - from), until - high);
  }
  void apart(T* to, const T* row, int x, int64_t from, int64_t until) const {
    for (int64_t tap = from / p.channels, channel = from % p.channels; from < until; tap++, channel = 0) {
      const int64_t n = min_of(p.channels - channel, until - from), at = x + tap * p.x.advance;
      if (at >= 0 && at < p.x.source)
        Mover<T>::copy(to, row + at * p.channels + channel, n, end);
      else
        Mover<T>::zero(to, n);
      to += n;
      from += n;
    }
  }

  const Patches& p;
  const T* const images;
  const int64_t width;   // elements of a row of an image
  const T* const end;    // of all images
  const int64_t span;    // elements of a row of a patch
  const int first_tap;   // of y
  const int64_t within;  // where the elements begin in its row of the patch
  const int64_t elements;
  int target_x, target_y;
  const T* image;
};

constexpr int64_t kPieceElements = 256;  // of a row that is gathered
constexpr int64_t kPiecePatches = 64;    // that are gathered as columns

// Patches as rows: rows [first, first + rows), elements [begin, begin + k).
template <class Words>
inline void pack_patch_rows(float* to, const Panels& panels, const Patches& patches, int64_t first, int64_t rows,
                            int64_t begin, int64_t k) {
  using T = typename Words::Element;
  constexpr int64_t kRow = kPieceElements + Mover<T>::kStep;
  static_assert(kPieceElements % (kWidth * Words::kElements) == 0);
  T scratch[kTileRows * kRow];
  for (int64_t q = 0; q < rows; q += panels.rows, to += panels.stride) {
    const int64_t here = min_of(panels.rows, rows - q);
    for (int64_t piece = 0; piece < k; piece += kPieceElements) {
      const int64_t n = min_of(kPieceElements, k - piece);
      Gather<T> gather(patches, first + q, begin + piece, n);
      for (int64_t i = 0; i < here; i++) gather.next(scratch + i * kRow);
      pack_transposed<Words>(to + piece / Words::kElements * panels.lanes, panels.lanes, scratch, here, n, kRow);
    }
  }
}

// Patches as columns: rows [first, first + rows) of all elements, patches [begin, begin + k). There are few rows at a
// time (Tiling), which a piece of patches has room for.
template <class Words>
inline void pack_patch_columns(float* to, const Panels& panels, const Patches& patches, int64_t first, int64_t rows,
                               int64_t begin, int64_t k) {
  using T = typename Words::Element;
  constexpr int64_t kRows = 4 * kTileRows, kRow = kRows + Mover<T>::kStep;
  static_assert(kPiecePatches % Words::kElements == 0);
  T scratch[kPiecePatches * kRow];
  for (int64_t q = 0; q < rows; q += kRows / panels.rows * panels.rows) {
    const int64_t here = min_of(kRows / panels.rows * panels.rows, rows - q);
    Gather<T> gather(patches, begin, first + q, here);
    int64_t word = 0;
    for (int64_t patch = 0; patch < k; patch += kPiecePatches) {
      const int64_t n = min_of(kPiecePatches, k - patch);
      for (int64_t i = 0; i < n; i++) gather.next(scratch + i * kRow);
      for (int64_t i = 0; i < n; i += Words::kElements, word++)
        for (int64_t r = 0; r < here; r += panels.rows) {
          float* const panel = to + (q + r) / panels.rows * panels.stride + word * panels.lanes;
          const int64_t of_panel = min_of(panels.rows, here - r);
          for (int64_t lane = 0; lane < panels.lanes; lane += kWidth)
            store(panel + lane, lane < of_panel
                                    ? Words::along_rows(scratch + i * kRow + r + lane, kRow, n - i, of_panel - lane)
                                    : vf{});
        }
    }
  }
}

// Packs rows [first, first + rows) of the matrix that the patches are, and k of its columns from `begin` on.
__attribute__((noinline)) void pack_patches(Word word, float* to, const Panels& panels, const Patches& patches,
                                            int64_t first, int64_t rows, int64_t begin, int64_t k) {
  with_words(word, patches.images.dtype, [&](auto words) {
    using Words = decltype(words);
    if (patches.transposed)
      pack_patch_columns<Words>(to, panels, patches, first, rows, begin, k);
    else
      pack_patch_rows<Words>(to, panels, patches, first, rows, begin, k);
  });
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
