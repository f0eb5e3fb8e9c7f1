#include "simulator/nccl/settings.h"

#include <unistd.h>

#include <cstdlib>
#include <sstream>

namespace heed::nccl_simulator {
namespace {

std::string text(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

struct Kind {
  const char* name;
  comm::NcclResult error;
};
constexpr Kind kinds[] = {
    {"cuda", comm::unhandled_cuda_error}, {"system", comm::system_error}, {"internal", comm::internal_error},
    {"argument", comm::invalid_argument}, {"usage", comm::invalid_usage}, {"remote", comm::remote_error},
};

}  // namespace

Settings read_settings() {
  Settings settings;
  if (const std::string version = text("HEED_NCCL_SIMULATOR_VERSION"); !version.empty())
    settings.version = std::atoi(version.c_str());
  settings.delay = std::strtoull(text("HEED_NCCL_SIMULATOR_DELAY").c_str(), nullptr, 10);
  settings.log = text("HEED_NCCL_SIMULATOR_LOG");
  if (const size_t at = settings.log.find("%p"); at != std::string::npos)
    settings.log.replace(at, 2, std::to_string(getpid()));
  std::istringstream fault(text("HEED_NCCL_SIMULATOR_FAULT"));
  std::string kind, later;
  if (fault >> kind >> settings.rank >> settings.operation) {
    settings.later = fault >> later && later == "later";
    if (kind == "absent") settings.fault = Settings::Fault::absent;
    for (const auto& [name, error] : kinds)
      if (kind == name) {
        settings.fault = Settings::Fault::error;
        settings.error = error;
      }
  }
  return settings;
}

}  // namespace heed::nccl_simulator
