#include "simulator/nccl/settings.h"

#include <sstream>

#include "simulator/variables.h"

namespace heed::nccl_simulator {

using simulator::file_of_process;
using simulator::variable;

namespace {

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
  const auto version = static_cast<uint64_t>(settings.version);
  settings.version = static_cast<int>(variable("HEED_NCCL_SIMULATOR_VERSION", version));
  settings.delay = variable("HEED_NCCL_SIMULATOR_DELAY", settings.delay);
  settings.log = file_of_process(variable("HEED_NCCL_SIMULATOR_LOG"));
  std::istringstream fault(variable("HEED_NCCL_SIMULATOR_FAULT"));
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
