// Rows of any strides as pieces of neighbouring elements, for elementwise kernels whose elements are not floats. Rows
// that are not contiguous are gathered into a buffer and scattered from one, so that each kernel has a single loop.
#pragma once
#include "cpu/kernels/strided.h"

namespace heed::cpu::HEED_ISA {
namespace {

// An input's row: `at` returns n of its elements from `begin` on, in place or in its buffer.
template <class T>
struct PieceIn {
  const T* row;
  int64_t stride;
  T buffer[kPiece];

  const T* at(int64_t begin, int64_t n) {
    const T* const from = row + begin * stride;
    if (stride == 1) return from;
    for (int64_t i = 0; i < n; i++) buffer[i] = from[i * stride];
    return buffer;
  }
};

// An output's row: `at` returns where n elements from `begin` on are to be written, and `put` brings them to their
// places.
template <class T>
struct PieceOut {
  T* row;
  int64_t stride;
  T buffer[kPiece];

  T* at(int64_t begin) { return stride == 1 ? row + begin : buffer; }
  void put(int64_t begin, int64_t n) {
    if (stride == 1) return;
    for (int64_t i = 0; i < n; i++) row[(begin + i) * stride] = buffer[i];
  }
};

// Calls body(begin, n) for the pieces of a row.
template <class Body>
inline void over_pieces(int64_t n, const Body& body) {
  for (int64_t begin = 0; begin < n; begin += kPiece) body(begin, min_of(kPiece, n - begin));
}

}  // namespace
}  // namespace heed::cpu::HEED_ISA
