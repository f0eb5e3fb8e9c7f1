// Arithmetic, moves, comparisons, conversions.
#include "simulator/bits.h"
#include "simulator/conversions.h"
#include "simulator/decode.h"
#include "simulator/half.h"
#include "simulator/state.h"

namespace heed::simulator {

namespace {

// An instruction with a conversion, which is data[target].
void convert_lanes(Warp& warp, const Instruction& in) {
  const Program& program = *warp.block->launch->program;
  const auto& call = *static_cast<const std::pair<Conversion, WarpConversion>*>(program.data[in.target].get());
  const void* from = lanes<uint8_t>(warp, in.a);
  const void* second = in.b == no_slot ? nullptr : lanes<uint8_t>(warp, in.b);
  if (warp.mask == full_mask) return call.second(call.first, from, second, lanes<uint8_t>(warp, in.d));
  alignas(64) uint64_t result[warp_size];
  call.second(call.first, from, second, result);
  for (uint32_t m = warp.mask; m; m &= m - 1) {
    const int i = __builtin_ctz(m);
    if (in.width == 8) {
      lanes<uint64_t>(warp, in.d)[i] = result[i];
    } else {
      lanes<uint32_t>(warp, in.d)[i] = reinterpret_cast<const uint32_t*>(result)[i];
    }
  }
}

Comparison find_comparison(std::string_view name, bool* found) {
  static const std::pair<std::string_view, Comparison> names[] = {
      {"eq", Comparison::eq},   {"ne", Comparison::ne},   {"lt", Comparison::lt},   {"le", Comparison::le},
      {"gt", Comparison::gt},   {"ge", Comparison::ge},   {"equ", Comparison::equ}, {"neu", Comparison::neu},
      {"ltu", Comparison::ltu}, {"leu", Comparison::leu}, {"gtu", Comparison::gtu}, {"geu", Comparison::geu},
      {"num", Comparison::num}, {"nan", Comparison::nan}, {"lo", Comparison::lo},   {"ls", Comparison::ls},
      {"hi", Comparison::hi},   {"hs", Comparison::hs}};
  for (const auto& [text, comparison] : names)
    if (text == name) return *found = true, comparison;
  *found = false;
  return Comparison::eq;
}

Operation conversion_of(Type to, Type from) {
  Operation o{Op::cvt, to};
  o.from = from;
  o.rounding = Rounding::none;
  return o;
}

}  // namespace

Operation Decoder::operation(Op op, Type type) const {
  Operation o{op, type};
  o.ftz = has("ftz");
  o.saturate = has("sat");
  o.nan = has("NaN");
  const Rounding r = rounding();
  o.rounding = r == Rounding::none ? Rounding::rn : r;
  return o;
}

void Decoder::sources(int count, Type type) {
  in_.d = destination(argument(0));
  in_.a = source(argument(1), type);
  if (count > 1) in_.b = source(argument(2), type);
  if (count > 2) in_.c = source(argument(3), type);
}

bool Decoder::lanewise(Op op, Type t, int count) {
  const Operation o = operation(op, t);
  in_.execute = find_lanes(o);
  if (!in_.execute) return false;
  in_.mode = static_cast<uint8_t>(o.rounding);
  sources(count, t);
  return true;
}

bool Decoder::arithmetic() {
  if (opcode_ == "mov") return move();
  if (opcode_ == "selp" || opcode_ == "slct") return select();
  if (opcode_ == "setp" || opcode_ == "set") return compare();
  if (opcode_ == "cvt") return conversion();
  if (predicate_logic() || carries()) return true;
  const bool wide = has("wide"), hi = has("hi"), approx = has("approx") || has("full");
  if (opcode_ == "shl" || opcode_ == "shr") {
    if (!lanewise(opcode_ == "shl" ? Op::shl : Op::shr, type(), 1)) fail("unknown type");
    in_.b = source(argument(2), Type::u32);
    return true;
  }
  if (opcode_ == "lop3") {
    if (!lanewise(Op::lop3, Type::b32, 3)) return false;
    if (argument(4).kind != Argument::Kind::immediate) fail("expected a table");
    in_.mode = static_cast<uint8_t>(argument(4).bits);
    return true;
  }
  if (opcode_ == "mul" && wide) {
    const Type t = type();
    in_.execute = find_lanes(operation(Op::mul_wide, t));
    sources(2, t);
    return in_.execute != nullptr;
  }
  if (opcode_ == "mad" && wide) {
    const Type t = type();
    in_.execute = find_lanes(operation(Op::mad_wide, t));
    sources(2, t);
    in_.c = source(argument(3), bytes_of(t) == 4 ? Type::b64 : Type::b32);
    return in_.execute != nullptr;
  }
  struct Entry {
    std::string_view name;
    Op op;
    int sources;
  };
  static const Entry entries[] = {
      {"add", Op::add, 2},  {"sub", Op::sub, 2},   {"mul", Op::mul, 2},  {"mad", Op::mad, 3},  {"fma", Op::fma, 3},
      {"div", Op::div, 2},  {"rem", Op::rem, 2},   {"min", Op::min, 2},  {"max", Op::max, 2},  {"abs", Op::abs, 1},
      {"neg", Op::neg, 1},  {"sqrt", Op::sqrt, 1}, {"rcp", Op::rcp, 1},  {"and", Op::and_, 2}, {"or", Op::or_, 2},
      {"xor", Op::xor_, 2}, {"not", Op::not_, 1},  {"cnot", Op::cnot, 1}};
  for (const Entry& entry : entries) {
    if (entry.name != opcode_ || approx || has("xorsign")) continue;
    Op op = entry.op;
    if (op == Op::mul && hi) op = Op::mul_hi;
    if (op == Op::mad && hi) op = Op::mad_hi;
    if (op == Op::mad && is_float(type())) op = Op::fma;
    if (lanewise(op, type(), entry.sources)) return true;
  }
  return rare();
}

bool Decoder::move() {
  const Argument& to = argument(0);
  const Argument& from = argument(1);
  const Type t = type();
  if (t == Type::pred) {
    in_.execute = move_predicate;
    in_.p = predicate(to);
    in_.q = predicate(from);
    return true;
  }
  if (to.kind == Argument::Kind::vector || from.kind == Argument::Kind::vector) {
    const bool packs = from.kind == Argument::Kind::vector;
    const Argument& vector = packs ? from : to;
    const int bytes = bytes_of(t) / vector.second;
    if (bytes < 1 || bytes == 8) fail("a vector that does not fit the type");
    in_.bytes = static_cast<uint8_t>(bytes);
    in_.width = static_cast<uint8_t>(bytes_of(t));
    in_.e = list(slots(vector, Type::b32, !packs));
    if (packs) {
      in_.d = destination(to);
      in_.execute = pack;
    } else {
      in_.a = source(from, t);
      in_.execute = unpack;
    }
    return true;
  }
  if (from.kind == Argument::Kind::special) {
    in_.execute = read_special;
    in_.mode = static_cast<uint8_t>(from.reg);
    in_.width = static_cast<uint8_t>(bytes_of(t));
    in_.d = destination(to);
    return true;
  }
  return lanewise(Op::mov, t, 1);
}

bool Decoder::select() {
  const Type t = type();
  if (opcode_ == "selp") {
    if (!lanewise(Op::selp, t, 2)) return false;
    in_.q = predicate(argument(3));
    return true;
  }
  if (type(1) == Type::f32) fail("selection by a float");
  if (!lanewise(Op::slct, t, 2)) return false;
  in_.c = source(argument(3), Type::s32);
  return true;
}

bool Decoder::compare() {
  const bool is_set = opcode_ == "set";
  const Type t = type(is_set ? 1 : 0);
  bool found = false;
  Comparison comparison = Comparison::eq;
  Combine combine = combine_none;
  for (const std::string_view modifier : modifiers_) {
    bool here;
    const Comparison c = find_comparison(modifier, &here);
    if (here) comparison = c, found = true;
    if (modifier == "and") combine = combine_and;
    if (modifier == "or") combine = combine_or;
    if (modifier == "xor") combine = combine_xor;
  }
  if (!found) fail("expected a comparison");
  Operation o = operation(is_set ? Op::set : Op::setp, t);
  o.comparison = comparison;
  in_.execute = find_lanes(o);
  const bool half = !in_.execute;
  if (half) {
    in_.execute = find_scalar(opcode_, t);
    if (!in_.execute) return false;
    if (combine != combine_none) fail("a boolean operation on 16-bit floats");
  }
  in_.a = source(argument(1), t);
  in_.b = source(argument(2), t);
  in_.flags = combine;
  if (combine != combine_none) in_.q = predicate(argument(3));
  const bool packed = t == Type::f16x2 || t == Type::bf16x2;
  if (half) {
    in_.mode = static_cast<uint8_t>(comparison);
    in_.flags = packed ? 64 : 0;
  }
  if (is_set) {
    in_.d = destination(argument(0));
    const Type result = type(0);
    if (half) {
      in_.e = result == Type::f16 || result == Type::f16x2     ? 0x3c00
              : result == Type::bf16 || result == Type::bf16x2 ? 0x3f80
                                                               : 0xffff;
      if (!packed && (result == Type::u32 || result == Type::s32)) in_.e = full_mask;
      if (!packed && result == Type::f32) in_.e = 0x3f800000;
    } else {
      in_.mode = result == Type::f32;
      if (bytes_of(result) != 4) return false;
    }
    return true;
  }
  const Argument& to = argument(0);
  in_.p = to.kind == Argument::Kind::sink ? Predicate{carry, false} : predicate(to);
  if (to.kind == Argument::Kind::sink) fail("expected a predicate");
  in_.e = result_predicate(to.second);
  return true;
}

bool Decoder::conversion() {
  Conversion c;
  c.to = type(0);
  // If both types are the same, as in cvt.rn.f32.f32, the modifier occurs twice.
  c.from = type(1);
  c.rounding = rounding();
  c.saturate = has("sat") || has("satfinite");
  c.ftz = has("ftz");
  c.relu = has("relu");
  const auto is_wide = [&](const Argument& a) {
    return a.kind == Argument::Kind::reg && bytes_of(register_type(a)) == 8;
  };
  // Registers may be wider than the type: of the source only the low part counts, and the result is extended.
  const bool narrows = is_wide(argument(1)) && bytes_of(c.from) < 8;
  const bool widens = is_wide(argument(0)) && bytes_of(c.to) < 8;
  if (narrows) {
    in_.a = source(argument(1), Type::u64);
    in_.d = scratch();
    in_.execute = find_lanes(conversion_of(Type::u32, Type::u64));
    emit();
    in_.a = scratch();
  } else {
    in_.a = source(argument(1), c.from);
  }
  if (arguments() > 2) in_.b = source(argument(2), c.from);
  in_.d = widens ? scratch() : destination(argument(0));
  Operation o = conversion_of(c.to, c.from);
  o.rounding = c.rounding;
  o.saturate = c.saturate || c.relu;
  o.ftz = c.ftz;
  in_.execute = arguments() > 2 ? nullptr : find_lanes(o);
  if (!in_.execute) {
    const WarpConversion function = find_conversion(c);
    if (!function) fail("unknown conversion");
    in_.execute = convert_lanes;
    in_.width = bytes_of(c.to) == 8 ? 8 : 4;
    in_.target = data(std::make_shared<std::pair<Conversion, WarpConversion>>(c, function));
  }
  if (widens) {
    emit();
    in_.a = scratch();
    in_.d = destination(argument(0));
    in_.execute =
        find_lanes(is_signed(c.to) ? conversion_of(Type::s64, Type::s32) : conversion_of(Type::u64, Type::u32));
  }
  return true;
}

bool Decoder::predicate_logic() {
  if (modifiers_.size() != 1 || modifiers_[0] != "pred") return false;
  in_.p = predicate(argument(0));
  in_.q = predicate(argument(1));
  if (opcode_ == "not") {
    in_.q.negated = !in_.q.negated;
    in_.execute = move_predicate;
    return true;
  }
  const Predicate second = predicate(argument(2));
  in_.e = second.index;
  in_.flags = second.negated;
  in_.execute = combine_predicates;
  if (opcode_ != "and" && opcode_ != "or" && opcode_ != "xor") return false;
  in_.mode = opcode_ == "and" ? combine_and : opcode_ == "or" ? combine_or : combine_xor;
  return true;
}

bool Decoder::carries() {
  const bool reads = opcode_ == "addc" || opcode_ == "subc" || opcode_ == "madc";
  if (!reads && !(has("cc") && (opcode_ == "add" || opcode_ == "sub" || opcode_ == "mad"))) return false;
  const Type t = type();
  const bool multiplies = opcode_ == "mad" || opcode_ == "madc";
  in_.execute = find_scalar("carry", t);
  in_.mode = static_cast<uint8_t>((reads ? 1 : 0) | (has("cc") ? 2 : 0) | (opcode_[0] == 's' ? 4 : 0) |
                                  (multiplies ? 8 : 0) | (has("hi") ? 16 : 0));
  if (is_signed(t)) in_.flags = 32;
  sources(multiplies ? 3 : 2, t);
  return true;
}

bool Decoder::rare() {
  std::string name(opcode_);
  for (const std::string_view part : {"approx", "full", "l", "r", "hi", "lo"})
    if (has(part) && (opcode_ == "shf" || opcode_ == "mul24" || opcode_ == "mad24" || part.size() > 2))
      name += "." + std::string(part);
  if (has("sat") && (opcode_ == "add" || opcode_ == "sub") && type() == Type::s32) name += ".sat";
  const Type t = type();
  in_.execute = find_scalar(name, t);
  if (!in_.execute) return false;
  in_.flags = static_cast<uint8_t>((has("ftz") ? 1 : 0) | (has("wrap") || has("shiftamt") || has("NaN") ? 2 : 0) |
                                   (has("xorsign") ? 4 : 0) | (has("sat") ? 8 : 0) | (has("relu") ? 16 : 0));
  if (opcode_ == "testp") {
    static const std::pair<std::string_view, FloatTest> tests[] = {
        {"finite", FloatTest::finite},         {"infinite", FloatTest::infinite}, {"number", FloatTest::number},
        {"notanumber", FloatTest::notanumber}, {"normal", FloatTest::normal},     {"subnormal", FloatTest::subnormal}};
    for (const auto& [text, test] : tests)
      if (has(text)) in_.mode = static_cast<uint8_t>(test);
    in_.p = predicate(argument(0));
    in_.a = source(argument(1), t);
    return true;
  }
  if (opcode_ == "prmt") {
    static const std::pair<std::string_view, Permute> kinds[] = {{"f4e", Permute::f4e}, {"b4e", Permute::b4e},
                                                                 {"rc8", Permute::rc8}, {"ecl", Permute::ecl},
                                                                 {"ecr", Permute::ecr}, {"rc16", Permute::rc16}};
    for (const auto& [text, kind] : kinds)
      if (has(text)) in_.mode = static_cast<uint8_t>(kind);
  }
  if (opcode_ == "dp4a" || opcode_ == "dp2a") {
    in_.mode = static_cast<uint8_t>((is_signed(type(0)) ? 1 : 0) | (is_signed(type(1)) ? 2 : 0) | (has("hi") ? 4 : 0));
  }
  in_.d = destination(argument(0));
  // The first operands have the instruction's type; positions and lengths have 32 bits.
  const auto operand = [&](size_t i) {
    const Argument& a = argument(i);
    const bool amount = (opcode_ == "bfe" && i > 1) || (opcode_ == "bfi" && i > 2) || opcode_ == "bmsk" ||
                        opcode_ == "fns" || (opcode_ == "szext" && i > 1);
    return source(a, amount ? Type::u32 : t);
  };
  in_.a = operand(1);
  if (arguments() > 2) in_.b = operand(2);
  if (arguments() > 3) in_.c = operand(3);
  if (arguments() > 4) in_.e = operand(4);
  return true;
}

}  // namespace heed::simulator
