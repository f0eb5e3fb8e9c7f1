// A kernel's body on its way to execution: text → statements over virtual registers (body.cc) → slots (allocate.cc) →
// decoded instructions (decode*.cc).
//
// A slot is where a register's 32 lanes lie in the warp's register file: 128 bytes for up to 32 bits, 256 for 64.
// Predicates are 32-bit masks in an array of their own.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "simulator/lexer.h"
#include "simulator/ptx.h"
#include "simulator/types.h"

namespace heed::simulator {

constexpr int warp_size = 32;
constexpr uint32_t full_mask = 0xffffffff;

enum class Space : uint8_t { generic, global, shared, local, constant, parameter };

// Generic addresses: global ones are host addresses; these windows lie where no host address can.
constexpr uint64_t shared_window = uint64_t{1} << 56;
constexpr uint64_t local_window = uint64_t{2} << 56;
constexpr uint64_t parameter_window = uint64_t{3} << 56;

// ---- declarations

struct Declaration {
  Type type = Type::none;
  uint32_t element = 0;  // bytes
  uint32_t align = 0;
  size_t bytes = 0;
  std::string_view name;
  bool unsized = false;
};
Type parse_type(std::string_view text);
int64_t parse_integer(Lexer& lexer);
Declaration parse_declaration(Lexer& lexer);

// ---- statements

enum class Special : uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  smid,
  nsmid,
  gridid,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  clock,
  clock_hi,
  clock64,
  globaltimer,
  globaltimer_lo,
  globaltimer_hi,
  dynamic_smem_size,
  total_smem_size,
};

struct Argument {
  enum class Kind : uint8_t { sink, reg, immediate, address, special, label, vector, name };
  Kind kind = Kind::sink;
  bool negated = false;                   // !p
  Number::Kind number = Number::integer;  // of an immediate
  bool has_base = false;                  // an address with a register
  bool dynamic = false;                   // of dynamic shared memory
  int32_t reg = -1;                       // the register; a vector's first argument; a label's statement
  int32_t second = -1;                    // the predicate of d|p; a vector's length
  uint64_t bits = 0;                      // an immediate; an address's offset
  Space space = Space::generic;           // where a variable named in an address or operand lies
  const Variable* variable = nullptr;     // a module variable, whose address is known once it is loaded
  std::string_view name;
};

struct Statement {
  std::string_view opcode;  // with modifiers
  int32_t guard = -1;
  bool guard_negated = false;
  uint32_t first = 0, count = 0;  // arguments
  uint32_t line = 0;
  uint32_t location = 0;  // in Body::locations
};

struct Location {
  uint32_t file = 0, line = 0;
};

struct Body {
  std::vector<Type> registers;
  std::vector<Statement> statements;
  std::vector<Argument> arguments;
  std::vector<Location> locations;
  uint32_t shared_bytes = 0;    // static; the dynamic part begins behind it
  uint32_t dynamic_shared = 0;  // where it begins
  uint32_t local_bytes = 0;     // of a thread
};
Body parse_body(const Kernel& kernel, const Module& module);

// Arguments [first, first + count) that a statement writes to come first; this says how many.
uint32_t destinations(const Statement& statement);

// ---- instructions

using Slot = uint32_t;  // byte offset in the register file; with constant_bit in the program's constants
constexpr Slot constant_bit = uint32_t{1} << 31;
constexpr Slot no_slot = 0x7fffffff;

// A predicate: its number, and whether its complement is meant. 0 is always true, 1 the carry of add.cc and its like.
constexpr uint16_t always = 0, carry = 1, first_predicate = 2;
struct Predicate {
  uint16_t index = 0;
  bool negated = false;
};

enum class Control : uint8_t {
  next,            // execute() and go on
  branch,          // to target
  branch_indexed,  // by the register a into lists[e]
  exit,
  barrier,       // bar.sync, bar.red, bar.arrive
  collective,    // execute() once all lanes named by the mask in c are here
  aligned,       // execute() once all lanes are here
  warp_barrier,  // bar.warp.sync
};

struct Warp;
struct Instruction;
using Handler = void (*)(Warp& warp, const Instruction& instruction);

struct Instruction {
  Handler execute = nullptr;
  Slot d = no_slot, a = no_slot, b = no_slot, c = no_slot;
  uint32_t e = 0;       // a list in Program::lists, or what the handler says
  int32_t offset = 0;   // of an address; small immediates
  uint32_t target = 0;  // of a branch
  Predicate guard;
  Predicate p, q;  // predicate operands or results
  Control control = Control::next;
  Space space = Space::generic;
  uint8_t bytes = 0;  // of an element in memory
  uint8_t count = 1;  // of elements
  uint8_t width = 0;  // of a register: 2, 4, 8
  uint8_t flags = 0;  // what the handler says
  uint8_t mode = 0;
};

struct Program {
  const Kernel* kernel = nullptr;
  std::vector<Instruction> instructions;  // the last one is exit
  std::vector<uint32_t> lines;            // of the PTX text, by instruction
  std::vector<Location> locations;
  std::vector<std::vector<uint32_t>> lists;  // slots of vectors, targets of brx
  std::vector<std::shared_ptr<void>> data;   // what handlers point to, by number
  std::vector<std::string> names;            // instruction text, by instruction

  // One a constant slot of 256 bytes: every lane holds it, in 4 or 8 bytes.
  struct Constant {
    uint64_t bits;
    bool wide;
  };
  std::vector<Constant> constants;
  struct Relocation {
    size_t constant;
    const Variable* variable;
    uint64_t addend;
  };
  std::vector<Relocation> relocations;

  uint32_t register_file_bytes = 0;
  uint32_t predicates = first_predicate;
  uint32_t registers = 0;  // 32-bit ones live at once
  uint32_t shared_bytes = 0;
  uint32_t dynamic_shared = 0;
  uint32_t local_bytes = 0;
  bool orders_blocks = false;  // it has fences of the whole device, .acquire or .release
  uint32_t access_shift = 2;   // log2 of the smallest access to shared memory, at most 2
};

// Gives every register a slot; slots are reused once a register is dead.
struct Allocation {
  std::vector<Slot> slots;  // by register; predicates: their number
  uint32_t file_bytes = 0;
  uint32_t predicates = first_predicate;
  uint32_t live = 0;
};
// Puts the values of registers that are written once, by mov of an immediate, into their uses.
void propagate_constants(Body& body);
Allocation allocate(const Body& body);

std::unique_ptr<Program> decode(const Kernel& kernel, const Body& body, const Allocation& allocation);

}  // namespace heed::simulator
