// Layer norm and the RMS norm, forward and backward, against float64: awkward widths, large means, fused residual,
// optional operands, accumulation, independence of the thread count, and every error.
#include <cstring>

#include "check.h"

namespace heed::test {
namespace {

constexpr float kEps = 1e-5f;

struct Reference {
  std::vector<double> out, mean, rstd, dinp, dweight, dbias;
};

// weight, bias and dout may be null.
Reference reference(int64_t rows, int64_t C, const float* x, const float* weight, const float* bias, const float* dout,
                    bool rms = false) {
  Reference r;
  r.dweight.assign(C, 0);
  r.dbias.assign(C, 0);
  for (int64_t row = 0; row < rows; row++, x += C) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < C && !rms; i++) mean += x[i] / static_cast<double>(C);
    for (int64_t i = 0; i < C; i++) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(C);
    const double rstd = 1 / std::sqrt(variance + kEps);
    r.mean.push_back(mean);
    r.rstd.push_back(rstd);
    double mean_d = 0, mean_dn = 0;
    for (int64_t i = 0; i < C; i++) {
      const double n = (x[i] - mean) * rstd;
      r.out.push_back(n * (weight ? weight[i] : 1) + (bias ? bias[i] : 0));
      if (!dout) continue;
      const double g = dout[row * C + i], d = g * (weight ? weight[i] : 1);
      mean_d += rms ? 0 : d / static_cast<double>(C);
      mean_dn += d * n / static_cast<double>(C);
      r.dweight[i] += g * n;
      r.dbias[i] += g;
    }
    for (int64_t i = 0; dout && i < C; i++) {
      const double n = (x[i] - mean) * rstd, d = dout[row * C + i] * (weight ? static_cast<double>(weight[i]) : 1.0);
      r.dinp.push_back(rstd * (d - mean_d - n * mean_dn));
    }
  }
  return r;
}

// Some ten roundings of values of up to about 4, and three deviations of the random walk of a lane's sum, of which the
// narrowest instruction set has 16.
double tolerance(int64_t C) { return 0x1p-24 * (40 + 3 * std::sqrt(static_cast<double>(C) / 16)); }

const int64_t kWidths[] = {1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 257, 768, 1000, 4097};

void check_forward(Stream& stream, const Ops& ops, int64_t rows, int64_t C, float shift, bool affine, bool residual,
                   float spread = 2, bool rms = false) {
  Random random(static_cast<uint64_t>(rows * 100003 + C));
  Array<float> inp({rows, C}), add({rows, C}), weight({C}), bias({C}), out({rows, C}), sum({rows, C}), mean({rows}),
      rstd({rows});
  random.fill(inp, shift - spread, shift + spread);
  random.fill(add);
  random.fill(weight, 0.5f, 1.5f);
  random.fill(bias);
  ops.layernorm_forward(stream, out, residual ? &sum : nullptr, rms ? nullptr : &mean, &rstd, inp,
                        residual ? &add : nullptr, affine ? &weight : nullptr, affine ? &bias : nullptr, kEps, rms);
  EXPECT(synchronize(stream).empty());
  std::vector<float> x(inp.size);
  for (int64_t i = 0; i < inp.size; i++) x[i] = residual ? inp[i] + add[i] : inp[i];
  if (residual) EXPECT(std::memcmp(x.data(), &sum[0], x.size() * sizeof(float)) == 0);
  const Reference r =
      reference(rows, C, x.data(), affine ? &weight[0] : nullptr, affine ? &bias[0] : nullptr, nullptr, rms);
  const std::string label = "C=" + std::to_string(C) + " shift=" + std::to_string(shift);
  expect_near((label + " out").c_str(), &out[0], r.out.data(), out.size, tolerance(C), tolerance(C));
  if (!rms)
    expect_near((label + " mean").c_str(), &mean[0], r.mean.data(), rows, 0x1p-23, 0x1p-23 + tolerance(C) / 1e3);
  expect_near((label + " rstd").c_str(), &rstd[0], r.rstd.data(), rows, 0, tolerance(C));
}

TEST(layernorm_forward_widths) {
  for (const int64_t C : kWidths) {
    check_forward(stream, ops, 3, C, 0, true, false);
    check_forward(stream, ops, 2, C, 0, false, true);
  }
  check_forward(stream, ops, 1, 65536, 0, true, false);
  check_forward(stream, ops, 2, 70001, 0, true, true);
  check_forward(stream, ops, 700, 65, 0, true, true);  // several tasks
}

TEST(layernorm_forward_large_means) {
  for (const int64_t C : {17, 768, 4097, 65536})
    for (const float shift : {1e4f, -1e4f, 100.0f}) check_forward(stream, ops, 2, C, shift, true, false);
  // A deviation near the rounding of the mean: the variance must not take that in.
  for (const int64_t C : {65, 767, 4097}) check_forward(stream, ops, 8, C, 1e4f, true, false, 0.01f);
}

TEST(layernorm_forward_constant_row_gives_bias) {
  for (const int64_t C : {1, 3, 767}) {
    Array<float> inp({2, C}), bias({C}), out({2, C});
    for (int64_t i = 0; i < inp.size; i++) inp[i] = i < C ? 1e4f : 0.1f;
    for (int64_t i = 0; i < C; i++) bias[i] = static_cast<float>(i % 5);
    ops.layernorm_forward(stream, out, nullptr, nullptr, nullptr, inp, nullptr, nullptr, &bias, kEps, false);
    synchronize(stream);
    std::vector<double> expected(inp.size);
    for (int64_t i = 0; i < inp.size; i++) expected[i] = bias[i % C];
    expect_near("constant", &out[0], expected.data(), out.size, 1e-6, 0x1p-23);
  }
}

TEST(layernorm_forward_leading_dimensions_and_in_place) {
  Random random(5);
  Array<float> inp({2, 3, 37}), weight({37}), out({2, 3, 37}), mean({2, 3});
  random.fill(inp);
  random.fill(weight);
  ops.layernorm_forward(stream, out, nullptr, &mean, nullptr, inp, nullptr, &weight, nullptr, kEps, false);
  ops.layernorm_forward(stream, inp, nullptr, nullptr, nullptr, inp, nullptr, &weight, nullptr, kEps, false);
  synchronize(stream);
  EXPECT(std::memcmp(&inp[0], &out[0], static_cast<size_t>(out.size) * sizeof(float)) == 0);

  Array<float> row({37}), row_out({37}), row_mean(std::initializer_list<int64_t>{});  // no leading dimension
  random.fill(row);
  ops.layernorm_forward(stream, row_out, nullptr, &row_mean, nullptr, row, nullptr, nullptr, nullptr, kEps, false);
  synchronize(stream);
  const Reference r = reference(1, 37, &row[0], nullptr, nullptr, nullptr);
  expect_near("one row", &row_out[0], r.out.data(), 37, tolerance(37), tolerance(37));
}

TEST(layernorm_forward_nan_stays_in_its_row) {
  Array<float> inp({3, 40}), out({3, 40});
  Random random(1);
  random.fill(inp);
  inp[45] = NAN;
  ops.layernorm_forward(stream, out, nullptr, nullptr, nullptr, inp, nullptr, nullptr, nullptr, kEps, false);
  synchronize(stream);
  for (int64_t i = 0; i < out.size; i++) EXPECT(std::isnan(out[i]) == (i / 40 == 1));
}

TEST(layernorm_forward_rms) {
  for (const int64_t C : kWidths)
    for (const bool residual : {false, true}) check_forward(stream, ops, 3, C, 0.5f, !residual, residual, 2, true);
  for (const int64_t C : {65536, 70001}) check_forward(stream, ops, 2, C, 0, true, true, 2, true);
  check_forward(stream, ops, 700, 65, 0, true, true, 2, true);  // several tasks
  for (const int64_t C : {17, 4097, 65536}) check_forward(stream, ops, 2, C, 1e4f, true, false, 2, true);
}

struct BackwardCase {
  int64_t rows, C;
  float shift = 0;
  bool affine = true, dsum = false, accumulate = false, rms = false;
};

void check_backward(Stream& stream, const Ops& ops, const BackwardCase& c) {
  Random random(static_cast<uint64_t>(c.rows * 7919 + c.C));
  Array<float> inp({c.rows, c.C}), dout({c.rows, c.C}), dsum({c.rows, c.C}), dinp({c.rows, c.C}), weight({c.C}),
      dweight({c.C}), dbias({c.C}), mean({c.rows}), rstd({c.rows}), out({c.rows, c.C});
  random.fill(inp, c.shift - 2, c.shift + 2);
  for (Array<float>& a : {std::ref(dout), std::ref(dsum), std::ref(dinp), std::ref(dweight), std::ref(dbias)})
    random.fill(a);
  random.fill(weight, 0.5f, 1.5f);
  const float* w = c.affine ? &weight[0] : nullptr;
  Reference r = reference(c.rows, c.C, &inp[0], w, nullptr, &dout[0], c.rms);
  double largest = 1;
  for (int64_t i = 0; i < dinp.size; i++) {
    r.dinp[i] += (c.dsum ? dsum[i] : 0.0) + (c.accumulate ? dinp[i] : 0.0);
    largest = std::fmax(largest, r.rstd[i / c.C]);
  }
  for (int64_t i = 0; c.accumulate && i < c.C; i++) {
    r.dweight[i] += dweight[i];
    r.dbias[i] += dbias[i];
  }
  ops.layernorm_forward(stream, out, nullptr, c.rms ? nullptr : &mean, &rstd, inp, nullptr, nullptr, nullptr, kEps,
                        c.rms);
  ops.layernorm_backward(stream, dinp, c.affine ? &dweight : nullptr, c.affine ? &dbias : nullptr, dout,
                         c.dsum ? &dsum : nullptr, inp, c.affine ? &weight : nullptr, c.rms ? nullptr : &mean, rstd,
                         c.accumulate, c.accumulate, c.accumulate);
  EXPECT(synchronize(stream).empty());
  const std::string label = "rows=" + std::to_string(c.rows) + " C=" + std::to_string(c.C);
  // A saved mean is rounded to f32, by half an ulp of the shift: so far every normalised value may be off.
  const double n_error = std::fabs(c.shift) * 0x1p-24 * largest;
  const double error = (tolerance(c.C) + 3 * n_error) * largest;
  expect_near((label + " dinp").c_str(), &dinp[0], r.dinp.data(), dinp.size, error, 0x1p-22);
  if (!c.affine) return;
  const double walk = std::sqrt(static_cast<double>(c.rows));  // of sums over the rows
  expect_near((label + " dweight").c_str(), &dweight[0], r.dweight.data(), c.C, walk * (tolerance(c.C) + 3 * n_error),
              0x1p-22);
  expect_near((label + " dbias").c_str(), &dbias[0], r.dbias.data(), c.C, walk * 0x1p-22, 0x1p-22);
}

TEST(layernorm_backward_widths) {
  for (const int64_t C : kWidths) {
    check_backward(stream, ops, {3, C});
    check_backward(stream, ops, {2, C, 0, true, true, true});
    check_backward(stream, ops, {2, C, 0, false, true, false});
  }
  check_backward(stream, ops, {2, 65536});
  check_backward(stream, ops, {17, 70001, 0, true, true, false});
}

TEST(layernorm_backward_rows) {
  for (const int64_t rows : {1, 15, 16, 17, 33, 257, 2048, 2049, 5000})
    check_backward(stream, ops, {rows, 33, 0, true, false, rows % 2 == 1});
}

TEST(layernorm_backward_rms) {
  for (const int64_t C : kWidths)
    for (const bool accumulate : {false, true})
      check_backward(stream, ops, {3, C, 0.5f, C % 2 == 1, accumulate, accumulate, true});
  for (const int64_t rows : {16, 257, 5000}) check_backward(stream, ops, {rows, 33, 0, true, false, false, true});
  check_backward(stream, ops, {17, 70001, 0, true, true, false, true});
}

TEST(layernorm_backward_large_means) {
  for (const float shift : {100.0f, 1e4f}) check_backward(stream, ops, {5, 768, shift});
}

TEST(layernorm_backward_is_the_derivative_of_forward) {
  constexpr int64_t C = 5;
  const float x[C] = {0.3f, -1.2f, 0.7f, 2.0f, -0.4f}, w[C] = {1.1f, 0.6f, -0.9f, 1.5f, 0.8f},
              dout[C] = {0.2f, -0.5f, 1.0f, 0.3f, -0.7f};
  const Reference r = reference(1, C, x, w, nullptr, dout);
  for (int64_t i = 0; i < C; i++) {
    double loss[2];
    float step[2];
    for (int side = 0; side < 2; side++) {
      float moved[C];
      std::memcpy(moved, x, sizeof x);
      moved[i] += side ? 0x1p-10f : -0x1p-10f;
      step[side] = moved[i];
      const Reference at = reference(1, C, moved, w, nullptr, nullptr);
      loss[side] = 0;
      for (int64_t j = 0; j < C; j++) loss[side] += at.out[j] * dout[j];
    }
    // Central differences: off by the square of the step.
    EXPECT(std::fabs((loss[1] - loss[0]) / (static_cast<double>(step[1]) - step[0]) - r.dinp[i]) < 1e-5);
  }
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

TEST(layernorm_backward_same_bits_on_any_threads) {
  constexpr int64_t kRows = 3000, C = 65;
  Random random(11);
  Array<float> inp({kRows, C}), dout({kRows, C}), mean({kRows}), rstd({kRows});
  for (Array<float>& a : {std::ref(inp), std::ref(dout), std::ref(mean), std::ref(rstd)}) random.fill(a);
  const int threads = cpu::thread_count();
  std::vector<float> first;
  for (const int count : {1, 2, 5}) {
    cpu::set_thread_count(count);
    Array<float> dinp({kRows, C}), dweight({C}), dbias({C});
    ops.layernorm_backward(stream, dinp, &dweight, &dbias, dout, nullptr, inp, nullptr, &mean, rstd, false, false,
                           false);
    synchronize(stream);
    std::vector<float> all(&dinp[0], &dinp[0] + dinp.size);
    all.insert(all.end(), &dweight[0], &dweight[0] + C);
    all.insert(all.end(), &dbias[0], &dbias[0] + C);
    if (first.empty()) first = all;
    EXPECT(std::memcmp(first.data(), all.data(), all.size() * sizeof(float)) == 0);
  }
  cpu::set_thread_count(threads);
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
  for (int64_t i = 0; i < 8; i++) EXPECT(dweight[i] == 3 && dbias[i] == 0);  // accumulated, written
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
