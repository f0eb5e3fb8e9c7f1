// Tests attention, forward and backward: grouped heads, lengths of sequences, strided views, dropout, awkward sizes,
// splits of the keys.
#include "attention_sweep.h"

namespace heed::test::attention {
namespace {

TEST(attention_head_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t D : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 100, 128, 129, 256}) {
      check(s, stream, ops, {1, 35, 35, 2, 2, D, true});
      check(s, stream, ops, {1, 1, 21, 2, 2, D});
    }
    check(s, stream, ops, {1, 64, 512, 8, 1, 256, true});  // enough rows with enough keys for the keys to be packed
  });
}

TEST(attention_sequence_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t T : {1, 2, 3, 15, 16, 17, 31, 33, 48, 63, 64, 65, 127, 129, 257}) {
      check(s, stream, ops, {1, T, T, 1, 1, 20, true});
      check(s, stream, ops, {1, T, T, 1, 1, 20, false});
      check(s, stream, ops, {1, T, T + 70, 1, 1, 20, true});  // queries are the last T tokens
      check(s, stream, ops, {1, T + 70, T, 1, 1, 20, true});  // the first 70 see nothing
    }
  });
}

TEST(attention_grouped_heads) {
  sweep(stream, [&](Sweep& s) {
    for (const bool causal : {false, true})
      for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{4, 2}, {6, 1}, {3, 3}, {8, 2}, {32, 1}})
        for (const int64_t Tq : {1, 2, 5, 37}) check(s, stream, ops, {2, Tq, 41, H, Hkv, 24, causal});
  });
}

TEST(attention_lengths_and_starts) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t Tq : {1, 3, 40})
      for (const bool causal : {false, true}) {
        check(s, stream, ops, {4, Tq, 90, 2, 1, 16, causal, {90, 0, 1, 67}});
        check(s, stream, ops, {4, Tq, 90, 2, 1, 16, causal, {}, {0, 50, -2, 1000}});
        check(s, stream, ops, {5, Tq, 90, 2, 1, 16, causal, {90, 33, 64, 65, 7}, {50, 0, 24, 63, INT32_MIN}});
      }
  });
}

TEST(attention_layouts) {
  sweep(stream, [&](Sweep& s) {
    for (const Layout layout : {Layout::packed, Layout::heads_first})
      for (const int64_t D : {16, 21}) {
        check(s, stream, ops, {2, 70, 70, 4, 4, D, true, {}, {}, 0, layout});
        check(s, stream, ops, {2, 70, 70, 4, 2, D, true, {70, 9}, {}, 0, layout});
        check(s, stream, ops, {2, 1, 1, 4, 2, D, true, {}, {}, 0, layout});
      }
  });
}

TEST(attention_dropout) {
  sweep(stream, [&](Sweep& s) {
    for (const float p : {0.1f, 1.0f})
      for (const int32_t Tk : {64, 70, 71})  // rows that begin anywhere in a block of four draws
        for (const int64_t Tq : {1, 2, 66}) check(s, stream, ops, {2, Tq, Tk, 4, 2, 17, true, {Tk, 33}, {}, p});
  });
}

// Few rows and many keys: splits of the keys are combined at the end.
TEST(attention_splits) {
  sweep(stream, [&](Sweep& s) {
    for (const int64_t Tq : {1, 2, 3, 7, 8, 9, 20, 70})
      for (const bool causal : {false, true}) {
        check(s, stream, ops, {1, Tq, 1100, 2, 2, 24, causal});
        check(s, stream, ops, {3, Tq, 1100, 2, 1, 19, causal, {1100, 0, 300}, {}, 0.2f});
      }
  });
}

// Scores that overflow to minus infinity and to NaN.
TEST(attention_large_scores) {
  sweep(stream, [&](Sweep& s) {
    for (const float size : {5.0f, 1e30f})
      for (const int64_t Tq : {1, 100})
        check(s, stream, ops, {1, Tq, 130, 2, 2, 64, true, {}, {}, 0, Layout::plain, size});
  });
}

// The number of threads decides between one pass and two in backward.
TEST(attention_long) {
  sweep(stream, [&](Sweep& s) {
    for (Case c : {Case{1, 300, 300, 2, 2, 33, true, {}, {}, 0.1f}, Case{1, 130, 200, 6, 3, 64, false, {190}},
                   Case{2, 1, 900, 2, 2, 64, true}, Case{1, 12, 1300, 4, 1, 64, true}}) {
      check(s, stream, ops, c);
      c.window = 100;
      c.softcap = 2;
      check(s, stream, ops, c);
      c.ranges = random_ranges(c, 5);
      check(s, stream, ops, c);
      mask_blocks(c, 48, (c.Tk + 47) / 48, 0.5f);
      check(s, stream, ops, c);
    }
  });
}

TEST(attention_empty) {
  sweep(stream, [&](Sweep& s) {
    for (const Case& c : {Case{0, 5, 5, 2, 2, 8}, Case{2, 0, 5, 2, 2, 8, true}, Case{2, 5, 0, 2, 2, 8, true},
                          Case{2, 5, 5, 0, 1, 8}, Case{1, 1, 0, 1, 1, 8}})
      check(s, stream, ops, c);
  });
}

}  // namespace
}  // namespace heed::test::attention
