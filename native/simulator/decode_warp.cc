// Decodes barriers, exchanges between lanes, and matrix instructions.
#include "simulator/access.h"
#include "simulator/decode.h"
#include "simulator/state.h"

namespace heed::simulator {

namespace {

// Parses a shape such as "m16n8k16".
Shape parse_shape(std::string_view text) {
  Shape shape;
  uint8_t* part = nullptr;
  for (const char c : text) {
    if (c == 'm' && text[0] == 'm') {
      part = &shape.m;
    } else if (c == 'n' && part) {
      part = &shape.n;
    } else if (c == 'k' && part) {
      part = &shape.k;
    } else if (c >= '0' && c <= '9' && part) {
      *part = static_cast<uint8_t>(*part * 10 + (c - '0'));
    } else {
      return Shape();
    }
  }
  return shape;
}

}  // namespace

bool Decoder::warp() {
  if (opcode_ == "bar" || opcode_ == "barrier") {
    barrier();
  } else if (opcode_ == "shfl" || opcode_ == "vote" || opcode_ == "match" || opcode_ == "redux" ||
             opcode_ == "activemask") {
    exchange();
  } else if (opcode_ == "mma") {
    matrix_multiply();
  } else if (opcode_ == "ldmatrix" || opcode_ == "movmatrix") {
    matrix_load();
  } else if (opcode_ == "wmma") {
    wmma();
  } else {
    return false;
  }
  return true;
}

// Fields: mode bit 0: arrive only; bit 1: not aligned; bits 2..3: red (1 popc, 2 and, 3 or). a: the barrier, b: the
// count.
void Decoder::barrier() {
  if (has("warp")) {
    in_.control = Control::warp_barrier;
    in_.e = source(argument(0), Type::u32);
    return;
  }
  if (has("cluster")) fail("this architecture has no clusters");
  in_.control = Control::barrier;
  in_.execute = nothing;
  if (has("arrive")) in_.mode |= 1;
  if (opcode_ == "barrier" && !has("aligned")) in_.mode |= 2;
  size_t next = 0;
  if (has("red")) {
    in_.mode |= static_cast<uint8_t>((has("popc") ? 1 : has("and") ? 2 : 3) << 2);
    if (has("popc")) {
      in_.d = destination(argument(0));
    } else {
      in_.p = predicate(argument(0));
    }
    in_.q = predicate(argument(arguments() - 1));
    next = 1;
  }
  in_.a = source(argument(next), Type::u32);
  if (arguments() > next + 1 + (has("red") ? 1 : 0)) in_.b = source(argument(next + 1), Type::u32);
}

void Decoder::exchange() {
  in_.control = Control::collective;
  if (opcode_ == "activemask") {
    in_.control = Control::next;
    in_.execute = active_mask;
    in_.d = destination(argument(0));
    return;
  }
  if (!has("sync")) fail("only the .sync forms exist for this architecture");
  in_.e = source(argument(arguments() - 1), Type::u32);
  if (opcode_ == "shfl") {
    in_.execute = shuffle_lanes;
    in_.mode = static_cast<uint8_t>(has("up")     ? Shuffle::up
                                    : has("down") ? Shuffle::down
                                    : has("bfly") ? Shuffle::bfly
                                                  : Shuffle::idx);
    sources(3, Type::b32);
    in_.p.index = static_cast<uint16_t>(result_predicate(argument(0).second));
  } else if (opcode_ == "vote") {
    in_.q = predicate(argument(1));
    if (has("ballot")) {
      in_.execute = ballot;
      in_.d = destination(argument(0));
    } else {
      in_.execute = vote_lanes;
      in_.mode = static_cast<uint8_t>(has("all") ? Vote::all : has("any") ? Vote::any : Vote::uni);
      in_.p = predicate(argument(0));
    }
  } else if (opcode_ == "match") {
    const Type t = type();
    in_.execute = match_lanes;
    in_.mode = has("all");
    in_.width = static_cast<uint8_t>(bytes_of(t));
    in_.d = destination(argument(0));
    in_.a = source(argument(1), t);
    in_.p.index = static_cast<uint16_t>(result_predicate(argument(0).second));
  } else {
    const bool s = type() == Type::s32;
    in_.execute = reduce_lanes;
    in_.mode = static_cast<uint8_t>(has("add")   ? Reduce::add
                                    : has("min") ? (s ? Reduce::min_s : Reduce::min)
                                    : has("max") ? (s ? Reduce::max_s : Reduce::max)
                                    : has("and") ? Reduce::and_
                                    : has("or")  ? Reduce::or_
                                                 : Reduce::xor_);
    in_.d = destination(argument(0));
    in_.a = source(argument(1), Type::b32);
  }
}

void Decoder::matrix_multiply() {
  in_.control = Control::aligned;
  Mma mma;
  for (const std::string_view modifier : modifiers_)
    if (modifier[0] == 'm' && modifier.size() > 4) mma.shape = parse_shape(modifier);
  std::vector<uint32_t> registers;
  const auto append = [&](size_t i, Type t, bool results) {
    const std::vector<uint32_t> more = slots(argument(i), t, results);
    registers.insert(registers.end(), more.begin(), more.end());
    return static_cast<int>(more.size());
  };
  if (type(0) == Type::f64) {
    append(1, Type::f64, false);
    append(2, Type::f64, false);
    append(3, Type::f64, false);
    append(0, Type::f64, true);
    if (registers.size() != 6) fail("expected fragments of m8n8k4");
    in_.execute = multiply_f64;
    in_.e = list(std::move(registers));
    return;
  }
  mma.c = type(0);
  mma.a = type(1);
  mma.b = type(2);
  mma.saturate = has("satfinite");
  MatrixCall call{find_mma(mma), 0, 0, 0};
  if (!call.multiply || !has("row") || !has("col")) fail("unknown matrix instruction");
  call.a = append(1, Type::b32, false);
  call.b = append(2, Type::b32, false);
  call.c = append(3, Type::b32, false);
  const int d = append(0, Type::b32, true);
  if (call.a != mma.registers_a || call.b != mma.registers_b || call.c != mma.registers_c || d != call.c)
    fail("fragments with a wrong number of registers");
  in_.execute = multiply_matrices;
  in_.e = list(std::move(registers));
  in_.target = data(std::make_shared<MatrixCall>(call));
}

void Decoder::matrix_load() {
  in_.control = Control::aligned;
  if (opcode_ == "movmatrix") {
    in_.execute = move_matrix_rows;
    in_.d = destination(argument(0));
    in_.a = source(argument(1), Type::b32);
    return;
  }
  const size_t count = has("x4") ? 4 : has("x2") ? 2 : 1;
  if (!has("m8n8") || !has("b16")) fail("unknown matrix instruction");
  in_.execute = load_matrices;
  in_.mode = has("trans");
  std::vector<uint32_t> registers = slots(argument(0), Type::b32, true);
  if (registers.size() != count) fail("expected " + std::to_string(count) + " registers");
  in_.e = list(std::move(registers));
  address(argument(1), space());
}

void Decoder::wmma() {
  in_.control = Control::aligned;
  Shape shape;
  for (const std::string_view modifier : modifiers_)
    if (modifier[0] == 'm' && modifier.size() > 4) shape = parse_shape(modifier);
  const auto rows_first = [&] { return has("row"); };
  if (modifiers_.empty()) fail("unknown matrix instruction");
  if (modifiers_[0] == "load" || modifiers_[0] == "store") {
    const bool loads = modifiers_[0] == "load";
    const heed::simulator::Operand operand = modifiers_[1] == "a"   ? heed::simulator::Operand::a
                                             : modifiers_[1] == "b" ? heed::simulator::Operand::b
                                                                    : heed::simulator::Operand::c;
    const Type t = type(0);
    auto call = std::make_shared<FragmentCall>();
    call->fragment = find_wmma_fragment(operand, shape, t);
    call->by_rows = rows_first();
    if (!call->fragment) fail("unknown matrix instruction");
    std::vector<uint32_t> registers = slots(argument(loads ? 0 : 1), Type::b32, loads);
    if (static_cast<int>(registers.size()) != call->fragment->registers)
      fail("expected " + std::to_string(call->fragment->registers) + " registers");
    address(argument(loads ? 1 : 0), space());
    if (arguments() > 2) {
      in_.b = source(argument(2), Type::u32);
    } else {
      const bool a = modifiers_[1] == "a", b = modifiers_[1] == "b";
      const uint32_t row_length = a ? shape.k : shape.n, column_length = b ? shape.k : shape.m;
      in_.b = constant(call->by_rows ? row_length : column_length, false);
    }
    in_.e = list(std::move(registers));
    program_->access_shift = std::min(program_->access_shift, call->fragment->element_bytes == 4   ? 2u
                                                              : call->fragment->element_bytes == 2 ? 1u
                                                                                                   : 0u);
    in_.target = data(call);
    in_.execute = loads ? load_fragment : store_fragment;
    return;
  }
  // wmma.mma.sync.aligned.alayout.blayout.shape.dtype.ctype (f16); other types have .atype.btype in between.
  Wmma wmma;
  wmma.shape = shape;
  size_t types = 0;
  for (const std::string_view modifier : modifiers_) types += parse_type(modifier) != Type::none;
  wmma.d = type(0);
  wmma.c = type(types - 1);
  wmma.a = types == 4 ? type(1) : Type::f16;
  wmma.saturate = has("satfinite");
  MatrixCall call{find_wmma(wmma), 0, 0, 0};
  if (!call.multiply) fail("unknown matrix instruction");
  std::vector<uint32_t> registers;
  const auto append = [&](size_t i, bool results) {
    const std::vector<uint32_t> more = slots(argument(i), Type::b32, results);
    registers.insert(registers.end(), more.begin(), more.end());
    return static_cast<int>(more.size());
  };
  call.a = append(1, false);
  call.b = append(2, false);
  call.c = append(3, false);
  append(0, true);
  in_.execute = multiply_matrices;
  in_.e = list(std::move(registers));
  in_.target = data(std::make_shared<MatrixCall>(call));
}

}  // namespace heed::simulator
