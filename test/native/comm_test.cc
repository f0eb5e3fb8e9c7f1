// What of the collectives needs no MPI library: what launchers say, errors of libraries, and bf16's sums.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "comm/mpi.h"
#include "comm/nccl.h"
#include "comm/reduce_bf16.h"

namespace heed::test {
namespace {

uint16_t bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);  // for values that bf16 holds
}

// Sets variables of the environment, and removes them at the end.
class Variables {
 public:
  Variables(std::initializer_list<std::pair<const char*, const char*>> all) : all_(all) {
    for (const auto& [name, value] : all_) setenv(name, value, 1);
  }
  ~Variables() {
    for (const auto& [name, value] : all_) unsetenv(name);
  }

 private:
  std::vector<std::pair<const char*, const char*>> all_;
};

std::string message_of_opening() {
  try {
    comm::open_mpi(comm::launch_of_environment());
  } catch (const Error& error) {
    EXPECT(std::string(error.name()) == "ERR_DISTRIBUTED");
    return error.what();
  }
  return "";
}

TEST(comm_launchers) {
  {
    const comm::Launch launch = comm::launch_of_environment();
    EXPECT(launch.size == 0 && launch.launcher.empty());
  }
  {
    const Variables set{{"OMPI_COMM_WORLD_RANK", "3"},
                        {"OMPI_COMM_WORLD_SIZE", "8"},
                        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                        {"PMIX_RANK", "3"}};
    const comm::Launch launch = comm::launch_of_environment();
    EXPECT(launch.rank == 3 && launch.size == 8 && launch.local_rank == 1 && launch.open_mpi && !launch.mpich);
  }
  {
    const Variables set{{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "0"}};
    const comm::Launch launch = comm::launch_of_environment();
    EXPECT(launch.rank == 2 && launch.size == 4 && launch.local_rank == 0 && launch.mpich && !launch.open_mpi);
  }
  {
    const Variables set{{"PMIX_RANK", "5"}, {"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "6"}, {"SLURM_LOCALID", "2"}};
    const comm::Launch launch = comm::launch_of_environment();
    EXPECT(launch.rank == 5 && launch.size == 6 && launch.local_rank == 2 && launch.launcher == "srun with PMIx");
  }
}

TEST(comm_libraries_that_do_not_fit) {
  {
    const Variables set{{"HEED_MPI", "libnone.so.1"}};
    EXPECT(message_of_opening().find("HEED_MPI names cannot be loaded: libnone.so.1") != std::string::npos);
  }
  {
    const Variables set{{"HEED_MPI", "libm.so.6"}};
    EXPECT(message_of_opening().find("libm.so.6 lacks MPI_Init_thread") != std::string::npos);
  }
}

std::string message_of_opening_nccl() {
  try {
    comm::open_nccl();
  } catch (const Error& error) {
    EXPECT(std::string(error.name()) == "ERR_DISTRIBUTED");
    return error.what();
  }
  return "";
}

TEST(comm_nccl_that_does_not_fit) {
  {
    const Variables set{{"HEED_NCCL_LIBRARY", "libnone.so.2"}};
    EXPECT(message_of_opening_nccl().find("HEED_NCCL_LIBRARY names cannot be loaded: libnone.so.2") !=
           std::string::npos);
  }
  {
    const Variables set{{"HEED_NCCL_LIBRARY", "libm.so.6"}};
    EXPECT(message_of_opening_nccl().find("libm.so.6 lacks ncclGetVersion: expected NCCL 2.14.0 or later") !=
           std::string::npos);
  }
  EXPECT(comm::nccl_version(2804) == "2.8.4");
  EXPECT(comm::nccl_version(21212) == "2.12.12");
  EXPECT(comm::nccl_version(22005) == "2.20.5");
}

TEST(comm_bf16_sums_are_rounded_to_nearest_even) {
  struct Case {
    float a, b, sum, max;
  };
  const Case cases[] = {
      {1, 2, 3, 2},
      {256, 1, 256, 256},  // a tie, to even
      {256, 3, 260, 256},
      {258, 1, 260, 258},  // a tie between 258 and 260
      {-256, -1, -256, -1},
      {INFINITY, 1, INFINITY, INFINITY},
      {3e38f, 3e38f, INFINITY, 3e38f},
      {0, -0.0f, 0, 0},
  };
  for (const auto& [a, b, sum, max] : cases) {
    uint16_t in = bf16(a), out = bf16(b), most = bf16(b);
    int count = 1;
    comm::sum_bf16(&in, &out, &count, nullptr);
    comm::max_bf16(&in, &most, &count, nullptr);
    if (out != bf16(sum)) report("%g + %g: expected %04x, got %04x", a, b, bf16(sum), out);
    if (a != b && a != 0 && most != bf16(max)) report("max(%g, %g): expected %04x, got %04x", a, b, bf16(max), most);
  }
  uint16_t in[2] = {0x7fc0, bf16(1)}, out[2] = {bf16(1), 0x7f81};
  int count = 2;
  comm::sum_bf16(in, out, &count, nullptr);
  EXPECT((out[0] & 0x7fff) > 0x7f80 && (out[1] & 0x7fff) > 0x7f80);
}

}  // namespace
}  // namespace heed::test
