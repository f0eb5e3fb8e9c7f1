// The handlers that decoding selects besides those of lanes.h: memory, atomics, cp.async, matrices, exchanges between
// lanes, and rare arithmetic. Each comment says what the instruction's fields mean beyond slots d, a, b, c.
#pragma once
#include "simulator/matrix.h"
#include "simulator/program.h"
#include "simulator/warp.h"

namespace heed::simulator {

// ---- load_store.cc: address in a + offset; registers in d, or in lists[e] if `count` > 1. `width` is that of the
// registers.
void load(Warp& warp, const Instruction& in);
void store(Warp& warp, const Instruction& in);            // value in d
void load_uniform(Warp& warp, const Instruction& in);     // of a kernel parameter at offset
void convert_address(Warp& warp, const Instruction& in);  // cvta: mode: to generic; space
void is_space(Warp& warp, const Instruction& in);         // isspacep: p
void read_special(Warp& warp, const Instruction& in);     // mode: the register
void print(Warp& warp, const Instruction& in);            // vprintf: lists[e]: local offsets of result, format, values
void assert_fail(Warp& warp, const Instruction& in);      // lists[e]: of message, file, line, function
void trap(Warp& warp, const Instruction& in);
void fence(Warp& warp, const Instruction& in);  // of the whole device
void nothing(Warp& warp, const Instruction& in);

// ---- atomics.cc: atom and red: address in a, operands b and c, result d (or no_slot).
enum class Atomic : uint8_t { add, inc, dec, min, max, and_, or_, xor_, exch, cas };
Handler find_atomic(Atomic operation, Type type);  // null if there is none

// ---- async_copy.cc
void async_copy(Warp& warp,
                const Instruction& in);  // to a + offset from b + target, `bytes`; c: source size; q: ignore
void async_commit(Warp& warp, const Instruction& in);
void async_wait(Warp& warp, const Instruction& in);  // e: groups that may be pending
void async_wait_all(Warp& warp, const Instruction& in);

// ---- matrices.cc
struct MatrixCall {
  MatrixMultiply multiply;
  int a, b, c;  // registers
};
struct FragmentCall {
  const WmmaFragment* fragment;
  bool by_rows;
};
void multiply_matrices(Warp& warp, const Instruction& in);  // lists[e]: a, b, c, d; data[target]: MatrixCall
void multiply_f64(Warp& warp, const Instruction& in);       // lists[e]: a, b, c, c, d, d
void load_matrices(Warp& warp, const Instruction& in);      // ldmatrix: lists[e]; mode: transposed
void move_matrix_rows(Warp& warp, const Instruction& in);   // movmatrix
void load_fragment(Warp& warp, const Instruction& in);  // wmma.load: lists[e]; b: stride; data[target]: FragmentCall
void store_fragment(Warp& warp, const Instruction& in);

// ---- exchange.cc: e: the slot of the member mask
void shuffle_lanes(Warp& warp, const Instruction& in);  // mode: Shuffle; p: in range
void vote_lanes(Warp& warp, const Instruction& in);     // mode: Vote; q → p
void ballot(Warp& warp, const Instruction& in);         // q → d
void match_lanes(Warp& warp, const Instruction& in);    // mode: 1 all; width; p
void reduce_lanes(Warp& warp, const Instruction& in);   // mode: Reduce
void active_mask(Warp& warp, const Instruction& in);

// ---- pack.cc: mov between a register and a vector: lists[e], elements of `bytes`
void pack(Warp& warp, const Instruction& in);
void unpack(Warp& warp, const Instruction& in);
void move_predicate(Warp& warp, const Instruction& in);  // q → p
void combine_predicates(Warp& warp,
                        const Instruction& in);  // q and e (number, complement in flags 8) → p; mode: Combine

// ---- scalar.cc: rare instructions, one lane after the other. Returns null if there is no such instruction.
Handler find_scalar(std::string_view operation, Type type);

}  // namespace heed::simulator
