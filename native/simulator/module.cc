// Module scope: .entry, .func, variables, .file. Bodies are only skipped here.
#include <algorithm>
#include <cstring>

#include "simulator/lexer.h"
#include "simulator/memory.h"
#include "simulator/program.h"
#include "simulator/ptx.h"

namespace heed::simulator {

Module::~Module() { unload(); }

Kernel* Module::find(const std::string& name) const {
  const auto it = kernel_names_.find(name);
  return it == kernel_names_.end() ? nullptr : it->second;
}

const Variable* Module::variable(const std::string& name) const {
  const auto it = variables_.find(name);
  return it == variables_.end() ? nullptr : &it->second;
}

const Function* Module::function(const std::string& name) const {
  const auto it = functions_.find(name);
  return it == functions_.end() ? nullptr : &it->second;
}

bool Module::load(Memory& memory) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (memory_) return true;
  memory_ = &memory;
  for (auto& [name, variable] : variables_) {
    if (variable.shared) continue;
    variable.address = static_cast<uint8_t*>(memory.allocate(std::max<size_t>(variable.bytes, 1)));
    if (!variable.address) {
      memory_ = nullptr;
      return false;
    }
  }
  for (auto& [name, variable] : variables_) {
    if (variable.shared) continue;
    std::vector<uint8_t> contents = variable.initial;
    contents.resize(variable.bytes);
    for (const Variable::Reference& reference : variable.references) {
      const auto it = variables_.find(reference.symbol);
      if (it == variables_.end() || reference.offset + 8 > contents.size()) continue;
      const uint64_t address = reinterpret_cast<uint64_t>(it->second.address) + static_cast<uint64_t>(reference.addend);
      std::memcpy(contents.data() + reference.offset, &address, 8);
    }
    memory.copy_in(variable.address, contents.data(), contents.size());
  }
  return true;
}

void Module::unload() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!memory_) return;
  for (auto& [name, variable] : variables_) {
    if (variable.address) memory_->free(variable.address);
    variable.address = nullptr;
  }
  memory_ = nullptr;
}

Type parse_type(std::string_view text) {
  if (!text.empty() && text[0] == '.') text.remove_prefix(1);
  static const std::unordered_map<std::string_view, Type> types = {
      {"pred", Type::pred},   {"b8", Type::b8},     {"b16", Type::b16},       {"b32", Type::b32},   {"b64", Type::b64},
      {"b128", Type::b128},   {"u8", Type::u8},     {"u16", Type::u16},       {"u32", Type::u32},   {"u64", Type::u64},
      {"s8", Type::s8},       {"s16", Type::s16},   {"s32", Type::s32},       {"s64", Type::s64},   {"f16", Type::f16},
      {"f16x2", Type::f16x2}, {"bf16", Type::bf16}, {"bf16x2", Type::bf16x2}, {"tf32", Type::tf32}, {"f32", Type::f32},
      {"f64", Type::f64},
  };
  const auto it = types.find(text);
  return it == types.end() ? Type::none : it->second;
}

int64_t parse_integer(Lexer& lexer) {
  const bool negative = lexer.accept('-');
  if (lexer.peek().kind != Token::number) lexer.fail("expected a number");
  const Token token = lexer.next();
  const int64_t value = static_cast<int64_t>(parse_number(token.text, token.line).bits);
  return negative ? -value : value;
}

Declaration parse_declaration(Lexer& lexer) {
  Declaration declaration;
  size_t element = 0;
  int vector = 1;
  while (true) {
    if (lexer.accept(".align")) {
      declaration.align = static_cast<uint32_t>(parse_integer(lexer));
    } else if (lexer.accept(".ptr") || lexer.accept(".global") || lexer.accept(".shared") || lexer.accept(".const") ||
               lexer.accept(".local")) {
      continue;  // hints of pointer parameters
    } else if (lexer.accept(".attribute")) {
      lexer.expect('(');
      while (!lexer.accept(')')) lexer.next();
    } else if (lexer.accept(".v2")) {
      vector = 2;
    } else if (lexer.accept(".v4")) {
      vector = 4;
    } else {
      break;
    }
  }
  const std::string_view type = lexer.expect_word("a type");
  declaration.type = parse_type(type);
  if (declaration.type == Type::none) lexer.fail("unknown type " + std::string(type));
  element = static_cast<size_t>(bytes_of(declaration.type)) * static_cast<size_t>(vector);
  // A parameter's .ptr .align follows its type and describes the memory that it points to.
  while (lexer.accept(".ptr") || lexer.accept(".global") || lexer.accept(".shared") || lexer.accept(".const") ||
         lexer.accept(".local")) {
  }
  if (lexer.accept(".align")) parse_integer(lexer);
  declaration.element = static_cast<uint32_t>(bytes_of(declaration.type));
  declaration.name = lexer.expect_word("a name");
  declaration.bytes = element;
  while (lexer.accept('[')) {
    if (lexer.accept(']')) {
      declaration.unsized = true;
      continue;
    }
    declaration.bytes *= static_cast<size_t>(parse_integer(lexer));
    lexer.expect(']');
  }
  if (declaration.align == 0) declaration.align = static_cast<uint32_t>(element);
  return declaration;
}

static std::vector<Parameter> parse_parameters(Lexer& lexer, uint32_t* bytes) {
  std::vector<Parameter> parameters;
  uint32_t offset = 0;
  if (lexer.accept('(')) {
    while (!lexer.accept(')')) {
      if (!lexer.accept(".param") && !lexer.accept(".reg")) lexer.fail("expected .param");
      const Declaration d = parse_declaration(lexer);
      offset = (offset + d.align - 1) / d.align * d.align;
      parameters.push_back({std::string(d.name), offset, static_cast<uint32_t>(d.bytes), d.align});
      offset += static_cast<uint32_t>(d.bytes);
      lexer.accept(',');
    }
  }
  *bytes = offset;
  return parameters;
}

class ModuleParser {
 public:
  ModuleParser(Module& module) : module_(module), lexer_(module.text_, 1) {}

  void parse() {
    while (lexer_.peek().kind != Token::end) {
      const Token token = lexer_.next();
      if (token.is(".version") || token.is(".target") || token.is(".address_size")) {
        lexer_.rest_of_line();
      } else if (token.is(".file")) {
        file();
      } else if (token.is(".section")) {
        lexer_.expect_word("a section");
        lexer_.expect('{');
        lexer_.braces(nullptr);
      } else if (token.is(".visible") || token.is(".weak") || token.is(".common")) {
        continue;
      } else if (token.is(".extern")) {
        external_ = true;
        continue;
      } else if (token.is(".entry")) {
        entry();
      } else if (token.is(".func")) {
        function();
      } else if (token.is(".global") || token.is(".const") || token.is(".shared")) {
        variable(token.text);
      } else if (token.is(".alias") || token.is(".pragma")) {
        while (!lexer_.accept(';')) lexer_.next();
      } else if (token.is(".loc")) {
        lexer_.rest_of_line();
      } else {
        throw PtxError(token.line, "unexpected '" + std::string(token.text) + "' outside of functions");
      }
      external_ = false;
    }
  }

 private:
  void file() {
    const size_t index = static_cast<size_t>(parse_integer(lexer_));
    if (lexer_.peek().kind != Token::string) lexer_.fail("expected a file name");
    if (index > 100000) lexer_.fail("the number of .file is too large");
    if (module_.files_.size() <= index) module_.files_.resize(index + 1);
    module_.files_[index] = lexer_.next().text;
    while (lexer_.accept(',')) parse_integer(lexer_);
  }

  void entry() {
    auto kernel = std::make_unique<Kernel>();
    kernel->name = lexer_.expect_word("a name");
    kernel->module = &module_;
    kernel->parameters = parse_parameters(lexer_, &kernel->parameter_bytes);
    while (!lexer_.accept('{')) {
      if (lexer_.accept(';')) return;  // a declaration
      if (lexer_.peek().kind == Token::end) lexer_.fail("expected a body");
      if (lexer_.accept(".maxntid") || lexer_.accept(".reqntid")) {
        kernel->max_threads = 1;
        do kernel->max_threads *= static_cast<uint32_t>(parse_integer(lexer_));
        while (lexer_.accept(','));
      } else {
        lexer_.next();  // .minnctapersm and other hints
      }
    }
    kernel->body = lexer_.braces(&kernel->line);
    module_.kernel_names_[kernel->name] = kernel.get();
    module_.kernels_.push_back(std::move(kernel));
  }

  void function() {
    Function function;
    uint32_t bytes;
    if (lexer_.peek().is('(')) function.results = parse_parameters(lexer_, &bytes);
    function.name = lexer_.expect_word("a name");
    function.parameters = parse_parameters(lexer_, &bytes);
    while (!lexer_.accept('{')) {
      if (lexer_.accept(';')) {
        module_.functions_.emplace(function.name, function);
        return;
      }
      if (lexer_.peek().kind == Token::end) lexer_.fail("expected a body");
      lexer_.next();  // .noreturn
    }
    function.body = lexer_.braces(&function.line);
    module_.functions_[function.name] = function;
  }

  void variable(std::string_view space) {
    const Declaration d = parse_declaration(lexer_);
    Variable variable;
    variable.name = d.name;
    variable.bytes = d.unsized ? 0 : d.bytes;
    variable.align = d.align;
    variable.constant = space == ".const";
    variable.shared = space == ".shared";
    variable.external_shared = variable.shared && d.unsized;
    if (lexer_.accept('=')) {
      initialiser(variable, d.element);
      if (d.unsized) variable.bytes = variable.initial.size();
    }
    lexer_.expect(';');
    auto& known = module_.variables_[variable.name];
    if (!external_ || variable.shared || known.name.empty()) known = std::move(variable);
  }

  void initialiser(Variable& variable, uint32_t element) {
    if (lexer_.accept('{')) {
      while (!lexer_.accept('}')) {
        initialiser(variable, element);
        lexer_.accept(',');
      }
      return;
    }
    uint64_t bits = 0;
    if (lexer_.peek().kind == Token::word) {
      std::string_view name = lexer_.next().text;
      if (name == "generic") {
        lexer_.expect('(');
        name = lexer_.expect_word("a variable");
        lexer_.expect(')');
      }
      const int64_t addend = lexer_.accept('+') ? parse_integer(lexer_) : 0;
      variable.references.push_back({variable.initial.size(), std::string(name), addend});
    } else {
      const bool negative = lexer_.accept('-');
      if (lexer_.peek().kind != Token::number) lexer_.fail("expected a value");
      const Token token = lexer_.next();
      const Number number = parse_number(token.text, token.line);
      bits = number.bits;
      if (negative) bits = number.kind == Number::integer ? ~bits + 1 : bits ^ uint64_t { 1 } << 63;
      if (number.kind == Number::f64 && element == 4) {
        double value;
        std::memcpy(&value, &bits, 8);
        const float rounded = static_cast<float>(value);
        bits = 0;
        std::memcpy(&bits, &rounded, 4);
      }
    }
    for (uint32_t i = 0; i < element; i++) variable.initial.push_back(static_cast<uint8_t>(bits >> 8 * i));
  }

  Module& module_;
  Lexer lexer_;
  bool external_ = false;
};

std::unique_ptr<Module> parse_module(const char* text, std::string* error) {
  auto module = std::make_unique<Module>();
  module->text_ = text;
  try {
    ModuleParser(*module).parse();
  } catch (const PtxError& e) {
    if (error) *error = e.what();
    return nullptr;
  }
  return module;
}

}  // namespace heed::simulator
