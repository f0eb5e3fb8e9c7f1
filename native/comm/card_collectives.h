// Operations on tensors of a CUDA device, which NCCL does on a stream beside the device's own (core/detour.h). The
// communicator's thread makes all calls, and none of them blocks it. MPI is the bootstrap: the processes tell each
// other which library and which card they have, and get NCCL's unique id, when the first operation begins.
//
// NCCL does not notice that a process never takes part, and its operation then never ends. So a barrier of MPI follows
// each input that a process has computed: once all processes have passed it, NCCL alone can be late, and an operation
// that takes far too long fails the run.
#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "comm/mpi.h"
#include "comm/nccl.h"
#include "comm/operation.h"

namespace heed::comm {

class CardCollectives {
 public:
  // `comm` is a communicator of its own. `timeout`: seconds that NCCL may take beyond what the bytes need.
  CardCollectives(const Mpi& mpi, Handle comm, int rank, int size, double timeout);

  // Adds an operation whose detour may begin.
  void add(std::unique_ptr<Operation> operation) { waiting_.push_back(std::move(operation)); }
  // Does what can be done without waiting; returns true if that was anything. Throws what fails the run.
  bool progress();
  bool idle() const { return waiting_.empty() && !issuing_ && posted_.empty(); }
  // Returns an operation that has waited for other processes since before a time, or null.
  const Operation* since(double time) const;

  // Damages the results of all operations, and lets NCCL abandon them so that no stream waits any more. That happens on
  // a thread of its own, because it may take long.
  void fail(const Error& error);
  // Returns true if NCCL has abandoned its operations, or has nothing to abandon.
  bool gone();
  // Ends NCCL when nothing is on its way.
  void finish();

 private:
  // Steps on the way to a communicator of NCCL.
  enum class Stage { closed, greeting, naming, joining, open };
  // Message in which each process tells the others what it has.
  struct Greeting {
    int version = 0;
    char problem[400] = "";
    char machine[256] = "", card[32] = "", place[64] = "";
  };
  struct Posted {
    std::unique_ptr<Operation> operation;
    Handle barrier = nullptr;
    bool arrived = false;        // this process has computed the input
    double all_arrived_at = -1;  // when all have; -1 before that
  };

  void open();
  void greet();
  void compare() const;
  bool tested(Handle* request, const char* doing) const;
  void join();
  // Returns true if the call that was made last is done. Throws its error, or one that NCCL has found since.
  bool settled(const char* doing);
  bool issue();
  NcclResult call(const Operation& operation, void* stream) const;
  bool follow();
  double limit_of(const Operation& operation) const;
  void expect_success(int code, const char* doing) const;
  void expect_success(NcclResult result, const char* doing) const;

  const Mpi& mpi_;
  const Handle mpi_comm_;
  const int rank_, size_;
  const double timeout_;
  Nccl nccl_;
  Stage stage_ = Stage::closed;
  double stage_since_ = 0;
  std::vector<Greeting> greetings_;
  NcclUniqueId id_{};
  Handle request_ = nullptr;  // of the bootstrap
  NcclComm comm_ = nullptr;
  std::shared_ptr<Detour> first_;  // its card is the one that NCCL uses
  std::deque<std::unique_ptr<Operation>> waiting_;
  std::unique_ptr<Operation> issuing_;  // the one whose call has not settled
  std::deque<Posted> posted_;           // in NCCL's stream
  std::shared_ptr<HostBuffer> aborted_;
};

}  // namespace heed::comm
