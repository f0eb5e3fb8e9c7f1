// A PTX module. parse_module() finds functions and variables at once and leaves the bodies for later, because modules
// are megabytes of text with hundreds of kernels. Kernel::prepare() parses a body into a Program at its first use.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace heed::simulator {

class Memory;
class Module;
struct Program;

struct Parameter {
  std::string name;
  uint32_t offset;  // offset in the parameter buffer
  uint32_t bytes;
  uint32_t align;
};

class Kernel {
 public:
  std::string name;
  std::vector<Parameter> parameters;
  uint32_t parameter_bytes = 0;
  uint32_t max_threads = 1024;  // .maxntid, or the device's limit
  uint32_t line = 0;            // line of the body in the PTX text
  Module* module = nullptr;

  // Parses the body unless that has been done. Returns null and sets *error if it cannot be executed. Thread-safe.
  const Program* prepare(std::string* error);

  // These come from the prepared program (0 if it cannot be prepared).
  uint32_t shared_bytes();  // static
  uint32_t local_bytes();
  uint32_t registers();  // largest number of 32-bit registers that are live at once

  Kernel();
  ~Kernel();
  std::string_view body;

 private:
  std::mutex mutex_;
  bool prepared_ = false;
  std::string error_;
  std::unique_ptr<Program> program_;
};

// A .global or .const variable of the module, which is in device memory once the module is loaded.
struct Variable {
  std::string name;
  size_t bytes = 0;
  size_t align = 1;
  bool constant = false;
  bool external_shared = false;  // extern .shared: the launch's dynamic shared memory
  bool shared = false;           // .shared at module scope
  std::vector<uint8_t> initial;  // empty for zeros
  struct Reference {             // an address in the initialiser
    size_t offset;
    std::string symbol;
    int64_t addend;
  };
  std::vector<Reference> references;
  uint8_t* address = nullptr;
};

// A .func, which is inlined where it is called.
struct Function {
  std::string name;
  std::vector<Parameter> parameters;
  std::vector<Parameter> results;
  std::string_view body;  // empty if external (vprintf, __assertfail)
  uint32_t line = 0;
};

class Module {
 public:
  ~Module();

  Kernel* find(const std::string& name) const;
  const Variable* variable(const std::string& name) const;
  const std::vector<std::unique_ptr<Kernel>>& kernels() const { return kernels_; }

  // Places the variables in device memory; returns false if there is not enough. If it was not called before, run()
  // calls it.
  bool load(Memory& memory);
  void unload();

  // For the parser.
  const Function* function(const std::string& name) const;
  const std::vector<std::string>& files() const { return files_; }

 private:
  friend std::unique_ptr<Module> parse_module(const char* text, std::string* error);
  friend class ModuleParser;
  std::string text_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::unordered_map<std::string, Kernel*> kernel_names_;
  std::unordered_map<std::string, Function> functions_;
  std::unordered_map<std::string, Variable> variables_;
  std::vector<std::string> files_;  // indexed by the number of .file
  Memory* memory_ = nullptr;
  std::mutex mutex_;
};

// Returns null and sets *error ("line 12: …") if the text is not PTX.
std::unique_ptr<Module> parse_module(const char* text, std::string* error);

}  // namespace heed::simulator
