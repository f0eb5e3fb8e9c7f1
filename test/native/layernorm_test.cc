// Tests layer norm and the RMS norm, forward and backward: awkward widths and numbers of rows, fused residual, optional
// operands, in place, and every error.
#include <cstring>

#include "sweep.h"

namespace heed::test {
namespace {

constexpr float kEps = 1e-5f;

struct Case {
  int64_t rows, C;
  bool rms, affine, residual, accumulate;
};

void check(Sweep& s, Stream& stream, const Ops& ops, const Case& c) {
  const Operand x{{c.rows, c.C}}, parameter{{c.C}}, statistic{{c.rows}},
      rstd{{c.rows}, DType::f32, Layout::contiguous, 0.5f, 1};
  s.check("layernorm_forward", 4, {x, x, statistic, statistic, x, x, parameter, parameter}, [&](const Views& v) {
    ops.layernorm_forward(stream, v[0], c.residual ? &v[1] : nullptr, c.rms ? nullptr : &v[2], &v[3], v[4],
                          c.residual ? &v[5] : nullptr, c.affine ? &v[6] : nullptr, c.affine ? &v[7] : nullptr, kEps,
                          c.rms);
  });
  s.check("layernorm_backward", 3, {x, parameter, parameter, x, x, x, parameter, statistic, rstd}, [&](const Views& v) {
    ops.layernorm_backward(stream, v[0], c.affine ? &v[1] : nullptr, c.affine ? &v[2] : nullptr, v[3],
                           c.residual ? &v[4] : nullptr, v[5], c.affine ? &v[6] : nullptr, c.rms ? nullptr : &v[7],
                           v[8], c.accumulate, c.accumulate, c.accumulate);
  });
}

TEST(layernorm_sizes) {
  sweep(stream, [&](Sweep& s) {
    for (const bool rms : {false, true}) {
      for (const int64_t C : {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257, 768, 1000, 4097})
        for (const bool residual : {false, true})
          for (const bool affine : {false, true}) check(s, stream, ops, {3, C, rms, affine, residual, residual});
      check(s, stream, ops, {2, 65536, rms, true, false, false});
      check(s, stream, ops, {17, 70001, rms, true, true, false});
      for (const int64_t rows : {1, 15, 16, 17, 257, 700, 2048, 2049, 5000})
        check(s, stream, ops, {rows, 33, rms, true, false, rows % 2 == 1});
    }
  });
}

TEST(layernorm_in_place) {
  Random random(5);
  Array<float> inp({2, 3, 37}), weight({37}), out({2, 3, 37}), mean({2, 3}), row({37}), row_out({37}),
      row_mean(std::initializer_list<int64_t>{});
  for (Array<float>& a : {std::ref(inp), std::ref(weight)}) random.fill(a);
  for (int64_t i = 0; i < 37; i++) row[i] = inp[i];
  ops.layernorm_forward(stream, out, nullptr, &mean, nullptr, inp, nullptr, &weight, nullptr, kEps, false);
  ops.layernorm_forward(stream, inp, nullptr, nullptr, nullptr, inp, nullptr, &weight, nullptr, kEps, false);
  // No leading dimension.
  ops.layernorm_forward(stream, row_out, nullptr, &row_mean, nullptr, row, nullptr, &weight, nullptr, kEps, false);
  synchronize(stream);
  EXPECT(std::memcmp(&inp[0], &out[0], static_cast<size_t>(out.size) * sizeof(float)) == 0);
  EXPECT(std::memcmp(&row_out[0], &out[0], 37 * sizeof(float)) == 0 && row_mean[0] == mean[0]);
}

TEST(layernorm_backward_only_one_parameter) {
  Random random(9);
  Array<float> inp({40, 19}), dout({40, 19}), dinp({40, 19}), mean({40}), rstd({40}), dweight({19}), dbias({19}),
      alone_weight({19}), alone_bias({19});
  for (Array<float>& a : {std::ref(inp), std::ref(dout), std::ref(mean), std::ref(rstd)}) random.fill(a);
  ops.layernorm_backward(stream, dinp, &dweight, &dbias, dout, nullptr, inp, nullptr, &mean, rstd, false, false, false);
  ops.layernorm_backward(stream, dinp, &alone_weight, nullptr, dout, nullptr, inp, nullptr, &mean, rstd, false, false,
                         false);
  ops.layernorm_backward(stream, dinp, nullptr, &alone_bias, dout, nullptr, inp, nullptr, &mean, rstd, false, false,
                         false);
  synchronize(stream);
  for (int64_t i = 0; i < 19; i++) EXPECT(dweight[i] == alone_weight[i] && dbias[i] == alone_bias[i] && dbias[i] != 0);
}

TEST(layernorm_empty) {
  Array<float> none({0, 8}), no_rows({0}), weight({8}), dweight({8}), dbias({8}), no_columns({2, 0}), two({2}),
      zero({0});
  for (int64_t i = 0; i < 8; i++) dweight[i] = dbias[i] = 3;
  ops.layernorm_forward(stream, none, nullptr, &no_rows, &no_rows, none, nullptr, &weight, nullptr, kEps, false);
  ops.layernorm_backward(stream, none, &dweight, &dbias, none, nullptr, none, &weight, &no_rows, no_rows, false, true,
                         false);
  ops.layernorm_forward(stream, no_columns, nullptr, &two, &two, no_columns, nullptr, &zero, &zero, kEps, false);
  EXPECT(synchronize(stream).empty());
  for (int64_t i = 0; i < 8; i++) EXPECT(dweight[i] == 3 && dbias[i] == 0);  // accumulated; written
}

TEST(layernorm_errors) {
  Array<float> x({2, 8}), other({2, 7}), row({2}), wide({8}), scalar(std::initializer_list<int64_t>{});
  Array<int32_t> ids({2, 8});
  TensorView strided = x;
  strided.strides[0] = 16;
  const auto forward = [&](In out, OptOut sum, OptOut mean, OptOut rstd, In inp, OptIn residual, OptIn weight,
                           OptIn bias, Float eps) {
    return error_of(
        [&] { ops.layernorm_forward(stream, out, sum, mean, rstd, inp, residual, weight, bias, eps, false); });
  };
  const auto is = [](const std::string& got, const char* expected) {
    if (got != std::string(expected)) report("got \"%s\", expected \"%s\"", got.c_str(), expected);
  };
  const OptIn none = nullptr;
  is(forward(x, none, none, none, scalar, none, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected inp with at least 1 dimension, got shape []");
  is(forward(x, none, none, none, ids, none, none, none, kEps),
     "ERR_DTYPE: layernorm_forward: expected inp of dtype f32, bf16 or f16, got i32");
  is(forward(x, none, none, none, strided, none, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected inp to be contiguous, got a strided view of shape [2, 8]");
  is(forward(other, none, none, none, x, none, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected out of shape [2, 8], got [2, 7]");
  is(forward(x, &x, none, none, x, none, none, none, kEps),
     "ERR_ARGUMENT: layernorm_forward: expected residual and sum together, got one of them");
  is(forward(x, none, none, none, x, &x, none, none, kEps),
     "ERR_ARGUMENT: layernorm_forward: expected residual and sum together, got one of them");
  is(forward(x, &other, none, none, x, &x, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected sum of shape [2, 8], got [2, 7]");
  is(forward(x, &x, none, none, x, &other, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected residual of shape [2, 8], got [2, 7]");
  is(forward(x, none, &wide, none, x, none, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected mean of shape [2], got [8]");
  is(forward(x, none, none, &wide, x, none, none, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected rstd of shape [2], got [8]");
  is(forward(x, none, none, none, x, none, &row, none, kEps),
     "ERR_SHAPE: layernorm_forward: expected weight of shape [8], got [2]");
  is(forward(x, none, none, none, x, none, none, &row, kEps),
     "ERR_SHAPE: layernorm_forward: expected bias of shape [8], got [2]");
  is(forward(x, none, none, none, x, none, none, none, -1),
     "ERR_RANGE: layernorm_forward: expected eps of at least 0, got -1");
  is(forward(x, none, none, none, x, none, none, none, NAN),
     "ERR_RANGE: layernorm_forward: expected eps of at least 0, got nan");
  is(error_of([&] { ops.layernorm_forward(stream, x, none, &row, none, x, none, none, none, kEps, true); }),
     "ERR_ARGUMENT: layernorm_forward: expected no mean with rms, which has none, got one");

  const auto backward = [&](In dinp, OptOut dweight, OptOut dbias, In dout, OptIn dsum, In inp, OptIn weight,
                            OptIn mean, In rstd) {
    return error_of([&] {
      ops.layernorm_backward(stream, dinp, dweight, dbias, dout, dsum, inp, weight, mean, rstd, false, false, false);
    });
  };
  is(backward(x, none, none, x, none, scalar, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected inp with at least 1 dimension, got shape []");
  is(backward(other, none, none, x, none, x, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected dinp of shape [2, 8], got [2, 7]");
  is(backward(x, &row, none, x, none, x, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected dweight of shape [8], got [2]");
  is(backward(x, none, &row, x, none, x, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected dbias of shape [8], got [2]");
  is(backward(x, none, none, other, none, x, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected dout of shape [2, 8], got [2, 7]");
  is(backward(x, none, none, x, &other, x, none, &row, row),
     "ERR_SHAPE: layernorm_backward: expected dsum of shape [2, 8], got [2, 7]");
  is(backward(x, none, none, x, none, x, &row, &row, row),
     "ERR_SHAPE: layernorm_backward: expected weight of shape [8], got [2]");
  is(backward(x, none, none, x, none, x, none, &wide, row),
     "ERR_SHAPE: layernorm_backward: expected mean of shape [2], got [8]");
  is(backward(x, none, none, x, none, x, none, &row, wide),
     "ERR_SHAPE: layernorm_backward: expected rstd of shape [2], got [8]");
}

}  // namespace
}  // namespace heed::test
