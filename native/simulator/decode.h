// Decoding: a statement's opcode and modifiers select the handler, and its arguments become slots. There is one
// function per family of instructions; an unknown instruction, modifier or operand causes an error that names it.
#pragma once
#include <functional>

#include "simulator/handlers.h"
#include "simulator/lanes.h"
#include "simulator/program.h"

namespace heed::simulator {

class Decoder {
 public:
  Decoder(const Kernel& kernel, const Body& body, const Allocation& allocation);
  std::unique_ptr<Program> run();

 private:
  // ---- the current statement: decode.cc
  void statement();
  void emit();  // emits in_ as an instruction of the statement
  [[noreturn]] void fail(const std::string& what) const;
  bool has(std::string_view modifier) const;
  // Returns the i-th modifier that is a type.
  Type type(size_t i = 0) const;
  Rounding rounding() const;
  const Argument& argument(size_t i) const;
  size_t arguments() const { return statement_->count; }

  // ---- operands
  Type register_type(const Argument& a) const;
  bool is_predicate(const Argument& a) const;
  Slot constant(uint64_t bits, bool wide);
  // Returns a source of this type: a register's slot, or the slot of a constant.
  Slot source(const Argument& a, Type type);
  Slot destination(const Argument& a);
  Slot sink() const { return allocation_.file_bytes; }           // for results that are not used
  Slot scratch() const { return allocation_.file_bytes + 256; }  // between the instructions of a statement
  Predicate predicate(const Argument& a) const;
  uint32_t result_predicate(int32_t reg) const;
  // Returns the slots of a vector or of a single register.
  std::vector<uint32_t> slots(const Argument& a, Type type, bool results);
  uint32_t list(std::vector<uint32_t> slots);
  uint32_t data(std::shared_ptr<void> pointer);
  // Sets a, offset and flags from an address.
  void address(const Argument& a, Space space);
  Space space() const;

  // ---- families: decode_arithmetic.cc
  bool arithmetic();
  bool move();
  bool select();
  bool compare();
  bool conversion();
  bool predicate_logic();
  bool carries();
  bool rare();
  Operation operation(Op op, Type type) const;
  bool lanewise(Op op, Type type, int sources);
  void sources(int count, Type type);

  // decode_memory.cc
  bool memory();
  void load_or_store(bool is_load);
  void ordering();  // sets the flags for the modifiers of an access
  void atomic(bool returns);
  void asynchronous_copy();
  void address_conversion();
  bool external();

  // decode_warp.cc
  bool warp();
  void barrier();
  void exchange();
  void matrix_multiply();
  void matrix_load();
  void wmma();

  bool control();

  const Kernel& kernel_;
  const Body& body_;
  const Allocation& allocation_;
  std::unique_ptr<Program> program_;
  std::map<std::pair<uint64_t, bool>, Slot> constants_;
  std::vector<uint32_t> first_instruction_;  // first instruction of each statement

  const Statement* statement_ = nullptr;
  std::string_view opcode_;  // the part before the first dot
  std::vector<std::string_view> modifiers_;
  Instruction in_;
};

}  // namespace heed::simulator
