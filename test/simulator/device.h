// A device for the tests: memory, a module of PTX text, launches with typed parameters.
#pragma once
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "simulator/executor.h"
#include "simulator/memory.h"
#include "simulator/ptx.h"

namespace heed::test {

using simulator::Counters;
using simulator::Fault;
using simulator::Memory;
using simulator::Module;
using simulator::Options;

class Device {
 public:
  Device() : memory(size_t{64} << 20) {}
  explicit Device(const std::string& ptx) : Device() { load(ptx); }

  void load(const std::string& ptx) {
    std::string error;
    module = simulator::parse_module(ptx.c_str(), &error);
    if (!module) report("the module was not accepted: %s", error.c_str());
  }

  template <class T>
  T* upload(const std::vector<T>& values) {
    T* p = static_cast<T*>(memory.allocate(values.size() * sizeof(T)));
    memory.copy_in(p, values.data(), values.size() * sizeof(T));
    return p;
  }
  template <class T>
  T* allocate(size_t n) {
    return static_cast<T*>(memory.allocate(n * sizeof(T)));
  }
  template <class T>
  std::vector<T> download(const T* p, size_t n) const {
    std::vector<T> values(n);
    const std::string wrong = memory.copy_out(values.data(), p, n * sizeof(T));
    if (!wrong.empty()) report("copy: %s", wrong.c_str());
    return values;
  }

  // Returns the fault of the launch, or "".
  template <class... P>
  std::string run(const char* name, uint32_t grid, uint32_t block, P... parameters) {
    simulator::Kernel* kernel = module ? module->find(name) : nullptr;
    if (!kernel) return std::string("no kernel ") + name;
    const void* pointers[] = {&parameters..., nullptr};
    simulator::Launch launch;
    launch.kernel = kernel;
    launch.grid[0] = grid;
    launch.block[0] = block;
    launch.dynamic_shared_bytes = dynamic_shared;
    launch.params = pointers;
    const auto fault = simulator::run(launch, memory, options, counters);
    error = fault ? fault->cuda_error : 0;
    return fault ? fault->message : "";
  }

  Memory memory;
  std::unique_ptr<Module> module;
  Options options;
  Counters counters;
  uint32_t dynamic_shared = 0;
  int error = 0;
};

// Returns a module with one kernel `k`, from its parameters and body.
inline std::string kernel(const std::string& parameters, const std::string& body, const std::string& before = "") {
  return ".version 8.0\n.target sm_80\n.address_size 64\n" + before + "\n.visible .entry k(" + parameters + ")\n{\n" +
         body + "\n}\n";
}

#define EXPECT_OK(expression)                                                                 \
  do {                                                                                        \
    const std::string wrong_ = (expression);                                                  \
    if (!wrong_.empty()) heed::test::report("%s:%d: %s", __FILE__, __LINE__, wrong_.c_str()); \
  } while (0)

// The message of the fault must contain this text.
#define EXPECT_FAULT(expression, text)                                                                             \
  do {                                                                                                             \
    const std::string fault_ = (expression);                                                                       \
    if (fault_.find(text) == std::string::npos)                                                                    \
      heed::test::report("%s:%d: expected a fault with '%s', got '%s'", __FILE__, __LINE__, text, fault_.c_str()); \
  } while (0)

}  // namespace heed::test
