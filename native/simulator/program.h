// The stages of a kernel's body before execution: text → statements over virtual registers (body.cc) → slots
// (allocate.cc) → decoded instructions (decode*.cc).
//
// A slot is the place of a register's 32 lanes in the warp's register file: 128 bytes for up to 32 bits, 256 for 64.
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

// Generic addresses: global ones are host addresses, and these windows lie at addresses that no host memory has.
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
  bool has_base = false;                  // the address has a register
  bool dynamic = false;                   // refers to dynamic shared memory
  int32_t reg = -1;                       // the register; a vector's first argument; a label's statement
  int32_t second = -1;                    // the predicate of d|p; a vector's length
  uint64_t bits = 0;                      // an immediate; an address's offset
  Space space = Space::generic;           // space of a variable that is named in an address or operand
  const Variable* variable = nullptr;     // a module variable, whose address is known once the module is loaded
  std::string_view name;
};

struct Statement {
  std::string_view opcode;  // including modifiers
  int32_t guard = -1;
  bool guard_negated = false;
  uint32_t first = 0, count = 0;  // arguments
  uint32_t line = 0;
  uint32_t location = 0;  // index in Body::locations
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
  uint32_t local_bytes = 0;     // per thread
};
Body parse_body(const Kernel& kernel, const Module& module);

// Returns how many of a statement's arguments [first, first + count) are written; those come first.
uint32_t destinations(const Statement& statement);

// ---- instructions

using Slot = uint32_t;  // byte offset in the register file; with constant_bit in the program's constants
constexpr Slot constant_bit = uint32_t{1} << 31;
constexpr Slot no_slot = 0x7fffffff;

// A predicate: its number, and whether it is complemented. 0 is always true; 1 is the carry of add.cc and similar
// instructions.
constexpr uint16_t always = 0, carry = 1, first_predicate = 2;
struct Predicate {
  uint16_t index = 0;
  bool negated = false;
};

enum class Control : uint8_t {
  next,            // execute() and continue
  branch,          // to target
  branch_indexed,  // by the register a into lists[e]
  exit,
  barrier,       // bar.sync, bar.red, bar.arrive
  collective,    // execute() once all lanes in the mask in c have arrived
  aligned,       // execute() once all lanes have arrived
  warp_barrier,  // bar.warp.sync
};

struct Warp;
struct Instruction;
using Handler = void (*)(Warp& warp, const Instruction& instruction);

struct Instruction {
  Handler execute = nullptr;
  Slot d = no_slot, a = no_slot, b = no_slot, c = no_slot;
  uint32_t e = 0;       // a list in Program::lists, or as the handler defines
  int32_t offset = 0;   // of an address; small immediates
  uint32_t target = 0;  // target of a branch
  Predicate guard;
  Predicate p, q;  // predicate operands or results
  Control control = Control::next;
  Space space = Space::generic;
  uint8_t bytes = 0;  // bytes of an element in memory
  uint8_t count = 1;  // number of elements
  uint8_t width = 0;  // width of a register: 2, 4, 8
  uint8_t flags = 0;  // as the handler defines
  uint8_t mode = 0;
};

struct Program {
  const Kernel* kernel = nullptr;
  std::vector<Instruction> instructions;  // the last one is exit
  std::vector<uint32_t> lines;            // line in the PTX text of each instruction
  std::vector<Location> locations;
  std::vector<std::vector<uint32_t>> lists;  // slots of vectors, targets of brx
  std::vector<std::shared_ptr<void>> data;   // data of handlers, by number
  std::vector<std::string> names;            // text of each instruction

  // One per constant slot of 256 bytes: every lane holds the value, in 4 or 8 bytes.
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
  uint32_t registers = 0;  // 32-bit registers that are live at once
  uint32_t shared_bytes = 0;
  uint32_t dynamic_shared = 0;
  uint32_t local_bytes = 0;
  bool orders_blocks = false;  // true if it has fences of the whole device, .acquire or .release
  uint32_t access_shift = 2;   // log2 of the smallest access to shared memory, at most 2
};

// Assigns a slot to every register; slots are reused once a register is dead.
struct Allocation {
  std::vector<Slot> slots;  // slot of each register; for predicates their number
  uint32_t file_bytes = 0;
  uint32_t predicates = first_predicate;
  uint32_t live = 0;
};
// Puts the values of registers that are written once, by mov of an immediate, into their uses.
void propagate_constants(Body& body);
Allocation allocate(const Body& body);

std::unique_ptr<Program> decode(const Kernel& kernel, const Body& body, const Allocation& allocation);

}  // namespace heed::simulator
