// The text of a fault: kernel, block, thread, PTX line, source file and line, and the error.
#include <cxxabi.h>

#include <cstdlib>

#include "simulator/state.h"

namespace heed::simulator {

namespace {

std::string triple(uint32_t x, uint32_t y, uint32_t z) {
  return "(" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
}

std::string readable(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  const std::string result = text ? text : name;
  std::free(text);
  return result;
}

}  // namespace

std::string thread_name(const Block& block, uint32_t thread) {
  const uint32_t* n = block.launch->block;
  return "thread " + triple(thread % n[0], thread / n[0] % n[1], thread / (n[0] * n[1]));
}

std::string block_name(const LaunchState& launch, uint32_t block) {
  const uint32_t* n = launch.grid;
  return "block " + triple(block % n[0], block / n[0] % n[1], block / n[0] / n[1]);
}

std::string place_name(const Program& program, uint32_t pc) {
  std::string result = "PTX line " + std::to_string(program.lines[pc]);
  const Location& location = program.locations[pc];
  const std::vector<std::string>& files = program.kernel->module->files();
  if (location.line && location.file < files.size())
    result += " (" + files[location.file] + ":" + std::to_string(location.line) + ")";
  return result + ": " + program.names[pc];
}

void fail(const Warp& warp, int lane, int cuda_error, const std::string& what) {
  const Block& block = *warp.block;
  const Program& program = *block.launch->program;
  std::string message = "kernel " + readable(program.kernel->name) + ", block " +
                        triple(block.index[0], block.index[1], block.index[2]) + ", ";
  message += lane >= 0 ? thread_name(block, warp.index * warp_size + static_cast<uint32_t>(lane))
                       : "warp " + std::to_string(warp.index);
  message += ", " + place_name(program, warp.pc) + ": " + what;
  throw FaultError{cuda_error, message};
}

}  // namespace heed::simulator
