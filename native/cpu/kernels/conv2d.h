// The product of a convolution, which gemm.cc computes for conv2d.cc: out = epilogue(patches · b).
#pragma once
#include "core/kinds.h"
#include "core/windows.h"
#include "cpu/kernels/kernel.h"

namespace heed::cpu::HEED_ISA {

// out [M, N] or, for `transposed` patches only, [batch, M, N], of which each matrix has the next patches; b has the
// shape
// [.., K, N]. gemm.h says what the patches of images are.
struct PatchProduct {
  Axis y, x;
  const TensorView *images, *b, *out;
  const TensorView *bias = nullptr, *preact = nullptr;  // preact has the shape of out
  Activation activation = Activation::none;
  bool transposed = false, accumulate = false;
};

// Enqueues the product; neither K nor out may be empty.
void multiply_patches(Stream& stream, const char* op, const PatchProduct& product);

}  // namespace heed::cpu::HEED_ISA
