// Compares copy_list with copy, bit for bit: every pair of dtypes, lists of uneven tensors, and every error.
#include <cstring>
#include <deque>

#include "views.h"

namespace heed::test {
namespace {

// Empty tensors at both ends and in the middle; one of more than a chunk, and one of exactly a chunk.
const std::vector<int64_t> kSizes = {0, 1, 17, 16384, 0, 16385, 3, 33, 0};

// Tensors of one dtype, one after another in memory of exactly their sizes.
struct List {
  std::deque<Array<uint8_t>> bytes;
  ViewList views;
  explicit List(const std::vector<DType>& dtypes) : views(static_cast<int64_t>(kSizes.size())) {
    for (size_t i = 0; i < kSizes.size(); i++) {
      const DType dtype = dtypes[i % dtypes.size()];
      const Array<uint8_t>& memory =
          bytes.emplace_back(std::vector<int64_t>{kSizes[i] * static_cast<int64_t>(size_of(dtype))});
      TensorView& view = views[static_cast<int64_t>(i)];
      view = memory;
      view.dtype = dtype;
      view.shape[0] = kSizes[i];
    }
  }
};

void check_lists(Stream& stream, const Ops& ops, const std::vector<DType>& to, const std::vector<DType>& from) {
  List outs(to), expected(to), inps(from);
  Random random(3);
  for (auto& memory : inps.bytes)
    for (int64_t i = 0; i < memory.size; i++) memory[i] = static_cast<uint8_t>(random.next());
  for (int64_t t = 0; t < outs.views.size(); t++) ops.copy(stream, expected.views[t], inps.views[t], false);
  ops.copy_list(stream, outs.views, inps.views);
  EXPECT(synchronize(stream).empty());
  for (size_t t = 0; t < kSizes.size(); t++) {
    const auto& got = outs.bytes[t];
    if (std::memcmp(got.values.get(), expected.bytes[t].values.get(), static_cast<size_t>(got.size)) != 0)
      report("tensor %zu, %s from %s, differs from copy's", t, name_of(to[t % to.size()]),
             name_of(from[t % from.size()]));
  }
}

TEST(copy_list_of_every_pair_of_dtypes) {
  for (const DType to : kDTypes)
    for (const DType from : kDTypes) check_lists(stream, ops, {to}, {from});
  check_lists(stream, ops, {DType::bf16, DType::f32, DType::f32}, {DType::f32, DType::f16});
  ops.copy_list(stream, ViewList(), ViewList());
  EXPECT(synchronize(stream).empty());
}

TEST(copy_list_errors) {
  List outs({DType::bf16}), inps({DType::f32});
  const auto error = [&] { return error_of([&] { ops.copy_list(stream, outs.views, inps.views); }); };
  inps.views[2].shape[0] = 16;
  EXPECT(error() == "ERR_SHAPE: copy_list: expected inps[2] of shape [17], got [16]");
  inps.views[2].shape[0] = 17;
  inps.views[2].strides[0] = 2;
  EXPECT(error() == "ERR_SHAPE: copy_list: expected inps[2] to be contiguous, got a strided view of shape [17]");
  outs.views[2].strides[0] = 0;
  EXPECT(error() == "ERR_SHAPE: copy_list: expected outs[2] to be contiguous, got a strided view of shape [17]");
  EXPECT(error_of([&] { ops.copy_list(stream, outs.views, ViewList(1)); }) ==
         "ERR_SHAPE: copy_list: expected 9 inps, got 1");
}

}  // namespace
}  // namespace heed::test
