#include "comm/communicator.h"

#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

#include "comm/reduce_bf16.h"
#include "core/platform.h"

namespace heed::comm {
namespace {

constexpr int kTag = 1;
constexpr double kBeat = 0.5;    // seconds between two messages to a neighbour
constexpr int kPatience = 4000;  // milliseconds in which NCCL must have abandoned its operations

std::mutex current_mutex;
Communicator* current_communicator = nullptr;

}  // namespace

Communicator* Communicator::current() {
  const std::lock_guard lock(current_mutex);
  return current_communicator;
}

Communicator& Communicator::open(const Settings& settings, std::function<void(const Facts*, const Error*)> opened) {
  const std::lock_guard lock(current_mutex);
  if (current_communicator)
    fail(Code::distributed, "Collectives: expected to be opened once in a process, because MPI cannot start again");
  // Never destroyed: the thread may use it until the process ends.
  current_communicator = new Communicator(settings);
  std::thread([communicator = current_communicator, opened = std::move(opened)] {
    communicator->work(opened);
  }).detach();
  return *current_communicator;
}

void Communicator::expect_success(int code, const char* doing) {
  if (code != 0) fail(Code::distributed, "%s: %s", doing, mpi_.error(code).c_str());
}

void Communicator::work(const std::function<void(const Facts*, const Error*)>& opened) {
  try {
    start();
  } catch (const Error& error) {
    {
      const std::lock_guard lock(mutex_);
      failure_ = error;
      closed_ = true;
    }
    opened(nullptr, &error);
    return;
  }
  opened(&facts_, nullptr);
  loop();
}

void Communicator::start() {
  const Launch launch = launch_of_environment();
  mpi_ = open_mpi(launch);
  int already = 0;
  expect_success(mpi_.initialized(&already), "MPI_Initialized");
  if (already)
    fail(Code::distributed, "Collectives: expected MPI to be unused in this process, but it has been started");
  int provided = 0;
  constexpr int kFunneled = 1;
  if (const int code = mpi_.init_thread(nullptr, nullptr, kFunneled, &provided))
    fail(Code::distributed, "MPI (%s) cannot start: error %d", mpi_.library.c_str(), code);
  started_ = true;
  // Errors are returned and not fatal. Functions on duplicates inherit this.
  expect_success(mpi_.comm_set_errhandler(mpi_.world, mpi_.errors_return), "MPI_Comm_set_errhandler");
  expect_success(mpi_.comm_rank(mpi_.world, &facts_.rank), "MPI_Comm_rank");
  expect_success(mpi_.comm_size(mpi_.world, &facts_.size), "MPI_Comm_size");
  facts_.local_rank = launch.local_rank;
  facts_.library = mpi_.library;
  facts_.version = mpi_.version();
  // A library that does not speak with the launcher starts every process as a run of its own.
  if (launch.size > 0 && launch.size != facts_.size)
    fail(Code::distributed,
         "expected the %d processes of %s, but MPI (%s) sees %d: the library is not the launcher's; name the right one "
         "with HEED_MPI",
         launch.size, launch.launcher.c_str(), facts_.version.c_str(), facts_.size);
  for (Lane& lane : lanes_) expect_success(mpi_.comm_dup(mpi_.world, &lane.comm), "MPI_Comm_dup");
  expect_success(mpi_.comm_dup(mpi_.world, &beats_), "MPI_Comm_dup");
  expect_success(mpi_.op_create(&sum_bf16, 1, &bf16_sum_), "MPI_Op_create");
  expect_success(mpi_.op_create(&max_bf16, 1, &bf16_max_), "MPI_Op_create");
  cards_.emplace(mpi_, lanes_[cards].comm, facts_.rank, facts_.size, settings_.timeout);
  tick();
  heard_at_ = now();
}

Handle Communicator::type_of(Wire wire) const {
  switch (wire) {
    case Wire::f32:
      return mpi_.f32;
    case Wire::f64:
      return mpi_.f64;
    case Wire::bf16:
      return mpi_.u16;
    case Wire::byte:
      break;
  }
  return mpi_.byte;
}

Handle Communicator::op_of(const Operation& operation) const {
  const bool sum = operation.reduction == Reduction::sum;
  if (operation.wire == Wire::bf16) return sum ? bf16_sum_ : bf16_max_;
  return sum ? mpi_.sum : mpi_.max;
}

void Communicator::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

void Communicator::expect_alive() {
  const std::lock_guard lock(mutex_);
  if (failure_) throw *failure_;
  if (closing_ || closed_) fail(Code::distributed, "Collectives: expected to be open, got closed ones");
}

void Communicator::add(std::unique_ptr<Operation> operation, Order order) {
  std::optional<Error> failure;
  {
    const std::lock_guard lock(mutex_);
    failure = failure_;
    if (!failure && (closing_ || closed_))
      failure = Error(Code::distributed, "Collectives: expected to be open, got closed ones");
    if (!failure) lanes_[order].waiting.push_back(std::move(operation));
    woken_ = true;
  }
  if (failure) return end(*operation, &*failure);
  wake_.notify_one();
}

void Communicator::end(Operation& operation, const Error* error) {
  if (operation.done) {
    if (error) operation.done->fail(*error);
    operation.done->signal();
  }
  if (operation.ended) operation.ended(error);
}

// Posts the operations whose input is ready, up to the first one that has to wait. Returns true if there were any.
bool Communicator::post_ready(Lane& lane) {
  bool any = false;
  for (;;) {
    std::unique_ptr<Operation> next;
    {
      const std::lock_guard lock(mutex_);
      if (lane.waiting.empty()) return any;
      Operation& first = *lane.waiting.front();
      if (first.ready && !first.ready->ready()) return any;
      next = std::move(lane.waiting.front());
      lane.waiting.pop_front();
    }
    if (next->ready) {
      try {
        next->ready->wait();
      } catch (const Error&) {
        return any;  // the environment has ended, and nobody waits for the operation
      }
    }
    post(lane, std::move(next));
    any = true;
  }
}

void Communicator::post(Lane& lane, std::unique_ptr<Operation> operation) {
  operation->begun = now();
  if (operation->detour) return cards_->add(std::move(operation));
  Operation& o = *operation;
  Posted posted;
  const Handle type = type_of(o.wire);
  const void* in = o.in == o.out ? mpi_.in_place : o.in;
  const int count = static_cast<int>(o.count);
  int code = 0;
  switch (o.kind) {
    case Kind::all_reduce:
      code = mpi_.iallreduce(in, o.out, count, type, op_of(o), lane.comm, &posted.request);
      break;
    case Kind::broadcast:
      code = mpi_.ibcast(o.out, count, type, o.root, lane.comm, &posted.request);
      break;
    case Kind::reduce_scatter:
      code = mpi_.ireduce_scatter_block(in, o.out, count, type, op_of(o), lane.comm, &posted.request);
      break;
    case Kind::all_gather:
      code = mpi_.iallgather(in, count, type, o.out, count, type, lane.comm, &posted.request);
      break;
    case Kind::barrier:
      code = mpi_.ibarrier(lane.comm, &posted.request);
      break;
  }
  posted.operation = std::move(operation);
  // If MPI has refused it, it is told with all others that were posted.
  lane.posted.push_back(std::move(posted));
  expect_success(code, name_of(o.kind));
}

// Tests what was posted. Operations may end in any order.
bool Communicator::test(Lane& lane) {
  bool any = false;
  for (size_t i = 0; i < lane.posted.size();) {
    int flag = 0;
    const int code = mpi_.test(&lane.posted[i].request, &flag, mpi_.status_ignore);
    expect_success(code, name_of(lane.posted[i].operation->kind));
    if (!flag) {
      i++;
      continue;
    }
    const std::unique_ptr<Operation> ended = std::move(lane.posted[i].operation);
    lane.posted.erase(lane.posted.begin() + static_cast<std::ptrdiff_t>(i));
    end(*ended, nullptr);
    any = true;
  }
  return any;
}

// Sends and receives the messages of neighbours, and throws if the left one has not been heard of for too long.
void Communicator::beat() {
  if (facts_.size == 1) return;
  const double time = now();
  const int right = (facts_.rank + 1) % facts_.size, left = (facts_.rank + facts_.size - 1) % facts_.size;
  if (sent_.pending) {
    int flag = 0;
    expect_success(mpi_.test(&sent_.request, &flag, mpi_.status_ignore), "sending to a neighbour");
    sent_.pending = !flag;
  }
  if (!sent_.pending && !said_goodbye_ && (closing_ || time - sent_at_ >= kBeat)) {
    sent_.value = closing_ ? kGoodbye : watched_.load(std::memory_order_relaxed) ? time - ticked_.load() : 0;
    said_goodbye_ = closing_;
    sent_at_ = time;
    expect_success(mpi_.isend(&sent_.value, 1, mpi_.f64, right, kTag, beats_, &sent_.request),
                   "sending to a neighbour");
    sent_.pending = true;
  }
  if (received_.pending) {
    int flag = 0;
    expect_success(mpi_.test(&received_.request, &flag, mpi_.status_ignore), "receiving from a neighbour");
    if (flag) {
      received_.pending = false;
      heard_at_ = time;
      left_ended_ = received_.value == kGoodbye;
      if (received_.value > settings_.timeout)
        fail(Code::distributed, "the JavaScript thread of rank %d has been busy for %.0f s", left, received_.value);
    }
  }
  if (!received_.pending && !left_ended_) {
    expect_success(mpi_.irecv(&received_.value, 1, mpi_.f64, left, kTag, beats_, &received_.request),
                   "receiving from a neighbour");
    received_.pending = true;
  }
  if (!left_ended_ && time - heard_at_ > settings_.timeout)
    fail(Code::distributed, "rank %d has not answered for %.0f s: its process has ended or hangs", left,
         time - heard_at_);
  if (!left_ended_) return;
  const double before = time - settings_.timeout;
  const Operation* late = cards_->since(before);
  for (const Lane& lane : lanes_)
    if (!lane.posted.empty() && lane.posted.front().operation->begun < before)
      late = lane.posted.front().operation.get();
  if (late) fail(Code::distributed, "%s: rank %d has ended its run and does not take part", name_of(late->kind), left);
}

void Communicator::fail_run(const Error& error) {
  std::deque<std::unique_ptr<Operation>> failed;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = error;
    failed_at_ = now();
    for (Lane& lane : lanes_) {
      // MPI may still write to the memory of what was posted. This process is about to end, and until then the memory
      // stays where it is: the operations are told, and not freed.
      for (Posted& posted : lane.posted) failed.push_back(std::move(posted.operation));
      for (auto& waiting : lane.waiting) failed.push_back(std::move(waiting));
      lane.waiting.clear();
      lane.posted.clear();
    }
  }
  for (auto& operation : failed) {
    end(*operation, &error);
    (void)operation.release();
  }
  cards_->fail(error);
}

void Communicator::loop() {
  using std::chrono::microseconds;
  int idle = 0;
  for (;;) {
    bool closing, failed;
    std::optional<Error> given;
    {
      const std::lock_guard lock(mutex_);
      if (abandoned_) break;
      if (aborting_ >= 0) {
        mpi_.abort(mpi_.world, aborting_);
        end_process(aborting_);
      }
      closing = closing_;
      failed = failure_.has_value();
      given = std::exchange(given_, std::nullopt);
    }
    bool any = false;
    if (given) {
      fail_run(*given);
    } else if (failed) {
      if (now() - failed_at_ > settings_.grace) {
        std::fprintf(stderr, "error: rank %d: %s\n", facts_.rank, failure_->what());
        std::fflush(stderr);
        // Launchers drop what they have not forwarded.
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        mpi_.abort(mpi_.world, 1);
        end_process(1);
      }
    } else {
      try {
        for (Lane& lane : lanes_) {
          any = post_ready(lane) || any;
          any = test(lane) || any;
        }
        any = cards_->progress() || any;
        beat();
        const bool parted = facts_.size == 1 || (said_goodbye_ && !sent_.pending && left_ended_);
        if (closing && !posted() && parted) return finish();
      } catch (const Error& error) {
        fail_run(error);
      }
    }
    const bool posted = this->posted();
    idle = any ? 0 : idle + 1;
    if (posted && urgent_.load(std::memory_order_relaxed) > 0 && idle < 4000) {
      // A queue waits for the result.
      std::this_thread::yield();
      continue;
    }
    std::unique_lock lock(mutex_);
    if (woken_) {
      woken_ = false;
      continue;
    }
    // MPI makes progress only when it is called. Without an operation, only the neighbours' messages are waited for.
    const auto pause = failed || (!posted && !closing) ? microseconds(50'000)
                       : idle < 20                     ? microseconds(20)
                                                       : microseconds(200);
    wake_.wait_for(lock, pause, [&] { return woken_ || closing_ != closing; });
    woken_ = false;
  }
  // The streams must not wait for other processes when the devices end.
  cards_->fail(Error(Code::distributed, "the environment has ended"));
  for (int i = 0; i < kPatience && !cards_->gone(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::lock_guard lock(mutex_);
  closed_ = true;
  told_.notify_all();
}

bool Communicator::posted() const {
  for (const Lane& lane : lanes_)
    if (!lane.posted.empty()) return true;
  return !cards_->idle();
}

void Communicator::fail_later(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    given_ = error;
  }
  wake();
}

void Communicator::finish() {
  cards_->finish();
  const int code = mpi_.finalize();
  const std::lock_guard lock(mutex_);
  closed_ = true;
  if (code != 0) failure_ = Error(Code::distributed, "MPI cannot end the run");
  told_.notify_all();
}

bool Communicator::close() {
  std::unique_lock lock(mutex_);
  if (closed_) return !failure_;
  if (failure_) return false;
  closing_ = true;
  woken_ = true;
  wake_.notify_one();
  // The thread notices if a neighbour never says goodbye.
  const auto limit = std::chrono::duration<double>(2 * settings_.timeout);
  told_.wait_for(lock, limit, [this] { return closed_ || failure_.has_value(); });
  return closed_ && !failure_;
}

void Communicator::abort(int code) {
  {
    std::unique_lock lock(mutex_);
    if (started_ && !closed_) {
      aborting_ = code;
      woken_ = true;
      wake_.notify_one();
      told_.wait_for(lock, std::chrono::seconds(2));
    }
  }
  end_process(code);
}

void Communicator::abandon() {
  std::unique_lock lock(mutex_);
  if (closed_ || !started_) return;
  abandoned_ = woken_ = true;
  wake_.notify_one();
  told_.wait_for(lock, std::chrono::milliseconds(1000 + kPatience), [this] { return closed_; });
}

}  // namespace heed::comm
