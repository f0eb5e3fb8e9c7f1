// MPI as heed uses it: our own declarations, and the table of entry points and handles that is filled when the library
// is opened. Nothing of MPI is needed to build or to load the addon.
//
// The two families of libraries have different binary interfaces. Handles are addresses of structs in Open MPI
// (MPI_FLOAT is &ompi_mpi_float) and numbers of 32 bits in MPICH and its relatives. Here a handle is a void* for both:
// as an argument, the callee reads the lower half of the register, and as a result, the lower half of the memory is
// written on the little-endian machines that heed runs on. No array of handles is passed, because its elements differ
// in size.
//
// All functions but open_mpi() must be called on one thread, the one that called init_thread (MPI_THREAD_FUNNELED).
#pragma once
#include <string>

namespace heed::comm {

using Handle = void*;
using Reducer = void (*)(void* in, void* inout, int* count, Handle* type);

struct Mpi {
#define MPI_FUNCTION(name, symbol, params) int(*name) params = nullptr;
#include "comm/mpi.def"
#undef MPI_FUNCTION

  Handle world = nullptr, f32 = nullptr, f64 = nullptr, byte = nullptr, u16 = nullptr;
  Handle sum = nullptr, max = nullptr, errors_return = nullptr;
  void* in_place = nullptr;
  void* status_ignore = nullptr;

  std::string library;  // name under which it was opened

  // Returns the text of an error code of MPI.
  std::string error(int code) const;
  // Returns the library's own text about its version, in one line.
  std::string version() const;
};

// What a launcher says in the environment of a process; a size of 0 means that there is no launcher.
struct Launch {
  int rank = 0, size = 0;
  int local_rank = 0;     // rank among the processes of this machine
  std::string launcher;   // for messages
  bool open_mpi = false;  // the launcher is Open MPI's
  bool mpich = false;     // the launcher speaks MPICH's protocol (PMI)
};
Launch launch_of_environment();

// Sets what MPI's libraries read from the environment. JavaScript thread only, before open_mpi().
void prepare_environment();

// Opens the library that HEED_MPI names, or else the one that fits the launcher. Throws ERR_DISTRIBUTED if there is
// none or if it lacks a function.
Mpi open_mpi(const Launch& launch);

}  // namespace heed::comm
