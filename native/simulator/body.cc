// Converts function bodies to statements. Calls of .func are inlined. `.param` variables of a body are part of the
// thread's local memory, so a callee's parameters are just names for the caller's variables.
#include <algorithm>

#include "simulator/program.h"

namespace heed::simulator {

namespace {

const std::unordered_map<std::string_view, Special>& specials() {
  static const std::unordered_map<std::string_view, Special> map = {{"%tid.x", Special::tid_x},
                                                                    {"%tid.y", Special::tid_y},
                                                                    {"%tid.z", Special::tid_z},
                                                                    {"%ntid.x", Special::ntid_x},
                                                                    {"%ntid.y", Special::ntid_y},
                                                                    {"%ntid.z", Special::ntid_z},
                                                                    {"%ctaid.x", Special::ctaid_x},
                                                                    {"%ctaid.y", Special::ctaid_y},
                                                                    {"%ctaid.z", Special::ctaid_z},
                                                                    {"%nctaid.x", Special::nctaid_x},
                                                                    {"%nctaid.y", Special::nctaid_y},
                                                                    {"%nctaid.z", Special::nctaid_z},
                                                                    {"%laneid", Special::laneid},
                                                                    {"%warpid", Special::warpid},
                                                                    {"%nwarpid", Special::nwarpid},
                                                                    {"%smid", Special::smid},
                                                                    {"%nsmid", Special::nsmid},
                                                                    {"%gridid", Special::gridid},
                                                                    {"%lanemask_eq", Special::lanemask_eq},
                                                                    {"%lanemask_le", Special::lanemask_le},
                                                                    {"%lanemask_lt", Special::lanemask_lt},
                                                                    {"%lanemask_ge", Special::lanemask_ge},
                                                                    {"%lanemask_gt", Special::lanemask_gt},
                                                                    {"%clock", Special::clock},
                                                                    {"%clock_hi", Special::clock_hi},
                                                                    {"%clock64", Special::clock64},
                                                                    {"%globaltimer", Special::globaltimer},
                                                                    {"%globaltimer_lo", Special::globaltimer_lo},
                                                                    {"%globaltimer_hi", Special::globaltimer_hi},
                                                                    {"%dynamic_smem_size", Special::dynamic_smem_size},
                                                                    {"%total_smem_size", Special::total_smem_size}};
  return map;
}

constexpr int max_call_depth = 64;

struct Symbol {
  Space space;
  uint32_t offset;
};

struct Scope {
  std::unordered_map<std::string_view, int32_t> registers;
  struct Range {
    std::string_view prefix;
    uint32_t count;
    int32_t first;
  };
  std::vector<Range> ranges;
  std::unordered_map<std::string_view, Symbol> symbols;
  std::unordered_map<std::string_view, int32_t> labels;
  std::vector<std::pair<size_t, uint32_t>> pending;  // arguments that name a label, each with its line
  bool function = false;                             // true if outside registers are not visible
};

class BodyParser {
 public:
  BodyParser(const Kernel& kernel, const Module& module) : kernel_(kernel), module_(module) {}

  Body parse() {
    Lexer lexer(kernel_.body, kernel_.line);
    body_.locations.emplace_back();
    open(true);
    for (const Parameter& parameter : kernel_.parameters)
      scopes_.back().symbols[parameter.name] = {Space::parameter, parameter.offset};
    statements(lexer, false);
    close();
    body_.dynamic_shared = (body_.shared_bytes + dynamic_align_ - 1) / dynamic_align_ * dynamic_align_;
    for (Argument& a : body_.arguments)
      if (a.dynamic) a.bits += body_.dynamic_shared;
    return std::move(body_);
  }

 private:
  // ---- scopes

  void open(bool function) {
    scopes_.emplace_back();
    scopes_.back().function = function;
  }

  void close() {
    Scope& scope = scopes_.back();
    Scope* outer = scopes_.size() > 1 && !scope.function ? &scopes_[scopes_.size() - 2] : nullptr;
    for (const auto& [argument, line] : scope.pending) {
      const auto it = scope.labels.find(body_.arguments[argument].name);
      if (it != scope.labels.end()) {
        body_.arguments[argument].reg = it->second;
      } else if (outer) {
        outer->pending.emplace_back(argument, line);
      } else {
        throw PtxError(line, "unknown name " + std::string(body_.arguments[argument].name));
      }
    }
    scopes_.pop_back();
  }

  int32_t find_register(std::string_view name) const {
    for (size_t i = scopes_.size(); i-- > 0;) {
      const Scope& scope = scopes_[i];
      const auto it = scope.registers.find(name);
      if (it != scope.registers.end()) return it->second;
      for (const Scope::Range& range : scope.ranges) {
        if (name.size() <= range.prefix.size() || name.substr(0, range.prefix.size()) != range.prefix) continue;
        uint32_t number = 0;
        bool digits = name.size() - range.prefix.size() < 9;
        for (const char c : name.substr(range.prefix.size())) {
          if (c < '0' || c > '9') digits = false;
          number = number * 10 + static_cast<uint32_t>(c - '0');
        }
        if (digits && number < range.count) return range.first + static_cast<int32_t>(number);
      }
      if (scope.function) break;
    }
    return -1;
  }

  const Symbol* find_symbol(std::string_view name) const {
    for (size_t i = scopes_.size(); i-- > 0;) {
      const auto it = scopes_[i].symbols.find(name);
      if (it != scopes_[i].symbols.end()) return &it->second;
      if (scopes_[i].function) break;
    }
    return nullptr;
  }

  int32_t new_register(Type type) {
    body_.registers.push_back(type);
    return static_cast<int32_t>(body_.registers.size()) - 1;
  }

  // ---- declarations

  void declare_registers(Lexer& lexer, std::string_view type_name) {
    const Type type = parse_type(type_name);
    if (type == Type::none || type == Type::b128) lexer.fail("unknown register type " + std::string(type_name));
    do {
      const std::string_view name = lexer.expect_word("a register name");
      if (lexer.accept('<')) {
        const uint32_t count = static_cast<uint32_t>(parse_integer(lexer));
        lexer.expect('>');
        scopes_.back().ranges.push_back({name, count, static_cast<int32_t>(body_.registers.size())});
        body_.registers.resize(body_.registers.size() + count, type);
      } else {
        scopes_.back().registers[name] = new_register(type);
      }
    } while (lexer.accept(','));
    lexer.expect(';');
  }

  void declare_variable(Lexer& lexer, Space space) {
    const Declaration d = parse_declaration(lexer);
    lexer.expect(';');
    uint32_t& bytes = space == Space::shared ? body_.shared_bytes : body_.local_bytes;
    // Variables of threads are aligned to at least 16 bytes, because vectors may be stored in any of them.
    const uint32_t align = space == Space::shared ? d.align : std::max<uint32_t>(d.align, 16);
    bytes = (bytes + align - 1) / align * align;
    scopes_.back().symbols[d.name] = {space, bytes};
    bytes += static_cast<uint32_t>(d.bytes);
  }

  // A .shared variable of the module gets a place in the kernels that name it.
  Symbol module_shared(const Variable& variable) {
    const auto it = module_shared_.find(variable.name);
    if (it != module_shared_.end()) return it->second;
    if (variable.external_shared) {
      dynamic_align_ = std::max<uint32_t>(dynamic_align_, static_cast<uint32_t>(variable.align));
      return {Space::shared, 0};
    }
    const uint32_t align = static_cast<uint32_t>(variable.align);
    body_.shared_bytes = (body_.shared_bytes + align - 1) / align * align;
    const Symbol symbol{Space::shared, body_.shared_bytes};
    body_.shared_bytes += static_cast<uint32_t>(variable.bytes);
    return module_shared_[variable.name] = symbol;
  }

  // ---- statements

  void statements(Lexer& lexer, bool braced) {
    while (true) {
      const Token token = lexer.peek();
      if (token.kind == Token::end) {
        if (braced) lexer.fail("expected '}'");
        return;
      }
      if (braced && lexer.accept('}')) return;
      if (lexer.accept('{')) {
        open(false);
        statements(lexer, true);
        close();
      } else if (lexer.accept(';')) {
        continue;
      } else {
        statement(lexer);
      }
    }
  }

  void statement(Lexer& lexer) {
    Token token = lexer.next();
    if (token.kind == Token::word && token.text[0] == '.') return directive(lexer, token);
    int32_t guard = -1;
    bool negated = false;
    if (token.is('@')) {
      negated = lexer.accept('!');
      const std::string_view name = lexer.expect_word("a predicate");
      guard = find_register(name);
      if (guard < 0) throw PtxError(token.line, "unknown predicate " + std::string(name));
      token = lexer.next();
    }
    if (token.kind != Token::word)
      throw PtxError(token.line, "expected an instruction, found '" + std::string(token.text) + "'");
    if (guard < 0 && lexer.peek().is(':')) {
      lexer.next();
      return label(lexer, token);
    }
    if (token.text == "call" || token.text.substr(0, 5) == "call.") return call(lexer, token, guard, negated);
    if (depth_ > 0 && (token.text == "ret" || token.text == "ret.uni")) {
      lexer.expect(';');
      Statement& jump = append("bra", token.line, guard, negated);
      jump.count = 1;
      Argument target;
      target.kind = Argument::Kind::label;
      target.name = "$return";
      for (size_t i = scopes_.size(); i-- > 0;) {
        if (!scopes_[i].function) continue;
        scopes_[i].pending.emplace_back(body_.arguments.size(), token.line);
        break;
      }
      body_.arguments.push_back(target);
      return;
    }
    std::vector<Argument> arguments;
    if (!lexer.peek().is(';')) {
      do arguments.push_back(argument(lexer));
      while (lexer.accept(','));
    }
    lexer.expect(';');
    Statement& s = append(token.text, token.line, guard, negated);
    s.count = static_cast<uint32_t>(arguments.size());
    for (Argument& a : arguments) {
      if (a.kind == Argument::Kind::label) scopes_.back().pending.emplace_back(body_.arguments.size(), token.line);
      body_.arguments.push_back(a);
    }
  }

  Statement& append(std::string_view opcode, uint32_t line, int32_t guard, bool negated) {
    Statement s;
    s.opcode = opcode;
    s.guard = guard;
    s.guard_negated = negated;
    s.first = static_cast<uint32_t>(body_.arguments.size());
    s.line = line;
    s.location = static_cast<uint32_t>(body_.locations.size()) - 1;
    body_.statements.push_back(s);
    return body_.statements.back();
  }

  void label(Lexer& lexer, const Token& token) {
    if (lexer.accept(".branchtargets")) {
      // A statement of its own, which brx.idx finds under this name.
      scopes_.back().labels[token.text] = static_cast<int32_t>(body_.statements.size());
      Statement& s = append(".branchtargets", token.line, -1, false);
      do {
        Argument target;
        target.kind = Argument::Kind::label;
        target.name = lexer.expect_word("a label");
        scopes_.back().pending.emplace_back(body_.arguments.size(), token.line);
        body_.arguments.push_back(target);
        s.count++;
      } while (lexer.accept(','));
      lexer.expect(';');
      return;
    }
    if (lexer.accept(".callprototype")) {
      while (!lexer.accept(';')) lexer.next();
      return;
    }
    scopes_.back().labels[token.text] = static_cast<int32_t>(body_.statements.size());
  }

  void directive(Lexer& lexer, const Token& token) {
    if (token.text == ".loc") {
      Location location;
      Lexer line(lexer.rest_of_line(), token.line);
      location.file = static_cast<uint32_t>(parse_integer(line));
      location.line = static_cast<uint32_t>(parse_integer(line));
      if (location.line != 0) body_.locations.push_back(location);
    } else if (token.text == ".reg") {
      declare_registers(lexer, lexer.expect_word("a type"));
    } else if (token.text.substr(0, 5) == ".reg.") {  // without a space, as in some inline assembly
      declare_registers(lexer, token.text.substr(4));
    } else if (token.text == ".local" || token.text == ".param") {
      declare_variable(lexer, Space::local);
    } else if (token.text == ".shared") {
      declare_variable(lexer, Space::shared);
    } else if (token.text == ".pragma") {
      while (!lexer.accept(';')) lexer.next();
    } else if (token.text == ".file" || token.text == ".section") {
      lexer.rest_of_line();
    } else {
      throw PtxError(token.line, "unknown directive " + std::string(token.text));
    }
  }

  // ---- arguments

  Argument argument(Lexer& lexer) {
    Argument a;
    if (lexer.accept('!')) {
      a = argument(lexer);
      a.negated = !a.negated;
      return a;
    }
    if (lexer.accept('{')) {
      std::vector<Argument> elements;
      if (!lexer.accept('}')) {
        do elements.push_back(argument(lexer));
        while (lexer.accept(','));
        lexer.expect('}');
      }
      a.kind = Argument::Kind::vector;
      a.second = static_cast<int32_t>(elements.size());
      // Elements are stored before the statement's own arguments.
      a.reg = static_cast<int32_t>(body_.arguments.size());
      body_.arguments.insert(body_.arguments.end(), elements.begin(), elements.end());
      return a;
    }
    if (lexer.accept('[')) return address(lexer);
    const bool negative = lexer.accept('-');
    if (lexer.peek().kind == Token::number) {
      const Token token = lexer.next();
      const Number number = parse_number(token.text, token.line);
      a.kind = Argument::Kind::immediate;
      a.number = number.kind;
      a.bits = number.bits;
      if (negative)
        a.bits = number.kind == Number::integer ? ~a.bits + 1
                                                : a.bits ^ uint64_t { 1 } << (number.kind == Number::f32 ? 31 : 63);
      return a;
    }
    const uint32_t line = lexer.peek().line;
    const std::string_view name = lexer.expect_word("an operand");
    if (name == "_") return a;
    a.name = name;
    a.reg = find_register(name);
    if (a.reg >= 0) {
      a.kind = Argument::Kind::reg;
      if (lexer.accept('|')) {
        const std::string_view second = lexer.expect_word("a register");
        if (second != "_" && (a.second = find_register(second)) < 0)
          throw PtxError(line, "unknown register " + std::string(second));
      }
      return a;
    }
    if (lexer.accept('|')) throw PtxError(line, "unknown register " + std::string(name));
    const auto special = specials().find(name);
    if (special != specials().end()) {
      a.kind = Argument::Kind::special;
      a.reg = static_cast<int32_t>(special->second);
      return a;
    }
    if (name == "WARP_SZ") {
      a.kind = Argument::Kind::immediate;
      a.bits = warp_size;
      return a;
    }
    if (name[0] == '%') throw PtxError(line, "unknown register " + std::string(name));
    if (resolve(name, a)) {
      a.kind = Argument::Kind::name;
      if (lexer.accept('+')) a.bits += static_cast<uint64_t>(parse_integer(lexer));
      return a;
    }
    a.kind = Argument::Kind::label;
    return a;
  }

  // Finds the place of a variable: its space and offset, or the module's variable.
  bool resolve(std::string_view name, Argument& a) {
    if (const Symbol* symbol = find_symbol(name)) {
      a.space = symbol->space;
      a.bits += symbol->offset;
      return true;
    }
    const Variable* variable = module_.variable(std::string(name));
    if (!variable) return false;
    if (variable->shared) {
      const Symbol symbol = module_shared(*variable);
      a.space = Space::shared;
      a.bits += symbol.offset;
      a.dynamic = variable->external_shared;
    } else {
      a.space = variable->constant ? Space::constant : Space::global;
      a.variable = variable;
    }
    return true;
  }

  Argument address(Lexer& lexer) {
    Argument a;
    a.kind = Argument::Kind::address;
    const uint32_t line = lexer.peek().line;
    if (lexer.peek().kind == Token::word) {
      const std::string_view name = lexer.next().text;
      a.name = name;
      a.reg = find_register(name);
      if (a.reg >= 0) {
        a.has_base = true;
      } else if (!resolve(name, a)) {
        throw PtxError(line, "unknown variable " + std::string(name));
      }
    } else {
      a.bits = static_cast<uint64_t>(parse_integer(lexer));
    }
    while (lexer.accept('+')) a.bits += static_cast<uint64_t>(parse_integer(lexer));
    if (lexer.peek().is('-')) a.bits += static_cast<uint64_t>(parse_integer(lexer));
    lexer.expect(']');
    return a;
  }

  // ---- calls

  std::vector<std::string_view> names(Lexer& lexer) {
    std::vector<std::string_view> result;
    lexer.expect('(');
    while (!lexer.accept(')')) {
      result.push_back(lexer.expect_word("a parameter"));
      lexer.accept(',');
    }
    return result;
  }

  void call(Lexer& lexer, const Token& token, int32_t guard, bool negated) {
    std::vector<std::string_view> results, parameters;
    if (lexer.peek().is('(')) {
      results = names(lexer);
      lexer.expect(',');
    }
    const std::string name(lexer.expect_word("a function"));
    if (lexer.accept(',')) {
      if (lexer.peek().is('(')) parameters = names(lexer);
      if (lexer.accept(',')) lexer.expect_word("a prototype");
    }
    lexer.expect(';');
    const Function* function = module_.function(name);
    if (!function) throw PtxError(token.line, "call of unknown function " + name);
    if (function->body.empty()) return external(*function, token, guard, negated, results, parameters);
    if (++depth_ > max_call_depth) throw PtxError(token.line, "recursion (" + name + ") cannot be executed");
    if (results.size() != function->results.size() || parameters.size() != function->parameters.size())
      throw PtxError(token.line, "call of " + name + " with a wrong number of parameters");

    std::unordered_map<std::string_view, Symbol> symbols;
    const auto bind = [&](const std::vector<Parameter>& formal, const std::vector<std::string_view>& actual) {
      for (size_t i = 0; i < formal.size(); i++) {
        const Symbol* symbol = find_symbol(actual[i]);
        if (!symbol) throw PtxError(token.line, "call of " + name + ": unknown parameter " + std::string(actual[i]));
        symbols[formal[i].name] = *symbol;
      }
    };
    bind(function->parameters, parameters);
    bind(function->results, results);
    size_t skip = 0;
    if (guard >= 0) {
      append("bra", token.line, guard, !negated);
      skip = body_.statements.size();
    }
    open(true);
    scopes_.back().symbols = std::move(symbols);
    Lexer inner(function->body, function->line);
    statements(inner, false);
    scopes_.back().labels["$return"] = static_cast<int32_t>(body_.statements.size());
    close();
    if (skip) {
      Argument target;
      target.kind = Argument::Kind::label;
      target.reg = static_cast<int32_t>(body_.statements.size());
      body_.statements[skip - 1].first = static_cast<uint32_t>(body_.arguments.size());
      body_.statements[skip - 1].count = 1;
      body_.arguments.push_back(target);
    }
    depth_--;
  }

  // vprintf and similar functions become an instruction that is named after the function and whose arguments are the
  // addresses of the parameters.
  void external(const Function& function, const Token& token, int32_t guard, bool negated,
                const std::vector<std::string_view>& results, const std::vector<std::string_view>& parameters) {
    Statement& s = append(function.name, token.line, guard, negated);
    for (const auto* list : {&results, &parameters}) {
      for (const std::string_view name : *list) {
        const Symbol* symbol = find_symbol(name);
        if (!symbol) throw PtxError(token.line, "call of " + function.name + ": unknown parameter");
        Argument a;
        a.kind = Argument::Kind::address;
        a.space = symbol->space;
        a.bits = symbol->offset;
        body_.arguments.push_back(a);
        s.count++;
      }
    }
  }

  const Kernel& kernel_;
  const Module& module_;
  Body body_;
  std::vector<Scope> scopes_;
  std::unordered_map<std::string, Symbol> module_shared_;
  uint32_t dynamic_align_ = 16;
  int depth_ = 0;
};

}  // namespace

Body parse_body(const Kernel& kernel, const Module& module) { return BodyParser(kernel, module).parse(); }

}  // namespace heed::simulator
