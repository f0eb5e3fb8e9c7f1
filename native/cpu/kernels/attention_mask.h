// The keys that the lanes of a block of query rows see: an interval per lane and, per vector of lanes, the keys that at
// least one of them sees and the keys that all of them see. Keys that no lane of a vector sees are neither computed nor
// read, tile by tile.
#pragma once
#include "cpu/kernels/attention.h"

namespace heed::cpu::HEED_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kBlockVectors = 4;
#elif defined(__AVX2__)
constexpr int kBlockVectors = 6;
#else
constexpr int kBlockVectors = 16;
#endif
constexpr int kBlockQueries = kBlockVectors * kWidth;  // 64 or 48: a tile of f32 is half of a 32 KiB L1 cache
constexpr int kBlockKeys = 64;

// The intervals of a vector of lanes, in registers.
struct VectorMask {
  vi begin, end;

  vi sees(int64_t key) const {
    const vi at = set1i(static_cast<int32_t>(key));
    return (begin <= at) & (end > at);
  }
};

struct BlockMask {
  int64_t vectors;
  int32_t begin[kBlockQueries], end[kBlockQueries];  // of each lane
  KeySpan any[kBlockVectors], all[kBlockVectors];
  KeySpan seen;         // keys that any lane sees
  KeySpan seen_by_all;  // keys that every lane of every vector sees

  BlockMask() = default;
  // Rows [first, first + n) of a group; the remaining lanes repeat the last row.
  BlockMask(const Attention& a, int64_t b, int64_t first, int64_t n)
      : vectors(ceil_div(n, kWidth)), seen{a.Tk, 0}, seen_by_all{0, a.Tk} {
    int64_t query = first / a.G, next = (query + 1) * a.G - first;  // `next`: the lane at which another query begins
    KeySpan own = a.keys(b, query);
    for (int64_t c = 0; c < vectors; c++) {
      any[c] = {a.Tk, 0};
      all[c] = {0, a.Tk};
      for (int64_t i = c * kWidth; i < (c + 1) * kWidth; i++) {
        if (i == next && i < n) {
          own = a.keys(b, ++query);
          next += a.G;
        }
        begin[i] = static_cast<int32_t>(own.begin);
        end[i] = static_cast<int32_t>(own.end);
        all[c] = {max_of(all[c].begin, own.begin), min_of(all[c].end, own.end)};
        if (!own.empty()) any[c] = {min_of(any[c].begin, own.begin), max_of(any[c].end, own.end)};
      }
      if (!any[c].empty()) seen = {min_of(seen.begin, any[c].begin), max_of(seen.end, any[c].end)};
      seen_by_all = {max_of(seen_by_all.begin, all[c].begin), min_of(seen_by_all.end, all[c].end)};
    }
  }

  VectorMask lanes(int64_t c) const {
    VectorMask mask;
    __builtin_memcpy(&mask.begin, begin + c * kWidth, sizeof mask.begin);
    __builtin_memcpy(&mask.end, end + c * kWidth, sizeof mask.end);
    return mask;
  }
};

// The part of a block's keys that lies in one tile, counted from the tile's first key.
struct TileMask {
  int64_t vectors;
  KeySpan any[kBlockVectors];
  KeySpan all[kBlockVectors];  // within `any`; empty and at its end if there are none
  KeySpan seen;
  bool whole;  // true if every lane sees every key, as in most tiles

  // `any` and `seen` are widened to whole multiples of `step`, so that they may reach beyond the tile's keys.
  TileMask(const BlockMask& block, int64_t begin, int64_t count, int64_t step)
      : vectors(block.vectors), seen{count, 0} {
    whole = block.seen_by_all.begin <= begin && begin + count <= block.seen_by_all.end && count % step == 0;
    if (whole) {
      seen = {0, count};
      for (int64_t c = 0; c < vectors; c++) any[c] = all[c] = seen;
      return;
    }
    const auto within = [&](KeySpan span) -> KeySpan {
      return {max_of<int64_t>(span.begin - begin, 0), min_of(span.end - begin, count)};
    };
    for (int64_t c = 0; c < vectors; c++) {
      any[c] = within(block.any[c]);
      all[c] = within(block.all[c]);
      any[c] = any[c].empty() ? KeySpan{0, 0} : KeySpan{any[c].begin / step * step, ceil_div(any[c].end, step) * step};
      if (all[c].empty()) all[c] = {any[c].end, any[c].end};
      if (!any[c].empty()) seen = {min_of(seen.begin, any[c].begin), max_of(seen.end, any[c].end)};
    }
  }

  // Makes every key be tested, because more than intervals hides keys.
  void look_at_all() {
    for (int64_t c = 0; c < vectors; c++) all[c] = {any[c].end, any[c].end};
  }

  // Calls body(c, count, begin, end) with rectangles of the vectors [c, c + count) and the keys [begin, end). They
  // cover exactly what any vector sees, each key once, in the order of the keys. A causal tile is a stair of up to
  // kBlockVectors rectangles.
  template <class Body>
  void for_each_rectangle(const Body& body) const {
    if (whole) return body(0, vectors, seen.begin, seen.end);
    for (int64_t begin = seen.begin, end; begin < seen.end; begin = end) {
      end = seen.end;
      for (int64_t c = 0; c < vectors; c++) {
        if (any[c].begin > begin) end = min_of(end, any[c].begin);
        if (any[c].end > begin) end = min_of(end, any[c].end);
      }
      for (int64_t c = 0; c < vectors; c++) {
        if (!any[c].contains(begin)) continue;
        const int64_t first = c;
        while (c + 1 < vectors && any[c + 1].contains(begin)) c++;
        body(first, c + 1 - first, begin, end);
      }
    }
  }
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
