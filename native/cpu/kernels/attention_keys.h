// Keys and values as words, packed once for all the blocks of queries that read them. Their own rows lie far apart,
// often at distances that are powers of two, which crowd into few cache sets.
#pragma once
#include "cpu/kernels/attention_words.h"

namespace heed::cpu::HEED_ISA {
namespace {

// Rows of words, in a tensor or in scratch memory.
struct WordRows {
  const float* words;
  int64_t ld;

  WordRows from(int64_t row) const { return {words + row * ld, ld}; }
};

// All keys of a tensor with k's shape, group after group.
template <class Words>
class PackedKeys {
 public:
  enum Direction { along, across };  // along the head, or across the keys

  static int64_t size(const Attention& a, Direction direction) {
    return direction == along ? a.groups() * keys(a) * padded_words<Words>(a.D)
                              : a.groups() * words_of<Words>(keys(a)) * a.width;
  }
  PackedKeys(const Attention& a, Direction direction, float* memory)
      : words_(memory),
        keys_(keys(a)),
        direction_(direction),
        ld_(direction == along ? padded_words<Words>(a.D) : a.width) {}

  // Keys that no query sees may hold anything, so they become zeros.
  void pack(const Attention& a, const KeyTensor& x) const {
    const int64_t tiles = ceil_div(keys_, kBlockKeys);
    parallel_for(a.groups() * tiles, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const int64_t group = i / tiles, b = group / a.Hkv, first = i % tiles * kBlockKeys;
        const KeySpan seen = a.keys_of_rows(b, 0, a.rows);
        const int64_t n = min_of<int64_t>(kBlockKeys, keys_ - first);
        float* out = const_cast<float*>(from(group, first).words);
        with_key_rows(a, x, b, group % a.Hkv, seen, first, [&](const auto& row) {
          if (direction_ == along)
            pack_rows<Words>(out, n, a.key_dtype, a.D, row);
          else
            pack_across<Words>(out, n, a.key_dtype, a.D, row);
        });
      }
    });
  }

  WordRows from(int64_t group, int64_t key) const {
    const int64_t at = group * keys_ + key;
    return {words_ + (direction_ == along ? at : at / Words::kTerms) * ld_, ld_};
  }

 private:
  // Returns the number of keys rounded up to whole words.
  static int64_t keys(const Attention& a) { return words_of<Words>(a.Tk) * Words::kTerms; }

  float* words_;
  int64_t keys_;
  Direction direction_;
  int64_t ld_;
};

}  // namespace
}  // namespace heed::cpu::HEED_ISA
