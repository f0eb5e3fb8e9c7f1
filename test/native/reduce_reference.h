// Tests of reductions: what reduce makes of a tensor held against sums in float64.
#pragma once
#include "views.h"

namespace heed::test {

// The shape left when the dimensions in `mask` are reduced.
Shape reduced_shape(const TensorView& inp, unsigned mask);

// Sum, mean and maximum over the dimensions in `mask`, each within a tolerance for its roundings (reduce_reference.cc).
void check_all_kinds(Stream& stream, const Ops& ops, const TensorView& inp, unsigned mask, Layout layout);

}  // namespace heed::test
