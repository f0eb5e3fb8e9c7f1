// Tests which calls of attention are refused, and with which messages.
#include "check.h"

namespace heed::test::attention {
namespace {

TEST(attention_errors) {
  const Array<float> q({2, 5, 4, 8}), k({2, 7, 2, 8}), v({2, 7, 2, 8}), out({2, 5, 4, 8}), lse({2, 4, 5}),
      dq({2, 5, 4, 8}), dk({2, 7, 2, 8}), dv({2, 7, 2, 8}), dout({2, 5, 4, 8});
  const Array<int32_t> lengths({2}), starts({2});
  const Array<int32_t> three({3}), matrix({2, 1}), ids({2, 5, 4, 8}), bounds({2, 5, 2});
  const Array<float> floats({2}), flat({2, 5, 32}), lse_t({2, 5, 4}), other({2, 5, 4, 9}), heads({2, 7, 3, 8}),
      none({2, 5, 4, 0}), none_k({2, 7, 2, 0}), shorter({2, 6, 2, 8});
  TensorView spread = q, wide_lse = lse, wide_lengths = lengths;
  spread.strides[3] = 2;
  wide_lse.strides[2] = 2;
  wide_lengths.strides[0] = 2;
  const auto forward = [&](In out, OptOut lse, In q, In k, In v, OptIn lengths, OptIn starts, float scale, float p) {
    return error_of([&] {
      ops.attention_forward(stream, out, lse, q, k, v, nullptr, nullptr, nullptr, lengths, starts, nullptr, nullptr,
                            nullptr, true, 0, 0, scale, p, 0, nullptr, 0);
    });
  };
  const std::string f = "attention_forward: ";
  EXPECT(forward(out, &lse, q, k, v, &lengths, &starts, 1, 0) == "");
  EXPECT(forward(out, nullptr, flat, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected q with 4 dimensions, got shape [2, 5, 32]");
  EXPECT(forward(out, nullptr, q, flat, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected k with 4 dimensions, got shape [2, 5, 32]");
  EXPECT(forward(out, nullptr, ids, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_DTYPE: " + f + "expected q of dtype f32, bf16 or f16, got i32");
  EXPECT(forward(out, nullptr, spread, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected q with contiguous heads (stride 1), got stride 2");
  EXPECT(forward(out, nullptr, other, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected k of shape [2, 7, 2, 9], got [2, 7, 2, 8]");
  EXPECT(forward(out, nullptr, q, k, shorter, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected v of shape [2, 7, 2, 8], got [2, 6, 2, 8]");
  EXPECT(forward(none, nullptr, none, none_k, none_k, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected a head size of at least 1, got 0");
  EXPECT(forward(out, nullptr, q, heads, heads, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected a number of query heads divisible by the 3 key heads, got 4");
  EXPECT(forward(out, nullptr, q, k, v, &floats, nullptr, 1, 0) ==
         "ERR_DTYPE: " + f + "expected key_lengths of dtype i32, got f32");
  EXPECT(forward(out, nullptr, q, k, v, &three, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected key_lengths of shape [2], got [3]");
  EXPECT(forward(out, nullptr, q, k, v, nullptr, &matrix, 1, 0) ==
         "ERR_SHAPE: " + f + "expected query_starts of shape [2], got [2, 1]");
  EXPECT(forward(out, nullptr, q, k, v, &wide_lengths, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected key_lengths to be contiguous, got a strided view of shape [2]");
  EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, INFINITY, 0) ==
         "ERR_RANGE: " + f + "expected a finite scale, got inf");
  for (const float p : {-0.1f, 1.5f})
    EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, 1, p).find("expected dropout_p from 0 to 1") !=
           std::string::npos);
  EXPECT(forward(out, nullptr, q, k, v, nullptr, nullptr, 1, NAN).find("expected dropout_p") != std::string::npos);
  EXPECT(forward(other, nullptr, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected out of shape [2, 5, 4, 8], got [2, 5, 4, 9]");
  EXPECT(forward(out, &lse_t, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected lse of shape [2, 4, 5], got [2, 5, 4]");
  EXPECT(forward(out, &wide_lse, q, k, v, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected lse to be contiguous, got a strided view of shape [2, 4, 5]");
  const auto masked = [&](OptIn ranges, OptIn slopes, int64_t window, float softcap) {
    return error_of([&] {
      ops.attention_forward(stream, out, nullptr, q, k, v, nullptr, nullptr, nullptr, nullptr, nullptr, ranges, slopes,
                            nullptr, true, window, softcap, 1, 0, 0, nullptr, 0);
    });
  };
  const Array<float> four({4}), float_bounds({2, 5, 2});
  TensorView wide_bounds = bounds;
  wide_bounds.strides[1] = 4;
  EXPECT(masked(&bounds, &four, 3, 1) == "");
  EXPECT(masked(&float_bounds, nullptr, 0, 0) == "ERR_DTYPE: " + f + "expected key_ranges of dtype i32, got f32");
  EXPECT(masked(&matrix, nullptr, 0, 0) == "ERR_SHAPE: " + f + "expected key_ranges of shape [2, 5, 2], got [2, 1]");
  EXPECT(masked(&wide_bounds, nullptr, 0, 0) ==
         "ERR_SHAPE: " + f + "expected key_ranges to be contiguous, got a strided view of shape [2, 5, 2]");
  EXPECT(masked(nullptr, &three, 0, 0) == "ERR_DTYPE: " + f + "expected slopes of dtype f32, got i32");
  EXPECT(masked(nullptr, &floats, 0, 0) == "ERR_SHAPE: " + f + "expected slopes of shape [4], got [2]");
  EXPECT(masked(nullptr, nullptr, -1, 0) == "ERR_RANGE: " + f + "expected a window of at least 0, got -1");
  for (const float softcap : {-1.0f, INFINITY, NAN})
    EXPECT(masked(nullptr, nullptr, 0, softcap).find("ERR_RANGE: " + f + "expected a finite softcap of at least 0") ==
           0);
  const auto blocked = [&](const TensorView& mask, int64_t size) {
    return error_of([&] {
      ops.attention_forward(stream, out, nullptr, q, k, v, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                            nullptr, nullptr, true, 0, 0, 1, 0, 0, &mask, size);
    });
  };
  const Array<uint8_t> mask({1, 4, 1, 2}), short_mask({2, 1, 3, 1}), long_mask({2, 1, 3, 9}), some({1, 2, 1, 2});
  TensorView wide_mask = mask;
  wide_mask.strides[1] = 4;
  EXPECT(blocked(mask, 4) == "");
  EXPECT(blocked(long_mask, 4) == "");
  EXPECT(blocked(ids, 4) == "ERR_DTYPE: " + f + "expected block_mask of dtype u8, got i32");
  EXPECT(blocked(three, 4) == "ERR_SHAPE: " + f + "expected block_mask with 4 dimensions, got shape [3]");
  EXPECT(blocked(short_mask, 4) == "ERR_SHAPE: " + f + "expected block_mask of shape [2, 1, 3, 2], got [2, 1, 3, 1]");
  EXPECT(blocked(some, 4) == "ERR_SHAPE: " + f + "expected block_mask of shape [1, 4, 1, 2], got [1, 2, 1, 2]");
  EXPECT(blocked(wide_mask, 4) ==
         "ERR_SHAPE: " + f + "expected block_mask to be contiguous, got a strided view of shape [1, 4, 1, 2]");
  for (const int64_t size : {int64_t{0}, int64_t{-1}, int64_t{1} << 40})
    EXPECT(blocked(mask, size).find("ERR_RANGE: " + f + "expected a block_size from 1 to 2147483647") == 0);
  TensorView endless = k;
  endless.shape[1] = int64_t{1} << 40;
  endless.strides[1] = 0;
  EXPECT(forward(out, nullptr, q, endless, endless, nullptr, nullptr, 1, 0) ==
         "ERR_SHAPE: " + f + "expected at most 2147483647 keys, got 1099511627776");

  const auto backward = [&](In dq, In dk, In dv, In dout, In o, In lse) {
    return error_of([&] {
      ops.attention_backward(stream, dq, dk, dv, dout, q, k, v, o, lse, nullptr, nullptr, nullptr, nullptr, true, 0, 0,
                             1, 0, 0, nullptr, 0);
    });
  };
  EXPECT(backward(dq, dk, dv, dout, out, lse) == "");
  EXPECT(backward(k, dk, dv, dout, out, lse).find("attention_backward: expected dq of shape [2, 5, 4, 8]") !=
         std::string::npos);
  EXPECT(backward(dq, q, dv, dout, out, lse).find("expected dk of shape [2, 7, 2, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, q, dout, out, lse).find("expected dv of shape [2, 7, 2, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, k, out, lse).find("expected dout of shape [2, 5, 4, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, dout, k, lse).find("expected out of shape [2, 5, 4, 8]") != std::string::npos);
  EXPECT(backward(dq, dk, dv, dout, out, lse_t).find("expected lse of shape [2, 4, 5]") != std::string::npos);
  EXPECT(synchronize(stream).empty());
}

TEST(attention_lengths_out_of_range) {
  for (const int32_t length : {-1, 8, INT32_MIN, INT32_MAX}) {
    const Array<float> x({2, 7, 2, 8}), lse({2, 2, 7});
    Array<float> written({2, 7, 2, 8});
    Array<int32_t> lengths({2});
    lengths[0] = 7;
    lengths[1] = length;
    for (int64_t i = 0; i < written.size; i++) written[i] = NAN;
    char expected[120];
    std::snprintf(expected, sizeof expected, "expected key_lengths from 0 to 7, got %d", length);
    ops.attention_forward(stream, written, &lse, x, x, x, nullptr, nullptr, nullptr, &lengths, nullptr, nullptr,
                          nullptr, nullptr, true, 0, 0, 1, 0, 0, nullptr, 0);
    EXPECT(synchronize(stream) == std::string("ERR_RANGE: attention_forward: ") + expected);
    ops.attention_backward(stream, written, written, written, x, x, x, x, x, lse, &lengths, nullptr, nullptr, nullptr,
                           true, 0, 0, 1, 0, 0, nullptr, 0);
    EXPECT(synchronize(stream) == std::string("ERR_RANGE: attention_backward: ") + expected);
    for (int64_t i = 0; i < written.size; i++) EXPECT(std::isnan(written[i]));
  }
}

}  // namespace
}  // namespace heed::test::attention
