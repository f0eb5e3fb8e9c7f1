// Tests of matrix products: a case, and what gemm makes of it held against the product in float64.
#pragma once
#include "dtypes.h"

namespace heed::test::gemm {

constexpr double kRounding = 0x1p-24;  // of f32

struct Case {
  Shape batch;
  int64_t m, n, k;
  Layout a = Layout::contiguous, b = Layout::contiguous;
  int64_t padding = 0;  // of the rows of out, residual, preact and dact_preact
  bool bias = false, residual = false, preact = false, dact = false;
  Activation activation = Activation::none;
  bool accumulate = false;
  DType dtype = DType::f32;
  bool wide = false;  // out, bias and residual are f32 all the same
};

// Runs the case and compares out and preact, each within a tolerance for its roundings (gemm_reference.cc); returns
// out's memory, gaps included.
std::vector<char> check(Stream& stream, const Ops& ops, const Case& c);

}  // namespace heed::test::gemm
