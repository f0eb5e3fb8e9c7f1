// mma.sync, ldmatrix and wmma: turns slots into the fragments of matrix.h.
#include "simulator/access.h"
#include "simulator/handlers.h"

namespace heed::simulator {

namespace {

const std::vector<uint32_t>& list(const Warp& warp, const Instruction& in) {
  return warp.block->launch->program->lists[in.e];
}

constexpr int max_registers = 64;

// Computes the bases of the slots, so that fragments are arrays of registers.
void bases(const Warp& warp, const std::vector<uint32_t>& slots, uint32_t** registers) {
  for (size_t i = 0; i < slots.size(); i++) registers[i] = lanes<uint32_t>(warp, slots[i]);
}

}  // namespace

void multiply_matrices(Warp& warp, const Instruction& in) {
  const auto& call = *static_cast<const MatrixCall*>(warp.block->launch->program->data[in.target].get());
  uint32_t* registers[max_registers];
  bases(warp, list(warp, in), registers);
  uint32_t** a = registers;
  uint32_t** b = a + call.a;
  uint32_t** c = b + call.b;
  call.multiply(a, b, c, c + call.c);
  if (warp.counters) warp.counters->mma++;
}

void multiply_f64(Warp& warp, const Instruction& in) {
  const std::vector<uint32_t>& slots = list(warp, in);
  double* registers[6];
  for (size_t i = 0; i < 6; i++) registers[i] = lanes<double>(warp, slots[i]);
  mma_f64(registers[0], registers[1], registers + 2, registers + 4);
  if (warp.counters) warp.counters->mma++;
}

void load_matrices(Warp& warp, const Instruction& in) {
  const std::vector<uint32_t>& slots = list(warp, in);
  const int count = static_cast<int>(slots.size());
  uint8_t* rows[warp_size];
  const uint32_t executing = warp.mask;
  warp.mask = count == 4 ? full_mask : (1u << 8 * count) - 1;
  locate(warp, in, 16, Access::read, rows);
  warp.mask = executing;
  uint32_t* d[4];
  bases(warp, slots, d);
  load_matrix(rows, count, in.mode, d);
  if (warp.counters) warp.counters->ldmatrix++;
}

void move_matrix_rows(Warp& warp, const Instruction& in) {
  move_matrix(lanes<uint32_t>(warp, in.a), lanes<uint32_t>(warp, in.d));
}

namespace {

// Computes the memory address of element e of register r for each lane.
void element_addresses(const Warp& warp, const Instruction& in, const FragmentCall& call, int r, int e,
                       const uint64_t* base, uint64_t* address) {
  const uint32_t* stride = lanes<uint32_t>(warp, in.b);
  for (int i = 0; i < warp_size; i++) {
    const auto position = call.fragment->at[r][i][e];
    const uint64_t index = call.by_rows ? uint64_t{position.row} * stride[i] + position.column
                                        : uint64_t{position.column} * stride[i] + position.row;
    address[i] = base[i] + index * static_cast<uint64_t>(call.fragment->element_bytes);
  }
}

template <class F>
void each_element(Warp& warp, const Instruction& in, Access access, F f) {
  const auto& call = *static_cast<const FragmentCall*>(warp.block->launch->program->data[in.target].get());
  const std::vector<uint32_t>& slots = list(warp, in);
  const uint32_t bytes = static_cast<uint32_t>(call.fragment->element_bytes);
  uint64_t base[warp_size], address[warp_size];
  uint8_t* pointer[warp_size];
  addresses(warp, in, base);
  for (int r = 0; r < call.fragment->registers; r++) {
    uint32_t* registers = lanes<uint32_t>(warp, slots[static_cast<size_t>(r)]);
    for (int e = 0; e < call.fragment->elements; e++) {
      element_addresses(warp, in, call, r, e, base, address);
      resolve(warp, in.space, address, bytes, access, 0, pointer);
      for (int i = 0; i < warp_size; i++) f(registers[i], e * static_cast<int>(bytes) * 8, pointer[i], bytes);
    }
  }
}

}  // namespace

void load_fragment(Warp& warp, const Instruction& in) {
  each_element(warp, in, Access::read, [](uint32_t& value, int shift, const uint8_t* from, uint32_t bytes) {
    uint32_t bits = 0;
    std::memcpy(&bits, from, bytes);
    value = shift == 0 ? bits : value | bits << shift;
  });
}

void store_fragment(Warp& warp, const Instruction& in) {
  each_element(warp, in, Access::write, [](uint32_t& value, int shift, uint8_t* to, uint32_t bytes) {
    const uint32_t bits = value >> shift;
    std::memcpy(to, &bits, bytes);
  });
}

}  // namespace heed::simulator
