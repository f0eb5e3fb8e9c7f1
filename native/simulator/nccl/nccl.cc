// The exported functions.
#include <algorithm>
#include <cstring>
#include <exception>
#include <string>

#include "simulator/nccl/api.h"
#include "simulator/nccl/communicator.h"

namespace heed::nccl_simulator {
namespace {

thread_local std::string last_error;

NcclResult refuse(NcclResult result, const char* why) {
  last_error = why;
  return result;
}

NcclResult enqueue(NcclComm comm, const Call& call, const void* in, void* out, NcclStream stream) {
  if (!comm) return refuse(invalid_argument, "there is no communicator");
  return comm->enqueue(call, in, out, static_cast<cuda::CUstream>(stream));
}

}  // namespace

extern "C" {

NcclResult ncclGetVersion(int* version) {
  if (!version) return invalid_argument;
  *version = read_settings().version;
  return success;
}

NcclResult ncclGetUniqueId(NcclUniqueId* id) {
  if (!id) return invalid_argument;
  std::memset(id, 0, sizeof *id);
  const std::string name = Room::new_name();
  std::memcpy(id->bytes, name.c_str(), std::min(name.size(), sizeof id->bytes - 1));
  return success;
}

NcclResult ncclCommInitRankConfig(NcclComm* comm, int size, NcclUniqueId id, int rank, NcclConfig* config) {
  if (!comm || size < 1 || size > Room::kMostRanks || rank < 0 || rank >= size ||
      std::strncmp(id.bytes, "heed-", 5) != 0)
    return refuse(invalid_argument, "the ranks or the unique id are wrong");
  // 24 bytes are all that NCCL 2.14 knows.
  if (config && (config->magic != 0xcafebeef || config->bytes < 24))
    return refuse(invalid_argument, "the configuration has not been initialised");
  if (!driver()) return refuse(unhandled_cuda_error, "HEED_CUDA_DRIVER is not the software device");
  try {
    *comm = new comm::ncclComm(size, id.bytes, rank, !config || config->blocking != 0);
    return (*comm)->join();
  } catch (const std::exception& error) {
    return refuse(system_error, error.what());
  }
}

NcclResult ncclCommFinalize(NcclComm comm) { return comm ? comm->finalize() : invalid_argument; }

NcclResult ncclCommDestroy(NcclComm comm) {
  delete comm;
  return success;
}

NcclResult ncclCommAbort(NcclComm comm) {
  if (comm) comm->abort();
  return ncclCommDestroy(comm);
}

NcclResult ncclCommGetAsyncError(NcclComm comm, NcclResult* error) {
  if (!comm || !error) return invalid_argument;
  *error = comm->state();
  return success;
}

const char* ncclGetErrorString(NcclResult result) {
  switch (result) {
    case success:
      return "no error";
    case unhandled_cuda_error:
      return "unhandled cuda error";
    case system_error:
      return "unhandled system error";
    case internal_error:
      return "internal error";
    case invalid_argument:
      return "invalid argument";
    case invalid_usage:
      return "invalid usage";
    case remote_error:
      return "remote process exited or there was a network error";
    case in_progress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

const char* ncclGetLastError(NcclComm comm) {
  if (comm) last_error = comm->last_error();
  return last_error.c_str();
}

NcclResult ncclAllReduce(const void* in, void* out, size_t count, NcclType type, NcclOp op, NcclComm comm,
                         NcclStream stream) {
  return enqueue(comm, {Call::all_reduce, static_cast<int>(type), static_cast<int>(op), 0, count}, in, out, stream);
}

NcclResult ncclBroadcast(const void* in, void* out, size_t count, NcclType type, int root, NcclComm comm,
                         NcclStream stream) {
  return enqueue(comm, {Call::broadcast, static_cast<int>(type), 0, root, count}, in, out, stream);
}

NcclResult ncclReduceScatter(const void* in, void* out, size_t out_count, NcclType type, NcclOp op, NcclComm comm,
                             NcclStream stream) {
  return enqueue(comm, {Call::reduce_scatter, static_cast<int>(type), static_cast<int>(op), 0, out_count}, in, out,
                 stream);
}

NcclResult ncclAllGather(const void* in, void* out, size_t in_count, NcclType type, NcclComm comm, NcclStream stream) {
  return enqueue(comm, {Call::all_gather, static_cast<int>(type), 0, 0, in_count}, in, out, stream);
}

}  // extern "C"

}  // namespace heed::nccl_simulator
