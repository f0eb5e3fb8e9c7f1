// Sweeps of attention: a case, and its forward and backward passes over memory of exactly its size.
#pragma once
#include "sweep.h"

namespace heed::test::attention {

// How queries, keys and values lie in memory; packed are columns of one row with the others.
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

// Forward with lse, forward without, which takes other ways, and backward.
void check(Sweep& sweep, Stream& stream, const Ops& ops, const Case& c);

// A mask of blocks of `size` with that share of them visible.
void mask_blocks(Case& c, int64_t size, int64_t rows, float share);

// A query's keys in every way that intervals can lie: inside of each other, apart, empty, beyond the keys.
std::vector<int32_t> random_ranges(const Case& c, uint64_t seed);

}  // namespace heed::test::attention
