#include "comm/mpi.h"

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "core/error.h"
#include "core/platform.h"

namespace heed::comm {
namespace {

// Names of both families' libraries, and of the one in the form that Linux distributions give it.
const std::vector<const char*> kOpenMpi = {"libmpi.so.40", "libmpi.so.80", "libmpi.dylib"};
const std::vector<const char*> kMpich = {"libmpich.so.12", "libmpi.so.12", "libmpi.12.dylib"};

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoi(text) : otherwise;
}

template <class T>
void take(void* library, const char* name, T& to, const char*& missing) {
  to = reinterpret_cast<T>(library_symbol(library, name));
  if (!to && !missing) missing = name;
}

// A handle of MPICH. The registers and the memory that MPICH reads have 32 bits of it.
Handle mpich(uint32_t value) { return reinterpret_cast<Handle>(static_cast<uintptr_t>(value)); }

const char* fill(Mpi& mpi, void* library) {
  const char* missing = nullptr;
#define MPI_FUNCTION(name, symbol, params) take(library, #symbol, mpi.name, missing);
#include "comm/mpi.def"
#undef MPI_FUNCTION
  // What the library exports says which of the two interfaces it has.
  if (library_symbol(library, "ompi_mpi_comm_world")) {
    take(library, "ompi_mpi_comm_world", mpi.world, missing);
    take(library, "ompi_mpi_float", mpi.f32, missing);
    take(library, "ompi_mpi_double", mpi.f64, missing);
    take(library, "ompi_mpi_byte", mpi.byte, missing);
    take(library, "ompi_mpi_uint16_t", mpi.u16, missing);
    take(library, "ompi_mpi_op_sum", mpi.sum, missing);
    take(library, "ompi_mpi_op_max", mpi.max, missing);
    take(library, "ompi_mpi_errors_return", mpi.errors_return, missing);
    mpi.in_place = reinterpret_cast<void*>(1);
    mpi.status_ignore = nullptr;
  } else {
    mpi.world = mpich(0x44000000);
    mpi.f32 = mpich(0x4c00040a);
    mpi.f64 = mpich(0x4c00080b);
    mpi.byte = mpich(0x4c00010d);
    mpi.u16 = mpich(0x4c00023c);
    mpi.sum = mpich(0x58000003);
    mpi.max = mpich(0x58000001);
    mpi.errors_return = mpich(0x54000001);
    mpi.in_place = reinterpret_cast<void*>(-1);
    mpi.status_ignore = reinterpret_cast<void*>(1);
  }
  return missing;
}

}  // namespace

Launch launch_of_environment() {
  Launch launch;
  if (std::getenv("OMPI_COMM_WORLD_RANK")) {
    launch.rank = number("OMPI_COMM_WORLD_RANK", 0);
    launch.size = number("OMPI_COMM_WORLD_SIZE", 0);
    launch.local_rank = number("OMPI_COMM_WORLD_LOCAL_RANK", launch.rank);
    launch.launcher = "Open MPI's mpirun";
    launch.open_mpi = true;
  } else if (std::getenv("PMI_RANK")) {
    launch.rank = number("PMI_RANK", 0);
    launch.size = number("PMI_SIZE", 0);
    launch.local_rank = number("MPI_LOCALRANKID", number("SLURM_LOCALID", launch.rank));
    launch.launcher = std::getenv("SLURM_PROCID") ? "srun with PMI" : "MPICH's mpirun";
    launch.mpich = true;
  } else if (std::getenv("PMIX_RANK")) {
    launch.rank = number("PMIX_RANK", 0);
    launch.size = number("SLURM_NTASKS", number("PMIX_SIZE", -1));  // -1: only MPI knows
    launch.local_rank = number("SLURM_LOCALID", launch.rank);
    launch.launcher = std::getenv("SLURM_PROCID") ? "srun with PMIx" : "a launcher with PMIx";
  }
  return launch;
}

void prepare_environment() {
  // UCX, which both libraries use, watches the process' memory, and tries that out with sbrk(): up and down again. If
  // another thread has grown the heap in between, its memory is gone.
  set_default_variable("UCX_MEM_EVENTS", "no");
}

Mpi open_mpi(const Launch& launch) {
  std::vector<const char*> names;
  const char* named = std::getenv("HEED_MPI");
  if (named && *named) {
    names = {named};
  } else {
    const auto add = [&](const std::vector<const char*>& more) { names.insert(names.end(), more.begin(), more.end()); };
    if (!launch.mpich) add(kOpenMpi);
    if (!launch.open_mpi) add(kMpich);
  }
  void* library = nullptr;
  Mpi mpi;
  for (const char* name : names) {
    if ((library = open_shared_library(name))) {
      mpi.library = name;
      break;
    }
  }
  if (!library && named && *named)
    fail(Code::distributed, "the MPI library that HEED_MPI names cannot be loaded: %s", library_problem().c_str());
  if (!library)
    fail(Code::distributed,
         "expected the MPI library of %s (%s), which does not load; install it (Debian: openmpi-bin or mpich) or name "
         "it "
         "with HEED_MPI",
         launch.launcher.empty() ? "a launcher" : launch.launcher.c_str(), names.front());
  if (const char* missing = fill(mpi, library))
    fail(Code::distributed, "the MPI library %s lacks %s: expected a library of MPI 3.0 or later", mpi.library.c_str(),
         missing);
  return mpi;
}

std::string Mpi::error(int code) const {
  char text[1024] = "";
  int length = 0;
  if (error_string(code, text, &length) != 0) return "MPI's error " + std::to_string(code);
  return text;
}

std::string Mpi::version() const {
  std::vector<char> text(8192 + 1);  // MPICH's MPI_MAX_LIBRARY_VERSION_STRING, the larger one
  int length = 0;
  if (get_library_version(text.data(), &length) != 0) return library;
  const std::string whole(text.data());
  std::string line = whole.substr(0, whole.find_first_of("\n,"));
  for (char& c : line)
    if (c == '\t') c = ' ';
  return line;
}

}  // namespace heed::comm
