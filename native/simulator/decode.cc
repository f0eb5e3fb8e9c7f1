#include "simulator/decode.h"

#include <algorithm>
#include <cstring>

#include "simulator/state.h"

namespace heed::simulator {

Decoder::Decoder(const Kernel& kernel, const Body& body, const Allocation& allocation)
    : kernel_(kernel), body_(body), allocation_(allocation), program_(std::make_unique<Program>()) {}

std::unique_ptr<Program> Decoder::run() {
  Program& program = *program_;
  program.kernel = &kernel_;
  program.register_file_bytes = allocation_.file_bytes + 512;  // sink() and scratch() lie behind the registers
  program.predicates = allocation_.predicates;
  program.registers = allocation_.live;
  program.shared_bytes = body_.shared_bytes;
  program.dynamic_shared = body_.dynamic_shared;
  program.local_bytes = (body_.local_bytes + 15) / 16 * 16;
  for (const Statement& s : body_.statements) {
    first_instruction_.push_back(static_cast<uint32_t>(program.instructions.size()));
    if (s.opcode == "nop" || s.opcode == ".branchtargets") continue;
    statement_ = &s;
    statement();
  }
  first_instruction_.push_back(static_cast<uint32_t>(program.instructions.size()));
  Instruction end;
  end.execute = nothing;
  end.control = Control::exit;
  program.instructions.push_back(end);
  program.lines.push_back(body_.statements.empty() ? kernel_.line : body_.statements.back().line);
  program.locations.emplace_back();
  program.names.emplace_back("the end");
  // Branches were decoded with statements as targets.
  for (Instruction& in : program.instructions) {
    if (in.control == Control::branch) in.target = first_instruction_[in.target];
    if (in.control == Control::branch_indexed)
      for (uint32_t& target : program.lists[in.e]) target = first_instruction_[target];
  }
  return std::move(program_);
}

void Decoder::fail(const std::string& what) const {
  throw PtxError(statement_->line, std::string(statement_->opcode) + ": " + what);
}

void Decoder::statement() {
  modifiers_.clear();
  std::string_view rest = statement_->opcode;
  const auto cut = [&] {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
    return part;
  };
  opcode_ = cut();
  while (!rest.empty()) modifiers_.push_back(cut());
  in_ = Instruction();
  if (statement_->guard >= 0) {
    in_.guard.index = static_cast<uint16_t>(allocation_.slots[static_cast<size_t>(statement_->guard)]);
    in_.guard.negated = statement_->guard_negated;
  }
  if (!(external() || control() || memory() || warp() || arithmetic())) fail("unknown instruction");
  emit();
}

void Decoder::emit() {
  program_->instructions.push_back(in_);
  program_->lines.push_back(statement_->line);
  program_->locations.push_back(body_.locations[statement_->location]);
  program_->names.emplace_back(statement_->opcode);
}

bool Decoder::has(std::string_view modifier) const {
  return std::find(modifiers_.begin(), modifiers_.end(), modifier) != modifiers_.end();
}

Type Decoder::type(size_t i) const {
  for (const std::string_view modifier : modifiers_) {
    const Type type = parse_type(modifier);
    if (type != Type::none && i-- == 0) return type;
  }
  fail("expected a type");
}

Rounding Decoder::rounding() const {
  static const std::pair<std::string_view, Rounding> names[] = {
      {"rn", Rounding::rn},   {"rz", Rounding::rz},   {"rm", Rounding::rm},
      {"rp", Rounding::rp},   {"rna", Rounding::rna}, {"rni", Rounding::rni},
      {"rzi", Rounding::rzi}, {"rmi", Rounding::rmi}, {"rpi", Rounding::rpi}};
  for (const auto& [name, rounding] : names)
    if (has(name)) return rounding;
  return Rounding::none;
}

const Argument& Decoder::argument(size_t i) const {
  if (i >= statement_->count) fail("expected at least " + std::to_string(i + 1) + " operands");
  return body_.arguments[statement_->first + i];
}

// ---- operands

Type Decoder::register_type(const Argument& a) const {
  if (a.kind != Argument::Kind::reg) fail("expected a register");
  return body_.registers[static_cast<size_t>(a.reg)];
}

bool Decoder::is_predicate(const Argument& a) const {
  return a.kind == Argument::Kind::reg && register_type(a) == Type::pred;
}

Slot Decoder::constant(uint64_t bits, bool wide) {
  if (!wide) bits &= 0xffffffff;
  const auto [it, added] = constants_.try_emplace({bits, wide}, 0);
  if (added) {
    it->second = static_cast<Slot>(program_->constants.size() * 256) | constant_bit;
    program_->constants.push_back({bits, wide});
  }
  return it->second;
}

Slot Decoder::source(const Argument& a, Type type) {
  const bool wide = bytes_of(type) == 8;
  switch (a.kind) {
    case Argument::Kind::reg: {
      const Type held = register_type(a);
      if (held == Type::pred) fail("expected a register that is not a predicate");
      if (wide != (bytes_of(held) == 8)) fail("the width of " + std::string(a.name) + " is not that of the type");
      return allocation_.slots[static_cast<size_t>(a.reg)];
    }
    case Argument::Kind::immediate: {
      uint64_t bits = a.bits;
      if (a.number == Number::f64 && !wide) {
        double value;
        std::memcpy(&value, &bits, 8);
        const float narrow = static_cast<float>(value);
        bits = bits_as<uint32_t>(narrow);
      } else if (a.number == Number::f32 && wide) {
        bits = bits_as<uint64_t>(static_cast<double>(bits_as<float>(static_cast<uint32_t>(bits))));
      }
      return constant(bits, wide);
    }
    case Argument::Kind::name:
      if (a.variable) {
        const Slot slot = static_cast<Slot>(program_->constants.size() * 256) | constant_bit;
        program_->relocations.push_back({program_->constants.size(), a.variable, a.bits});
        program_->constants.push_back({0, wide});
        return slot;
      }
      return constant(a.bits, wide);
    default:
      fail("expected a register or a number");
  }
}

Slot Decoder::destination(const Argument& a) {
  if (a.kind == Argument::Kind::sink) return sink();
  if (a.kind != Argument::Kind::reg || register_type(a) == Type::pred) fail("expected a register as result");
  return allocation_.slots[static_cast<size_t>(a.reg)];
}

Predicate Decoder::predicate(const Argument& a) const {
  if (a.kind == Argument::Kind::immediate) return {always, a.bits == 0};
  if (!is_predicate(a)) fail("expected a predicate");
  return {static_cast<uint16_t>(allocation_.slots[static_cast<size_t>(a.reg)]), a.negated};
}

uint32_t Decoder::result_predicate(int32_t reg) const {
  return reg < 0 ? 0 : allocation_.slots[static_cast<size_t>(reg)];
}

std::vector<uint32_t> Decoder::slots(const Argument& a, Type type, bool results) {
  std::vector<uint32_t> result;
  const auto add = [&](const Argument& element) {
    result.push_back(results ? destination(element) : source(element, type));
  };
  if (a.kind == Argument::Kind::vector) {
    for (int32_t i = 0; i < a.second; i++) add(body_.arguments[static_cast<size_t>(a.reg + i)]);
  } else {
    add(a);
  }
  return result;
}

uint32_t Decoder::list(std::vector<uint32_t> slots) {
  program_->lists.push_back(std::move(slots));
  return static_cast<uint32_t>(program_->lists.size()) - 1;
}

uint32_t Decoder::data(std::shared_ptr<void> pointer) {
  program_->data.push_back(std::move(pointer));
  return static_cast<uint32_t>(program_->data.size()) - 1;
}

Space Decoder::space() const {
  for (std::string_view modifier : modifiers_) {
    modifier = modifier.substr(0, modifier.find("::"));
    if (modifier == "global") return Space::global;
    if (modifier == "shared") return Space::shared;
    if (modifier == "local") return Space::local;
    if (modifier == "const") return Space::constant;
    if (modifier == "param") return Space::parameter;
  }
  return Space::generic;
}

void Decoder::address(const Argument& a, Space space) {
  if (a.kind != Argument::Kind::address) fail("expected an address");
  in_.space = space;
  if (a.has_base) {
    const Type type = body_.registers[static_cast<size_t>(a.reg)];
    if (type == Type::pred || bytes_of(type) < 4) fail("expected an address of 32 or 64 bits");
    if (bytes_of(type) == 4) in_.flags |= 1;  // narrow_address
    in_.a = allocation_.slots[static_cast<size_t>(a.reg)];
    const int64_t offset = static_cast<int64_t>(a.bits);
    if (offset != static_cast<int32_t>(offset)) fail("the offset is too large");
    in_.offset = static_cast<int32_t>(offset);
    return;
  }
  if (a.variable) {
    in_.a = static_cast<Slot>(program_->constants.size() * 256) | constant_bit;
    program_->relocations.push_back({program_->constants.size(), a.variable, a.bits});
    program_->constants.push_back({0, true});
    return;
  }
  // A variable with a place of its own has a known space: `ld.param` of a call's result reads local memory.
  if (a.space != Space::generic) in_.space = a.space;
  in_.a = constant(a.bits, true);
}

bool Decoder::control() {
  if (opcode_ == "bra") {
    const Argument& target = argument(0);
    if (target.kind != Argument::Kind::label) fail("expected a label");
    in_.control = Control::branch;
    in_.target = static_cast<uint32_t>(target.reg);
  } else if (opcode_ == "brx") {
    in_.control = Control::branch_indexed;
    in_.a = source(argument(0), Type::u32);
    const Statement& targets = body_.statements[static_cast<size_t>(argument(1).reg)];
    std::vector<uint32_t> statements;
    for (uint32_t i = 0; i < targets.count; i++)
      statements.push_back(static_cast<uint32_t>(body_.arguments[targets.first + i].reg));
    in_.e = list(statements);
  } else if (opcode_ == "ret" || opcode_ == "exit") {
    in_.control = Control::exit;
  } else if (opcode_ == "trap" || opcode_ == "brkpt") {
    in_.execute = trap;
  } else if (opcode_ == "membar" || opcode_ == "fence") {
    const bool inside = has("cta") || has("proxy") || has("mbarrier_init");
    in_.execute = inside ? nothing : fence;
    program_->orders_blocks |= !inside;
  } else if (opcode_ == "nanosleep" || opcode_ == "prefetch" || opcode_ == "prefetchu" || opcode_ == "discard" ||
             opcode_ == "applypriority" || opcode_ == "pmevent") {
    in_.execute = nothing;
  } else {
    return false;
  }
  return true;
}

std::unique_ptr<Program> decode(const Kernel& kernel, const Body& body, const Allocation& allocation) {
  return Decoder(kernel, body, allocation).run();
}

// ---- Kernel

Kernel::Kernel() = default;
Kernel::~Kernel() = default;

const Program* Kernel::prepare(std::string* error) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!prepared_) {
    prepared_ = true;
    try {
      Body parsed = parse_body(*this, *module);
      propagate_constants(parsed);
      program_ = decode(*this, parsed, allocate(parsed));
    } catch (const PtxError& e) {
      error_ = "kernel " + name + ", " + e.what();
    }
  }
  if (error && !program_) *error = error_;
  return program_.get();
}

uint32_t Kernel::shared_bytes() {
  const Program* program = prepare(nullptr);
  return program ? program->shared_bytes : 0;
}
uint32_t Kernel::local_bytes() {
  const Program* program = prepare(nullptr);
  return program ? program->local_bytes : 0;
}
uint32_t Kernel::registers() {
  const Program* program = prepare(nullptr);
  return program ? program->registers : 0;
}

}  // namespace heed::simulator
