// Matrix instructions of a warp: mma.sync, wmma, ldmatrix, stmatrix, movmatrix.
//
// Fragments lie over the lanes according to the manual's formulas, with group = lane / 4 and t = lane % 4. For mma
// m16n8k16 of 16-bit types:
//   A: a0,a1 (group, 2t + {0,1})   a2,a3 (group + 8, same)   a4,a5 (group, 2t + 8 + {0,1})   a6,a7 (group + 8, same)
//   B: b0,b1 (2t + {0,1}, group)   b2,b3 (2t + 8 + {0,1}, group)
//   C: c0,c1 (group, 2t + {0,1})   c2,c3 (group + 8, same)
//
// d = c + Σ_k a_k·b_k, with k ascending. Each step is one fused multiply-add in f32 (the products of 16-bit and tf32
// factors are exact), rounded to nearest even; f16 accumulators are widened, and rounded once at the end. Cards add
// several products at once with truncation, in an order that the manual does not define, so results agree only within
// f32's accuracy.
#pragma once
#include <cstdint>

#include "simulator/types.h"

namespace heed::simulator {

struct Shape {
  uint8_t m = 0, n = 0, k = 0;
  bool operator==(const Shape& other) const { return m == other.m && n == other.n && k == other.k; }
};

// Fragments as arrays of registers: a[i] is the i-th register, uint32_t[32]. d may be the same registers as c.
using Fragments = const uint32_t* const*;
using MatrixMultiply = void (*)(Fragments a, Fragments b, Fragments c, uint32_t* const* d);

struct Mma {
  Shape shape;
  Type a = Type::f16;  // f16 bf16 tf32 s8 u8
  Type b = Type::f16;
  Type c = Type::f32;                                     // also the type of d: f32 f16 s32
  bool saturate = false;                                  // .satfinite for s32
  int registers_a = 0, registers_b = 0, registers_c = 0;  // set by find_mma
};

// mma.sync.aligned.<shape>.row.col: m16n8k8, m16n8k16 (f16: f32 and f16 sums; bf16), m16n8k4, m16n8k8 (tf32), m16n8k16,
// m16n8k32, m8n8k16 (8-bit). Sets the numbers of registers; returns null if there is no such instruction.
MatrixMultiply find_mma(Mma& mma);

// mma.sync.aligned.m8n8k4.row.col.f64: a[32], b[32]; c and d have two registers.
void mma_f64(const double* a, const double* b, const double* const* c, double* const* d);

// ldmatrix: rows[i], i < 8·count, is the address from lane i: row i % 8 of matrix i / 8, with 16 bytes.
void load_matrix(const uint8_t* const* rows, int count, bool transposed, uint32_t* const* d);
void store_matrix(uint8_t* const* rows, int count, bool transposed, Fragments s);
void move_matrix(const uint32_t* a, uint32_t* d);  // movmatrix.trans.m8n8.b16; may not be the same register

// wmma. A fragment's layout is opaque to programs: only wmma.load, mma and store must agree on it.
enum class Operand : uint8_t { a, b, c };  // d is like c

struct WmmaFragment {
  int registers;      // of 32 bits
  int elements;       // in a register: 1, 2 or 4
  int element_bytes;  // in memory
  // The place in the matrix of element e of register r of a lane. f16 A and B fragments have twice as many registers as
  // their elements need; there, registers 4..7 repeat the others.
  struct Position {
    uint8_t row, column;
  } at[16][32][4];
};

// Shapes m16n16k16, m32n8k16, m8n32k16 (f16, bf16, s8, u8; sums f32, f16, s32), m16n16k8 (tf32). Returns null if there
// is no such fragment. The fragment lives until the process ends. Element (row, column) lies at row · stride + column
// for .row and column · stride + row for .col, in elements.
const WmmaFragment* find_wmma_fragment(Operand operand, Shape shape, Type type);

struct Wmma {
  Shape shape;
  Type a = Type::f16;  // of A and B
  Type c = Type::f32;
  Type d = Type::f32;
  bool saturate = false;
};
MatrixMultiply find_wmma(const Wmma& wmma);

}  // namespace heed::simulator
