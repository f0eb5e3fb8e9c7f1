#include "cuda/detour.h"

#include <cstdio>
#include <utility>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/stream.h"
#include "cuda/watcher.h"

namespace heed::cuda {
namespace {

// Returns a card's address on the buses of its machine, or "" if the driver does not know it.
std::string place_of(const Card& card) {
  int domain = 0, bus = 0, device = 0;
  const auto ask = [&](CUdevice_attribute attribute, int* value) {
    return driver()->device_get_attribute(value, attribute, card.device) == CUDA_SUCCESS;
  };
  if (!ask(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, &domain) || !ask(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, &bus) ||
      !ask(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, &device))
    return "";
  char text[64];
  std::snprintf(text, sizeof text, "%04x:%02x:%02x", static_cast<unsigned>(domain), static_cast<unsigned>(bus),
                static_cast<unsigned>(device));
  return text;
}

}  // namespace

SideStream::SideStream(Card& card, CUstream stream)
    : card(card),
      described{"cuda:" + std::to_string(card.index), place_of(card)},
      stream(stream),
      watcher_(std::make_unique<Watcher>(card)) {}

SideStream::~SideStream() {
  stop();
  driver()->stream_destroy(stream);
}

void SideStream::after(std::function<void(CUresult)> action) { watcher_->after(stream, std::move(action)); }

void SideStream::stop() { watcher_->stop(stream); }

const std::shared_ptr<SideStream>& Stream::side(const char* op) {
  if (!driver()->stream_wait_event)
    fail(Code::cuda, "%s: the CUDA driver lacks cuStreamWaitEvent: expected a driver of CUDA 11.4 or later", op);
  card_.make_current(op);
  if (!side_) side_ = std::make_shared<SideStream>(card_, make_stream(op));
  return side_;
}

StreamDetour::StreamDetour(Stream& main, const char* op, std::function<void()> changed)
    : main_(main),
      side_(main.side(op)),
      op_(op),
      changed_(std::move(changed)),
      input_(op, CU_EVENT_DISABLE_TIMING),
      output_(op, CU_EVENT_DISABLE_TIMING) {}

void StreamDetour::leave(std::shared_ptr<HostBuffer> left) {
  const auto body = [self = shared_from_this(), left = std::move(left)] {
    const CUresult result = driver()->event_record(self->input_.event, self->main_.stream_);
    if (result != CUDA_SUCCESS) self->fail(error_of(result, self->op_, "recording an event"));
    left->signal();
    self->changed_();
  };
  side_->card.make_current(op_);
  if (main_.direct())
    body();
  else
    main_.later(body, main_.fail_operation());
}

void StreamDetour::join(std::shared_ptr<HostBuffer> enqueued) {
  const auto self = shared_from_this();
  const auto body = [self, enqueued] {
    try {
      enqueued->wait();
    } catch (const Error& error) {
      return self->fail(error);  // also at the end of the environment, after which nobody reads the result
    }
    expect_success(driver()->stream_wait_event(self->main_.stream_, self->output_.event, 0), self->op_,
                   "waiting for the result");
  };
  side_->card.make_current(op_);
  if (main_.direct() && enqueued->ready())
    body();
  else
    main_.later(body, main_.fail_operation());
  // If the work was given up, the stream goes on without a result.
  main_.after([self, operation = main_.operation_](CUresult) {
    if (const auto failure = self->failure()) self->main_.failures_.push_back({operation, -1, *failure});
  });
}

void StreamDetour::enter() { side_->card.make_current(op_); }

void* StreamDetour::begin() {
  enter();
  if (const auto known = failure()) throw *known;
  expect_success(driver()->stream_wait_event(side_->stream, input_.event, 0), op_, "waiting for the input");
  side_->after([self = shared_from_this()](CUresult result) { self->reach(State::running, result); });
  return side_->stream;
}

void StreamDetour::end() {
  enter();
  expect_success(driver()->event_record(output_.event, side_->stream), op_, "recording an event");
  side_->after([self = shared_from_this()](CUresult result) { self->reach(State::ended, result); });
}

void StreamDetour::reach(State state, CUresult result) {
  if (result != CUDA_SUCCESS) fail(error_of(result, op_, "running the enqueued work"));
  state_.store(state, std::memory_order_release);
  changed_();
}

void StreamDetour::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
}

std::optional<Error> StreamDetour::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace heed::cuda
