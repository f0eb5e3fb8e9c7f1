// Attention, forward and backward, against the definition in float64: grouped heads, lengths of sequences, strided
// views, dropout, awkward sizes, numbers of threads.
#include "attention_reference.h"

namespace heed::test::attention {
namespace {

TEST(attention_head_sizes) {
  for (const int64_t D : {1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 100, 128, 129, 256}) {
    expect_sizes(stream, ops, {1, 35, 35, 2, 2, D, true});
    expect_sizes(stream, ops, {1, 1, 21, 2, 2, D});
  }
  expect_sizes(stream, ops, {1, 64, 512, 8, 1, 256, true});  // enough rows of enough keys for these to be packed
}

TEST(attention_sequence_sizes) {
  for (const int64_t T : {1, 2, 3, 15, 16, 17, 31, 33, 48, 63, 64, 65, 127, 129, 257}) {
    expect_sizes(stream, ops, {1, T, T, 1, 1, 20, true});
    expect_sizes(stream, ops, {1, T, T, 1, 1, 20, false});
    expect_sizes(stream, ops, {1, T, T + 70, 1, 1, 20, true});  // queries are the last T
    expect_sizes(stream, ops, {1, T + 70, T, 1, 1, 20, true});  // the first 70 see nothing
  }
}

TEST(attention_grouped_heads) {
  for (const bool causal : {false, true})
    for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{4, 2}, {6, 1}, {3, 3}, {8, 2}, {32, 1}})
      for (const int64_t Tq : {1, 2, 5, 37}) expect_sizes(stream, ops, {2, Tq, 41, H, Hkv, 24, causal});
}

TEST(attention_lengths_and_starts) {
  for (const int64_t Tq : {1, 3, 40})
    for (const bool causal : {false, true}) {
      expect_case(stream, ops, "lengths", {4, Tq, 90, 2, 1, 16, causal, {90, 0, 1, 67}});
      expect_case(stream, ops, "starts", {4, Tq, 90, 2, 1, 16, causal, {}, {0, 50, -2, 1000}});
      expect_case(stream, ops, "both", {5, Tq, 90, 2, 1, 16, causal, {90, 33, 64, 65, 7}, {50, 0, 24, 63, INT32_MIN}});
    }
}

TEST(attention_layouts) {
  for (const Layout layout : {Layout::packed, Layout::heads_first})
    for (const int64_t D : {16, 21}) {
      expect_case(stream, ops, "layout", {2, 70, 70, 4, 4, D, true, {}, {}, 0, layout});
      expect_case(stream, ops, "grouped layout", {2, 70, 70, 4, 2, D, true, {70, 9}, {}, 0, layout});
      expect_case(stream, ops, "one row", {2, 1, 1, 4, 2, D, true, {}, {}, 0, layout});
    }
}

TEST(attention_dropout) {
  for (const float p : {0.1f, 0.5f, 1.0f})
    for (const int32_t Tk : {64, 70, 71})  // rows that start anywhere in a block of four draws
      for (const int64_t Tq : {1, 2, 66})
        expect_case(stream, ops, "dropout", {2, Tq, Tk, 4, 2, 17, true, {Tk, 33}, {}, p});
}

// Few rows and many keys: splits of the keys, combined at the end.
TEST(attention_splits) {
  for (const int64_t Tq : {1, 2, 3, 7, 8, 9, 20, 70})
    for (const bool causal : {false, true}) {
      expect_sizes(stream, ops, {1, Tq, 1100, 2, 2, 24, causal});
      expect_case(stream, ops, "split lengths", {3, Tq, 1100, 2, 1, 19, causal, {1100, 0, 300}, {}, 0.2f});
    }
}

TEST(attention_large_scores) {
  expect_case(stream, ops, "large", {1, 100, 130, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 5});
  expect_case(stream, ops, "large mean", {1, 100, 130, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 1, 20});
  expect_case(stream, ops, "large mean, one row", {1, 1, 600, 2, 2, 64, true, {}, {}, 0, Layout::plain, NAN, 1, 20});
  expect_case(stream, ops, "negative scale", {1, 40, 50, 2, 2, 16, true, {}, {}, 0, Layout::plain, -0.7f});
  expect_case(stream, ops, "zero scale", {1, 40, 50, 2, 2, 16, true, {}, {}, 0, Layout::plain, 0});
}

// Scores may be far off in absolute terms, but backward recomputes the very ones that lse was summed from: its
// probabilities sum to 1, so the dv of one query sum to its dout.
TEST(attention_backward_recomputes_the_same_scores) {
  for (const int64_t Tk : {50, 600}) {
    Run run({1, 1, Tk, 1, 1, 64, false, {}, {}, 0, Layout::plain, NAN, 1, 20});
    run.execute(stream, ops);
    for (int64_t d = 0; d < 64; d++) {
      double sum = 0;
      for (int64_t j = 0; j < Tk; j++) sum += run.grads.v.at(0, j, 0, d);
      // A rounding of lse, up to 4096 here, is an error of e^x of 2^-13 at most, and the same for all keys.
      const double dout = run.dout.at(0, 0, 0, d);
      EXPECT(std::fabs(sum - dout) <= 0x1p-13 * std::fabs(dout));
    }
  }
}

TEST(attention_scores_of_minus_infinity) {
  for (const int64_t Tq : {1, 20}) {
    Run run({1, Tq, 30, 1, 1, 8, false});
    run.in.q.for_each([](float& x) { x = 1e30f; });
    run.in.k.for_each([](float& x) { x = -1e30f; });
    run.execute(stream, ops);
    expect_zero(run);
  }
}

TEST(attention_masked_rows_are_zero) {
  for (const int64_t Tq : {1, 80}) {
    Run run({2, Tq, 90, 2, 1, 16, true, {0, 90}, {0, -1000}});
    run.execute(stream, ops);
    expect_zero(run);
  }
}

// What lies beyond a sequence's length in a cache may be anything.
TEST(attention_ignores_what_is_beyond_the_lengths) {
  for (const int64_t Tq : {1, 40}) {
    const Case c{2, Tq, 300, 2, 1, 20, true, {37, 290}};
    Run clean(c), dirty(c);
    for (int64_t b = 0; b < 2; b++)
      for (int64_t j = c.lengths[b]; j < c.Tk; j++)
        for (int64_t d = 0; d < c.D; d++) {
          dirty.in.k.at(b, j, 0, d) = d % 2 ? NAN : INFINITY;
          dirty.in.v.at(b, j, 0, d) = NAN;
        }
    clean.execute(stream, ops);
    dirty.execute(stream, ops);
    expect_same(clean, dirty);
  }
}

TEST(attention_passes_nan_on) {
  for (const int64_t Tq : {1, 20}) {
    Run run({1, Tq, 20, 1, 1, 16, false});
    run.in.q.at(0, 0, 0, 3) = NAN;
    run.execute(stream, ops);
    for (int64_t d = 0; d < 16; d++)
      EXPECT(std::isnan(run.out.at(0, 0, 0, d)) && std::isnan(run.inference.at(0, 0, 0, d)));
    EXPECT(std::isnan(run.lse[0]));
    for (int64_t i = 1; i < Tq; i++) EXPECT(std::isfinite(run.out.at(0, i, 0, 0)));
  }
}

// The number of threads chooses between one pass and two in backward; results are the same to the bit.
void expect_same_on_all_threads(Stream& stream, const Ops& ops, const Case& c) {
  cpu::set_thread_count(1);
  Run one(c);
  one.execute(stream, ops);
  for (const int threads : {2, 3, 5, 16}) {
    cpu::set_thread_count(threads);
    Run many(c);
    many.execute(stream, ops);
    expect_same(one, many);
  }
}

TEST(attention_threads) {
  const int before = cpu::thread_count();
  for (Case c : {Case{1, 300, 300, 2, 2, 33, true, {}, {}, 0.1f}, Case{1, 130, 200, 6, 3, 64, false, {190}},
                 Case{2, 1, 900, 2, 2, 64, true}, Case{1, 12, 1300, 4, 1, 64, true}}) {
    expect_same_on_all_threads(stream, ops, c);
    c.window = 100;
    c.softcap = 2;
    expect_same_on_all_threads(stream, ops, c);
    c.ranges = random_ranges(c, 5);
    expect_same_on_all_threads(stream, ops, c);
    mask_blocks(c, 48, (c.Tk + 47) / 48, 0.5f);
    expect_same_on_all_threads(stream, ops, c);
  }
  cpu::set_thread_count(before);
}

TEST(attention_empty) {
  for (const Case& c : {Case{0, 5, 5, 2, 2, 8}, Case{2, 0, 5, 2, 2, 8, true}, Case{2, 5, 0, 2, 2, 8, true},
                        Case{2, 5, 5, 0, 1, 8}, Case{1, 1, 0, 1, 1, 8}}) {
    Run run(c);
    run.execute(stream, ops);
    expect_zero(run);
  }
}

}  // namespace
}  // namespace heed::test::attention
