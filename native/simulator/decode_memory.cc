// Decodes ld, st, atom, red, cp.async, cvta and similar instructions, and calls that the host answers.
#include "simulator/access.h"
#include "simulator/decode.h"

namespace heed::simulator {

bool Decoder::memory() {
  if (opcode_ == "ld" || opcode_ == "ldu") {
    load_or_store(true);
  } else if (opcode_ == "st") {
    load_or_store(false);
  } else if (opcode_ == "atom") {
    atomic(true);
  } else if (opcode_ == "red") {
    atomic(false);
  } else if (opcode_ == "cp" && !modifiers_.empty() && modifiers_[0] == "async") {
    asynchronous_copy();
  } else if (opcode_ == "cvta" || opcode_ == "isspacep") {
    address_conversion();
  } else {
    return false;
  }
  return true;
}

void Decoder::load_or_store(bool is_load) {
  // Cache hints for L1 and L2 change nothing here.
  const Type t = type();
  const Argument& value = argument(is_load ? 0 : 1);
  const Space where = space();
  const Argument& place = argument(is_load ? 1 : 0);
  address(place, where);
  in_.bytes = static_cast<uint8_t>(bytes_of(t));
  if (is_signed(t)) in_.flags |= sign_extend;
  ordering();
  const int count = has("v2") ? 2 : has("v4") ? 4 : has("v8") ? 8 : 1;
  in_.count = static_cast<uint8_t>(count);
  if (count > 1 && (value.kind != Argument::Kind::vector || value.second != count))
    fail("expected a vector of " + std::to_string(count));
  // Registers may be wider than the type; a store takes the low bits of its value.
  const Argument& first =
      value.kind == Argument::Kind::vector ? body_.arguments[static_cast<size_t>(value.reg)] : value;
  Type held = t;
  for (int i = 0; i < (value.kind == Argument::Kind::vector ? value.second : 1); i++) {
    const Argument& element =
        value.kind == Argument::Kind::vector ? body_.arguments[static_cast<size_t>(value.reg + i)] : first;
    if (element.kind == Argument::Kind::reg) held = register_type(element);
  }
  in_.width = bytes_of(held) == 8 ? 8 : 4;
  if (bytes_of(t) > in_.width) fail("the registers are too narrow");
  const Type slot_type = in_.width == 8 ? Type::b64 : Type::b32;
  std::vector<uint32_t> registers = slots(value, slot_type, is_load);
  if (static_cast<int>(registers.size()) != count) fail("expected one register");
  if (count == 1) {
    in_.d = registers[0];
  } else {
    in_.e = list(std::move(registers));
  }
  in_.execute = is_load ? load : store;
  if (is_load && in_.space == Space::parameter && !place.has_base) {
    if (place.bits + in_.bytes * static_cast<uint64_t>(count) > kernel_.parameter_bytes)
      fail("beyond the kernel's parameters");
    in_.offset = static_cast<int32_t>(place.bits);
    in_.execute = load_uniform;
  }
  if (in_.space == Space::shared || in_.space == Space::generic) {
    const uint32_t shift = in_.bytes >= 4 ? 2 : in_.bytes == 2 ? 1 : 0;
    const uint32_t access = in_.count * in_.bytes >= 4 ? 2 : shift;
    program_->access_shift = std::min(program_->access_shift, access);
  }
}

void Decoder::ordering() {
  for (const std::string_view strong : {"volatile", "relaxed", "acquire", "release", "mmio"})
    if (has(strong)) in_.flags |= strong_access;
  if (has("acquire") || has("acq_rel")) in_.flags |= acquire_access;
  if (has("release") || has("acq_rel")) in_.flags |= release_access;
  if (has("cta")) in_.flags |= block_scope;
  if (in_.flags & (acquire_access | release_access)) program_->orders_blocks = true;
}

void Decoder::atomic(bool returns) {
  static const std::pair<std::string_view, Atomic> names[] = {
      {"add", Atomic::add},  {"inc", Atomic::inc}, {"dec", Atomic::dec},  {"min", Atomic::min},   {"max", Atomic::max},
      {"and", Atomic::and_}, {"or", Atomic::or_},  {"xor", Atomic::xor_}, {"exch", Atomic::exch}, {"cas", Atomic::cas}};
  const Type t = type();
  for (const auto& [name, operation] : names) {
    if (!has(name)) continue;
    const size_t first = returns ? 1 : 0;
    address(argument(first), space());
    ordering();
    in_.execute = find_atomic(operation, t);
    if (!in_.execute) fail("unknown atomic operation");
    const Type held = bytes_of(t) == 8 ? Type::b64 : bytes_of(t) == 2 ? Type::b16 : Type::b32;
    in_.b = source(argument(first + 1), held);
    if (operation == Atomic::cas) in_.c = source(argument(first + 2), held);
    if (returns && argument(0).kind != Argument::Kind::sink) in_.d = destination(argument(0));
    if (bytes_of(t) == 2) program_->access_shift = std::min(program_->access_shift, 1u);
    return;
  }
  fail("unknown atomic operation");
}

void Decoder::asynchronous_copy() {
  if (has("commit_group")) {
    in_.execute = async_commit;
  } else if (has("wait_group")) {
    in_.execute = async_wait;
    if (argument(0).kind != Argument::Kind::immediate) fail("expected a number");
    in_.e = static_cast<uint32_t>(argument(0).bits);
  } else if (has("wait_all")) {
    in_.execute = async_wait_all;
  } else if (has("ca") || has("cg")) {
    in_.execute = async_copy;
    const Argument& from = argument(1);
    if (argument(2).kind != Argument::Kind::immediate) fail("expected a number of bytes");
    const uint64_t bytes = argument(2).bits;
    if (bytes != 16 && !(has("ca") && (bytes == 4 || bytes == 8))) fail("expected a copy of 4, 8 or 16 bytes");
    address(from, Space::global);
    if (in_.flags & narrow_address) fail("expected a source address of 64 bits");
    in_.b = in_.a;
    in_.target = static_cast<uint32_t>(in_.offset);
    in_.offset = 0;
    address(argument(0), Space::shared);
    in_.bytes = static_cast<uint8_t>(bytes);
    if (arguments() > 3) {
      if (is_predicate(argument(3))) {
        in_.q = predicate(argument(3));
      } else if (!has("L2::cache_hint") || arguments() > 4) {
        in_.c = source(argument(3), Type::u32);
      }
    }
  } else {
    fail("unknown instruction");
  }
}

void Decoder::address_conversion() {
  const Space where = space();
  if (opcode_ == "isspacep") {
    in_.execute = is_space;
    in_.space = where;
    in_.p = predicate(argument(0));
    in_.a = source(argument(1), Type::u64);
    return;
  }
  in_.execute = convert_address;
  in_.space = where;
  in_.mode = !has("to");
  in_.d = destination(argument(0));
  in_.a = source(argument(1), Type::u64);
}

bool Decoder::external() {
  const auto parameters = [&](size_t count) {
    std::vector<uint32_t> offsets;
    for (size_t i = 0; i < arguments(); i++) offsets.push_back(static_cast<uint32_t>(argument(i).bits));
    if (offsets.size() < count) fail("expected " + std::to_string(count) + " parameters");
    in_.e = list(std::move(offsets));
  };
  if (statement_->opcode == "vprintf") {
    parameters(3);
    in_.execute = print;
  } else if (statement_->opcode == "__assertfail") {
    parameters(4);
    in_.execute = assert_fail;
  } else {
    return false;
  }
  return true;
}

}  // namespace heed::simulator
