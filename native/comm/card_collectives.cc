#include "comm/card_collectives.h"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

namespace heed::comm {
namespace {

constexpr double kSlowest = 64 << 20;  // bytes a second below which an operation counts as stuck
constexpr double kJoining = 10;        // NCCL looks for its networks first: times of the timeout that it may take

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <size_t size>
void copy_text(char (&to)[size], const std::string& text) {
  std::snprintf(to, size, "%s", text.c_str());
}

NcclType type_of(Wire wire) {
  switch (wire) {
    case Wire::f32:
      return NcclType::f32;
    case Wire::f64:
      return NcclType::f64;
    case Wire::bf16:
      return NcclType::bf16;
    case Wire::byte:
      break;
  }
  return NcclType::u8;
}

}  // namespace

CardCollectives::CardCollectives(const Mpi& mpi, Handle comm, int rank, int size, double timeout)
    : mpi_(mpi), mpi_comm_(comm), rank_(rank), size_(size), timeout_(timeout) {}

void CardCollectives::expect_success(int code, const char* doing) const {
  if (code != 0) heed::fail(Code::distributed, "%s: %s", doing, mpi_.error(code).c_str());
}

void CardCollectives::expect_success(NcclResult result, const char* doing) const {
  if (result != success) heed::fail(Code::distributed, "%s: %s", doing, nccl_.error(result, comm_).c_str());
}

bool CardCollectives::progress() {
  if (idle()) return false;
  const Stage before = stage_;
  if (stage_ != Stage::open) open();
  bool any = stage_ != before;
  if (stage_ != Stage::open) return any;
  any = issue() || any;
  return follow() || any;
}

bool CardCollectives::tested(Handle* request, const char* doing) const {
  int flag = 0;
  expect_success(mpi_.test(request, &flag, mpi_.status_ignore), doing);
  return flag != 0;
}

void CardCollectives::open() {
  const char* const doing = "starting NCCL";
  const Stage before = stage_;
  switch (stage_) {
    case Stage::closed:
      greet();
      stage_ = Stage::greeting;
      break;
    case Stage::greeting:
      if (!tested(&request_, doing)) return;
      compare();
      first_->enter();
      if (rank_ == 0) expect_success(nccl_.get_unique_id(&id_), doing);
      expect_success(mpi_.ibcast(id_.bytes, sizeof id_.bytes, mpi_.byte, 0, mpi_comm_, &request_), doing);
      stage_ = Stage::naming;
      break;
    case Stage::naming:
      if (!tested(&request_, doing)) return;
      join();
      stage_ = Stage::joining;
      break;
    case Stage::joining:
      if (settled(doing)) {
        stage_ = Stage::open;
      } else if (const double limit = kJoining * timeout_; now() - stage_since_ > limit) {
        heed::fail(Code::distributed, "%s: the processes have not found each other within %.0f s", doing, limit);
      }
      break;
    case Stage::open:
      break;
  }
  if (stage_ != before) stage_since_ = now();
}

// Tells the other processes what this one has, or why it cannot take part, so that all of them end with the same error.
void CardCollectives::greet() {
  first_ = waiting_.front()->detour;
  greetings_.resize(static_cast<size_t>(size_) + 1);
  Greeting& own = greetings_[static_cast<size_t>(size_)];
  try {
    nccl_ = open_nccl();
    own.version = nccl_.version;
  } catch (const Error& error) {
    copy_text(own.problem, error.what());
  }
  char machine[1024] = "";
  int length = 0;
  if (mpi_.get_processor_name(machine, &length) == 0) copy_text(own.machine, machine);
  copy_text(own.card, first_->card().name);
  copy_text(own.place, first_->card().place);
  expect_success(
      mpi_.iallgather(&own, sizeof own, mpi_.byte, greetings_.data(), sizeof own, mpi_.byte, mpi_comm_, &request_),
      "starting NCCL");
}

void CardCollectives::compare() const {
  const Greeting& zero = greetings_[0];
  for (int r = 0; r < size_; r++) {
    const Greeting& one = greetings_[static_cast<size_t>(r)];
    if (one.problem[0]) heed::fail(Code::distributed, "rank %d: %s", r, one.problem);
  }
  for (int r = 0; r < size_; r++) {
    const Greeting& one = greetings_[static_cast<size_t>(r)];
    if (one.version != zero.version)
      heed::fail(Code::distributed, "expected the same NCCL in all processes, got %s at rank 0 and %s at rank %d",
                 nccl_version(zero.version).c_str(), nccl_version(one.version).c_str(), r);
    for (int q = 0; q < r; q++) {
      const Greeting& other = greetings_[static_cast<size_t>(q)];
      if (one.place[0] && std::strcmp(one.place, other.place) == 0 && std::strcmp(one.machine, other.machine) == 0)
        heed::fail(
            Code::distributed,
            "expected a CUDA device for each process, because NCCL does not share one, but rank %d (%s) and rank %d "
            "(%s) use the same card of %s",
            q, other.card, r, one.card, one.machine);
    }
  }
}

void CardCollectives::join() {
  NcclConfig config;
  const NcclResult result = nccl_.comm_init_rank_config(&comm_, size_, id_, rank_, &config);
  if (result != in_progress) expect_success(result, "starting NCCL");
}

bool CardCollectives::settled(const char* doing) {
  NcclResult state = success;
  expect_success(nccl_.comm_get_async_error(comm_, &state), doing);
  if (state == in_progress) return false;
  expect_success(state, doing);
  return true;
}

// Hands operations to NCCL, one after the other, because a call must have settled before the next one.
bool CardCollectives::issue() {
  bool any = false;
  for (;;) {
    if (issuing_) {
      const Operation& o = *issuing_;
      if (!settled(name_of(o.kind))) return any;
      o.detour->end();
      o.done->signal();
      posted_.push_back({std::move(issuing_)});
      any = true;
    }
    if (waiting_.empty()) return any;
    issuing_ = std::move(waiting_.front());
    waiting_.pop_front();
    const Operation& o = *issuing_;
    if (o.detour->card().name != first_->card().name)
      heed::fail(Code::distributed, "%s: expected a tensor on %s, as in the operations before, got one on %s",
                 name_of(o.kind), first_->card().name.c_str(), o.detour->card().name.c_str());
    void* const stream = o.detour->begin();
    const NcclResult result = o.count > 0 ? call(o, stream) : success;
    if (result != in_progress) expect_success(result, name_of(o.kind));
  }
}

NcclResult CardCollectives::call(const Operation& o, void* stream) const {
  const NcclType type = type_of(o.wire);
  const NcclOp op = o.reduction == Reduction::sum ? NcclOp::sum : NcclOp::max;
  const auto count = static_cast<size_t>(o.count);
  switch (o.kind) {
    case Kind::all_reduce:
      return nccl_.all_reduce(o.in, o.out, count, type, op, comm_, stream);
    case Kind::broadcast:
      return nccl_.broadcast(o.in, o.out, count, type, o.root, comm_, stream);
    case Kind::reduce_scatter:
      return nccl_.reduce_scatter(o.in, o.out, count, type, op, comm_, stream);
    case Kind::all_gather:
      return nccl_.all_gather(o.in, o.out, count, type, comm_, stream);
    case Kind::barrier:
      break;
  }
  return invalid_argument;
}

double CardCollectives::limit_of(const Operation& o) const {
  const bool parted = o.kind == Kind::all_gather || o.kind == Kind::reduce_scatter;
  const double bytes = static_cast<double>(o.count) * static_cast<double>(size_of(o.wire)) * (parted ? size_ : 1);
  return timeout_ + bytes / kSlowest;
}

// Finds out what has happened to the operations that NCCL has.
bool CardCollectives::follow() {
  if (posted_.empty()) return false;
  if (!issuing_) settled(name_of(posted_.front().operation->kind));
  bool any = false;
  for (Posted& posted : posted_) {
    Operation& o = *posted.operation;
    if (const auto failure = o.detour->failure()) throw *failure;
    if (!posted.arrived) {
      if (o.detour->state() == Detour::State::waiting) break;  // and so do those behind it
      expect_success(mpi_.ibarrier(mpi_comm_, &posted.barrier), name_of(o.kind));
      posted.arrived = any = true;
      o.begun = now();
    }
    if (posted.all_arrived_at < 0) {
      if (tested(&posted.barrier, name_of(o.kind))) posted.all_arrived_at = now();
    } else if (o.detour->state() != Detour::State::ended && now() - posted.all_arrived_at > limit_of(o)) {
      heed::fail(Code::distributed, "%s: all processes have begun it, but NCCL has not ended it within %.0f s",
                 name_of(o.kind), limit_of(o));
    }
  }
  while (!posted_.empty()) {
    const Posted& first = posted_.front();
    if (first.all_arrived_at < 0 || first.operation->detour->state() != Detour::State::ended) break;
    posted_.pop_front();
    any = true;
  }
  return any;
}

const Operation* CardCollectives::since(double time) const {
  const Operation* first = nullptr;
  if (!posted_.empty()) {
    // If all have begun it, only NCCL can be late, which follow() finds out.
    const Posted& front = posted_.front();
    if (front.arrived && front.all_arrived_at < 0) first = front.operation.get();
  } else if (issuing_) {
    first = issuing_.get();
  } else if (!waiting_.empty()) {
    first = waiting_.front().get();
  }
  return first && first->begun < time ? first : nullptr;
}

void CardCollectives::fail(const Error& error) {
  const auto give_up = [&](const Operation& o) {
    o.detour->fail(error);
    o.done->fail(error);
    o.done->signal();
  };
  for (const Posted& posted : posted_) give_up(*posted.operation);
  if (issuing_) give_up(*issuing_);
  for (const auto& operation : waiting_) give_up(*operation);
  posted_.clear();
  issuing_.reset();
  waiting_.clear();
  if (!comm_) return;
  aborted_ = std::make_shared<HostBuffer>(0);
  std::thread([abort = nccl_.comm_abort, comm = std::exchange(comm_, nullptr), card = first_, aborted = aborted_] {
    try {
      card->enter();
    } catch (const Error&) {
      // The device is lost, and so is what runs on it.
    }
    abort(comm);
    aborted->signal();
  }).detach();
}

bool CardCollectives::gone() { return !aborted_ || aborted_->ready(); }

void CardCollectives::finish() {
  if (!comm_) return;
  try {
    first_->enter();
    const char* const doing = "ending NCCL";
    const NcclResult result = nccl_.comm_finalize(comm_);
    if (result != in_progress) expect_success(result, doing);
    for (const double begin = now(); !settled(doing);) {
      if (now() - begin > timeout_) heed::fail(Code::distributed, "%s: it takes too long", doing);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    expect_success(nccl_.comm_destroy(std::exchange(comm_, nullptr)), doing);
  } catch (const Error& error) {
    // All operations have ended before, so that nothing is lost.
    fail(error);
  }
}

}  // namespace heed::comm
