// Variables of the environment that set up the software device and the software NCCL.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace heed::simulator {

// Returns the text of a variable, or "" if it is not set.
inline std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text ? text : "";
}

// Returns the number in a variable, or `otherwise` if it is not set.
inline uint64_t variable(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Returns a file's name, in which %p stands for the process id.
inline std::string file_of_process(std::string name) {
  const size_t place = name.find("%p");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(getpid()));
  return name;
}

}  // namespace heed::simulator
