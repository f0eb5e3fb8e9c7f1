// Tests attention's windows, intervals of keys, ALiBi's slopes and softcap.
#include "attention_sweep.h"

namespace heed::test::attention {
namespace {

// Sizes that end within tiles and vectors, and windows from one key to more keys than there are.
TEST(attention_windows) {
  sweep(stream, [&](Sweep& s) {
    for (const bool causal : {false, true})
      for (const int64_t window : {1, 2, 15, 17, 64, 65, 100, 1000}) {
        for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {5, 131}, {150, 150}, {67, 200}, {200, 67}}) {
          Case c{1, Tq, Tk, 2, 1, 19, causal};
          c.window = window;
          check(s, stream, ops, c);
        }
        Case c{3, 70, 90, 4, 2, 8, causal, {90, 0, 67}, {20, 5, -40}};
        c.window = window;
        check(s, stream, ops, c);
        c.p = 0.3f;
        check(s, stream, ops, c);
      }
    // Positions and windows whose sums overflow.
    for (const int64_t window : {INT64_MAX, int64_t{INT32_MAX}}) {
      Case c{2, 5, 40, 2, 2, 8, false, {}, {INT32_MAX, INT32_MIN}};
      c.window = window;
      check(s, stream, ops, c);
    }
  });
}

// Returns the ranges of documents of the given lengths, repeated to the end.
std::vector<int32_t> document_ranges(const Case& c, const std::vector<int32_t>& lengths) {
  std::vector<int32_t> ranges;
  for (int64_t b = 0; b < c.B; b++) {
    size_t document = static_cast<size_t>(b);
    for (int32_t i = 0, begin = 0, end = lengths[document % lengths.size()]; i < c.Tq; i++) {
      if (i == end) {
        begin = end;
        end += lengths[++document % lengths.size()];
      }
      ranges.push_back(begin);
      ranges.push_back(end);
    }
  }
  return ranges;
}

TEST(attention_key_ranges) {
  sweep(stream, [&](Sweep& s) {
    for (const bool causal : {false, true}) {
      for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {3, 1100}, {70, 70}, {150, 200}, {33, 700}})
        for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}}) {
          Case c{2, Tq, Tk, H, Hkv, 12, causal};
          c.ranges = random_ranges(c, 3);
          check(s, stream, ops, c);
          c.lengths = {static_cast<int32_t>(Tk), static_cast<int32_t>(Tk / 3)};
          c.window = 40;
          c.p = 0.2f;
          check(s, stream, ops, c);
        }
      for (const int64_t T : {40, 200}) {
        Case c{2, T, T, 4, 2, 24, causal};
        for (const auto& lengths : {std::vector<int32_t>{1, 30, 7, 64}, {100, 3}, {16}}) {
          c.ranges = document_ranges(c, lengths);
          check(s, stream, ops, c);
        }
      }
      Case c{2, 130, 130, 2, 2, 8, causal};
      for (int32_t b = 0; b < 2; b++)
        for (int32_t i = 0; i < 130; i++) {  // a prefix of 50 or 90 keys
          c.ranges.push_back(0);
          c.ranges.push_back(std::max(50 + 40 * b, i + 1));
        }
      check(s, stream, ops, c);
      c.ranges.assign(2 * 2 * 130, 7);
      check(s, stream, ops, c);
      for (size_t i = 0; i < c.ranges.size(); i += 2) {
        c.ranges[i] = INT32_MIN;
        c.ranges[i + 1] = INT32_MAX;
      }
      check(s, stream, ops, c);
    }
  });
}

TEST(attention_slopes_and_softcap) {
  sweep(stream, [&](Sweep& s) {
    for (const bool causal : {false, true})
      for (const int64_t Tq : {1, 4, 90}) {
        for (const float softcap : {0.5f, 3.0f, 50.0f}) {
          Case c{2, Tq, 90, 4, 2, 16, causal, {90, 33}, {}, 0, Layout::plain, 2};
          c.softcap = softcap;
          check(s, stream, ops, c);
        }
        Case c{2, Tq, 90, 4, 2, 16, causal};
        c.slopes = {0.5f, 0.0625f, 0, 2};
        check(s, stream, ops, c);
        c.slopes = {0.01f, 0.02f, 0.03f, -0.04f};
        c.lengths = {77, 90};
        c.starts = {3, -40};
        check(s, stream, ops, c);
        c.softcap = 1.5f;
        c.window = 21;
        c.p = 0.2f;
        c.ranges = random_ranges(c, 4);
        check(s, stream, ops, c);
      }
    // Splits of the keys, and distances so large that almost nothing remains after the softmax.
    for (const int64_t Tq : {1, 3, 20}) {
      Case c{1, Tq, 1300, 2, 1, 24, true};
      c.slopes = {0.001f, 4};
      c.softcap = 2;
      check(s, stream, ops, c);
      c.window = 600;
      check(s, stream, ops, c);
    }
  });
}

TEST(attention_block_masks) {
  sweep(stream, [&](Sweep& s) {
    for (const bool causal : {false, true})
      for (const auto& [Tq, Tk] :
           {std::pair<int64_t, int64_t>{1, 300}, {2, 1100}, {5, 131}, {150, 150}, {67, 200}, {200, 67}, {33, 700}})
        for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}})
          for (const int64_t size : {1, 16, 20, 64, 128}) {
            Case c{2, Tq, Tk, H, Hkv, 12, causal};
            mask_blocks(c, size, (Tk + size - 1) / size, 0.3f);
            check(s, stream, ops, c);
          }
    for (const int64_t Tq : {1, 3, 90}) {
      Case c{3, Tq, 300, 4, 2, 24, true, {300, 0, 170}, {200, 5, -40}};
      mask_blocks(c, 32, 5, 0.5f);  // positions from 160 on have no row
      check(s, stream, ops, c);
      c.slopes = {0.01f, 0.02f, 0.03f, -0.04f};
      c.softcap = 1.5f;
      c.window = 70;
      c.p = 0.2f;
      c.ranges = random_ranges(c, 4);
      check(s, stream, ops, c);
      c.mask.assign(c.mask.size(), 0);
      check(s, stream, ops, c);
    }
  });
}

}  // namespace
}  // namespace heed::test::attention
