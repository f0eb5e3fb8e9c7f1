// Sweeps of attention: a case, and its forward and backward passes over memory of exactly its size.
#pragma once
#include "sweep.h"

namespace heed::test::attention {

// The layout of queries, keys and values in memory; packed ones are columns of the same rows.
enum class Layout { plain, packed, heads_first };

struct Case {
  int64_t B = 1, Tq = 1, Tk = 1, H = 1, Hkv = 1, D = 1;
  bool causal = false;
  std::vector<int32_t> lengths = {}, starts = {};
  float p = 0;
  Layout layout = Layout::plain;
  float size = 1;  // of the numbers in q, k and v
  int64_t window = 0;
  std::vector<int32_t> ranges = {};  // [B, Tq, 2]
  std::vector<float> slopes = {};    // [H]
  float softcap = 0;
  std::vector<uint8_t> mask = {};  // [B, H, mask_rows, columns for every key]
  int64_t mask_rows = 0, block_size = 0;
};

// Runs forward with lse, forward without lse, which takes other paths, and backward.
void check(Sweep& sweep, Stream& stream, const Ops& ops, const Case& c);

// Makes a mask of blocks of `size`, of which this share is visible.
void mask_blocks(Case& c, int64_t size, int64_t rows, float share);

// Returns intervals of every kind: one inside another, disjoint, empty, beyond the keys.
std::vector<int32_t> random_ranges(const Case& c, uint64_t seed);

}  // namespace heed::test::attention
