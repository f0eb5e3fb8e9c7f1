// Attention's windows, intervals of keys, ALiBi's slopes and softcap.
#include "attention_reference.h"

namespace heed::test::attention {
namespace {

// Sizes that end within tiles and vectors, windows from a key to more than there are.
TEST(attention_windows) {
  for (const bool causal : {false, true})
    for (const int64_t window : {1, 2, 15, 17, 64, 65, 100, 1000}) {
      for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {5, 131}, {150, 150}, {67, 200}, {200, 67}}) {
        Case c{1, Tq, Tk, 2, 1, 19, causal};
        c.window = window;
        expect_sizes(stream, ops, c);
      }
      Case c{3, 70, 90, 4, 2, 8, causal, {90, 0, 67}, {20, 5, -40}};
      c.window = window;
      expect_case(stream, ops, "window and starts", c);
      c.p = 0.3f;
      expect_case(stream, ops, "window and dropout", c);
    }
  // Sums of positions and windows that overflow.
  for (const int64_t window : {INT64_MAX, int64_t{INT32_MAX}}) {
    Case c{2, 5, 40, 2, 2, 8, false, {}, {INT32_MAX, INT32_MIN}};
    c.window = window;
    expect_case(stream, ops, "the largest window", c);
  }
}

// Documents of the given lengths, over and over.
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
  for (const bool causal : {false, true}) {
    for (const auto& [Tq, Tk] : {std::pair<int64_t, int64_t>{1, 300}, {3, 1100}, {70, 70}, {150, 200}, {33, 700}})
      for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}}) {
        Case c{2, Tq, Tk, H, Hkv, 12, causal};
        c.ranges = random_ranges(c, 3);
        expect_case(stream, ops, "random ranges", c);
        c.lengths = {static_cast<int32_t>(Tk), static_cast<int32_t>(Tk / 3)};
        c.window = 40;
        c.p = 0.2f;
        expect_case(stream, ops, "random ranges, lengths, a window and dropout", c);
      }
    for (const int64_t T : {40, 200}) {
      Case c{2, T, T, 4, 2, 24, causal};
      for (const auto& lengths : {std::vector<int32_t>{1, 30, 7, 64}, {100, 3}, {16}}) {
        c.ranges = document_ranges(c, lengths);
        expect_case(stream, ops, "documents", c);
      }
    }
    Case c{2, 130, 130, 2, 2, 8, causal};
    for (int32_t b = 0; b < 2; b++)
      for (int32_t i = 0; i < 130; i++) {  // a prefix of 50 or 90 keys
        c.ranges.push_back(0);
        c.ranges.push_back(std::max(50 + 40 * b, i + 1));
      }
    expect_case(stream, ops, "prefix", c);
    c.ranges.assign(2 * 2 * 130, 7);
    expect_case(stream, ops, "empty ranges", c);
    for (size_t i = 0; i < c.ranges.size(); i += 2) {
      c.ranges[i] = INT32_MIN;
      c.ranges[i + 1] = INT32_MAX;
    }
    expect_case(stream, ops, "endless ranges", c);
  }
}

TEST(attention_slopes_and_softcap) {
  for (const bool causal : {false, true})
    for (const int64_t Tq : {1, 4, 90}) {
      for (const float softcap : {0.5f, 3.0f, 50.0f}) {
        Case c{2, Tq, 90, 4, 2, 16, causal, {90, 33}, {}, 0, Layout::plain, NAN, 2};
        c.softcap = softcap;
        expect_case(stream, ops, "softcap", c);
      }
      Case c{2, Tq, 90, 4, 2, 16, causal};
      c.slopes = {0.5f, 0.0625f, 0, 2};
      expect_case(stream, ops, "slopes", c);
      c.slopes = {0.01f, 0.02f, 0.03f, -0.04f};
      c.lengths = {77, 90};
      c.starts = {3, -40};
      expect_case(stream, ops, "slopes and starts", c);
      c.softcap = 1.5f;
      c.window = 21;
      c.p = 0.2f;
      c.ranges = random_ranges(c, 4);
      expect_case(stream, ops, "everything", c);
    }
  // Splits of the keys, and distances of which the softmax leaves next to nothing.
  for (const int64_t Tq : {1, 3, 20}) {
    Case c{1, Tq, 1300, 2, 1, 24, true};
    c.slopes = {0.001f, 4};
    c.softcap = 2;
    expect_case(stream, ops, "split, slopes and softcap", c);
    c.window = 600;
    expect_case(stream, ops, "split, slopes, softcap and window", c);
  }
}

TEST(attention_block_masks) {
  for (const bool causal : {false, true})
    for (const auto& [Tq, Tk] :
         {std::pair<int64_t, int64_t>{1, 300}, {2, 1100}, {5, 131}, {150, 150}, {67, 200}, {200, 67}, {33, 700}})
      for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{1, 1}, {6, 2}})
        for (const int64_t size : {1, 16, 20, 64, 128}) {
          Case c{2, Tq, Tk, H, Hkv, 12, causal};
          mask_blocks(c, size, (Tk + size - 1) / size, 0.3f);
          expect_case(stream, ops, "blocks", c);
        }
  for (const int64_t Tq : {1, 3, 90}) {
    Case c{3, Tq, 300, 4, 2, 24, true, {300, 0, 170}, {200, 5, -40}};
    mask_blocks(c, 32, 5, 0.5f);  // positions from 160 on have no row
    expect_case(stream, ops, "blocks, lengths and starts", c);
    c.slopes = {0.01f, 0.02f, 0.03f, -0.04f};
    c.softcap = 1.5f;
    c.window = 70;
    c.p = 0.2f;
    c.ranges = random_ranges(c, 4);
    expect_case(stream, ops, "blocks and everything", c);
    c.mask.assign(c.mask.size(), 0);
    Run run(c);
    run.execute(stream, ops);
    expect_zero(run);
  }
}

// One mask for all sequences, or all heads, is that mask for each of them.
TEST(attention_block_masks_are_shared) {
  Case c{2, 70, 90, 4, 2, 16};
  mask_blocks(c, 16, 6, 0.4f);
  const int64_t columns = 6, each = 6 * columns;
  for (int64_t h = 0; h < 8; h++)
    for (int64_t i = 0; i < each; i++) c.mask[h * each + i] = c.mask[h % 4 * each + i];
  Run full(c), shared(c);
  shared.mask.view.shape[0] = 1;
  full.execute(stream, ops);
  shared.execute(stream, ops);
  expect_same(full, shared);
  for (int64_t h = 0; h < 8; h++)
    for (int64_t i = 0; i < each; i++) full.mask[h * each + i] = full.mask[i];
  shared.mask.view.shape[1] = 1;
  full.execute(stream, ops);
  shared.execute(stream, ops);
  expect_same(full, shared);
}

// A tile that the mask hides from all of its queries is not read.
TEST(attention_reads_nothing_of_hidden_blocks) {
  for (const int64_t Tq : {1, 3, 200}) {
    Case c{1, Tq, 704, 2, 1, 20};
    mask_blocks(c, 64, 11, 1);
    for (int64_t i = 0; i < 2 * 11; i++) c.mask[i * 11 + 3] = c.mask[i * 11 + 7] = 0;
    Run clean(c), dirty(c);
    for (const int64_t block : {3, 7})
      for (int64_t j = block * 64; j < (block + 1) * 64; j++)
        for (int64_t d = 0; d < c.D; d++) dirty.in.k.at(0, j, 0, d) = dirty.in.v.at(0, j, 0, d) = NAN;
    clean.execute(stream, ops);
    dirty.execute(stream, ops);
    expect_same(clean, dirty);
  }
}

// What no query sees may be anything: a tile is not read where none of its queries sees it.
TEST(attention_reads_nothing_beyond_the_window) {
  for (const int64_t Tq : {1, 3, 200}) {
    Case c{1, Tq, 700, 2, 1, 20, true, {}, {500}};
    c.window = 30;
    Run clean(c), dirty(c);
    for (int64_t j = 0; j < c.Tk; j++)
      if (j <= 500 - 30 || j > 500 + Tq)
        for (int64_t d = 0; d < c.D; d++) dirty.in.k.at(0, j, 0, d) = dirty.in.v.at(0, j, 0, d) = NAN;
    clean.execute(stream, ops);
    dirty.execute(stream, ops);
    expect_same(clean, dirty);
  }
}

}  // namespace
}  // namespace heed::test::attention
