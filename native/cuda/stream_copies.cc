// A stream's copies: between the device and the host, through pinned memory, and between devices.
#include <algorithm>
#include <cstring>

#include "cuda/card.h"
#include "cuda/check.h"
#include "cuda/event.h"
#include "cuda/peers.h"
#include "cuda/staging.h"
#include "cuda/stream.h"
#include "cuda/submitter.h"
#include "cuda/watcher.h"

namespace heed::cuda {

// Pinned memory that is given back when the last action that uses it has run or was dropped.
class Stream::Staged {
 public:
  Staged(Staging& staging, Staging::Block block) : staging_(staging), block_(block) {}
  ~Staged() { staging_.give(block_); }
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  void* data() const { return block_.data; }
  size_t bytes() const { return block_.bytes; }

 private:
  Staging& staging_;
  const Staging::Block block_;
};

size_t Stream::put(const char* op, char* destination, const char* source, size_t bytes,
                   const std::shared_ptr<Staged>& staged, const std::shared_ptr<void>& kept) {
  const size_t size = std::min(bytes, staged->bytes());
  std::memcpy(staged->data(), source, size);
  finish(driver()->memcpy_htod_async(address(destination), staged->data(), size, stream_), op, "copying to the device");
  enqueued();
  watcher_->after(stream_, [staged, kept](CUresult) {});
  return size;
}

size_t Stream::get(const char* op, const char* source, size_t offset, size_t bytes,
                   const std::shared_ptr<Staged>& staged, const Taken& taken) {
  const size_t size = std::min(bytes - offset, staged->bytes());
  finish(driver()->memcpy_dtoh_async(staged->data(), address(source + offset), size, stream_), op,
         "copying from the device");
  enqueued();
  watcher_->after(stream_, [=](CUresult result) { taken(result, offset, staged->data(), size); });
  return size;
}

void Stream::copy_in(const char* op, char* destination, const char* source, size_t bytes,
                     const std::shared_ptr<void>& kept) {
  for (size_t offset = 0; offset < bytes && !submitter_->stopping();) {
    const auto staged = std::make_shared<Staged>(*staging_, staging_->take(bytes - offset, op));
    offset += put(op, destination + offset, source + offset, bytes - offset, staged, kept);
  }
}

void Stream::copy_out(const char* op, const char* source, size_t bytes, const Taken& taken, const Failed& failed) {
  size_t begin = 0;
  while (begin < bytes && direct()) {
    const Staging::Block block = staging_->try_take(bytes - begin);
    if (!block.data) break;
    begin += get(op, source, begin, bytes, std::make_shared<Staged>(*staging_, block), taken);
  }
  if (begin < bytes) later([=] { copy_out_from(op, source, begin, bytes, taken); }, failed);
}

void Stream::copy_out_from(const char* op, const char* source, size_t begin, size_t bytes, const Taken& taken) {
  for (size_t offset = begin; offset < bytes && !submitter_->stopping();) {
    const auto staged = std::make_shared<Staged>(*staging_, staging_->take(bytes - offset, op));
    offset += get(op, source, offset, bytes, staged, taken);
  }
}

void Stream::upload(void* destination, const void* source, size_t bytes) {
  const char* op = "upload";
  expect_not_capturing(op);
  card_.make_current(op);
  struct Waiting {
    Uploads::Share share;
    std::unique_ptr<char[]> data;  // ordinary memory, because a call that waits for its turn has no pinned memory
  };
  for (size_t offset = 0; offset < bytes; offset += Uploads::kPiece) {
    const size_t size = std::min(bytes - offset, Uploads::kPiece);
    const auto waiting = std::make_shared<Waiting>(Waiting{Uploads::Share(uploads_, size), nullptr});
    char* const to = static_cast<char*>(destination) + offset;
    const char* const from = static_cast<const char*>(source) + offset;
    const Staging::Block block = direct() ? staging_->try_take(size) : Staging::Block{};
    if (block.data) {
      put(op, to, from, size, std::make_shared<Staged>(*staging_, block), waiting);
    } else {
      waiting->data.reset(new char[size]);
      std::memcpy(waiting->data.get(), from, size);
      later([=] { copy_in(op, to, waiting->data.get(), size, waiting); }, fail_operation());
    }
  }
}

void Stream::download(void* destination, const void* source, size_t bytes) {
  const char* op = "read";
  expect_not_capturing(op);
  card_.make_current(op);
  copy_out(
      op, static_cast<const char*>(source), bytes,
      [destination](CUresult result, size_t offset, const void* data, size_t size) {
        if (result == CUDA_SUCCESS) std::memcpy(static_cast<char*>(destination) + offset, data, size);
      },
      fail_reads());
}

void Stream::send(std::shared_ptr<HostBuffer> to, const void* source) {
  const char* op = "send";
  const auto signal = std::make_shared<Signal>(to);
  expect_not_capturing(op);
  card_.make_current(op);
  const auto* from = static_cast<const char*>(source);
  const Taken taken = [signal, op](CUresult result, size_t offset, const void* data, size_t size) {
    if (result == CUDA_SUCCESS)
      std::memcpy((**signal).data() + offset, data, size);
    else
      (**signal).fail(error_of(result, op, "copying from the device"));
  };
  const Failed failed = [signal](const Error& error) { (**signal).fail(error); };
  if (direct() && sending_.has_room(to->bytes)) {
    to->open(sending_);
    return copy_out(op, from, to->bytes, taken, failed);
  }
  const auto body = [=] {
    (**signal).open(sending_);
    copy_out_from(op, from, 0, (**signal).bytes, taken);
  };
  later(body, failed);
}

void Stream::receive(std::shared_ptr<HostBuffer> from, void* destination, Uploads::Share share) {
  const char* op = "receive";
  expect_not_capturing(op);
  card_.make_current(op);
  const auto kept = std::make_shared<Uploads::Share>(std::move(share));
  const auto body = [=] {
    from->wait();
    if (from->data()) copy_in(op, static_cast<char*>(destination), from->data(), from->bytes, kept);
  };
  later(body, fail_operation());
}

bool Stream::copy_from(Device& from, void* destination, const void* source, size_t bytes, const Signals& signals) {
  if (from.backend != Backend::cuda) return false;
  auto& sender = static_cast<Stream&>(from);
  if (!can_read(card_, sender.card_)) return false;
  const char* op = "copy";
  const CUcontext there = sender.card_.make_current(op);
  const auto ready = std::make_shared<Event>(op, CU_EVENT_DISABLE_TIMING);
  const CUcontext here = card_.make_current(op);
  const auto copied = std::make_shared<Event>(op, CU_EVENT_DISABLE_TIMING);
  const Driver& d = *driver();
  const CUstream stream = stream_, source_stream = sender.stream_;
  const auto& [recorded, enqueued, told] = signals;
  const auto record = [=, &d] {
    expect_success(d.event_record(ready->event, source_stream), op, "recording an event");
  };
  const auto copy = [=, &d] {
    expect_success(d.stream_wait_event(stream, ready->event, 0), op, "waiting for another device");
    expect_success(d.memcpy_peer_async(address(destination), here, address(source), there, bytes, stream), op,
                   "copying between devices");
    expect_success(d.event_record(copied->event, stream), op, "recording an event");
  };
  // The sender's next writes to this memory must not overtake the copy.
  const auto wait = [=, &d] {
    expect_success(d.stream_wait_event(source_stream, copied->event, 0), op, "waiting for another device");
  };
  sender.in_turn(op, record, nullptr, std::make_shared<Signal>(recorded));
  in_turn(op, copy, recorded, std::make_shared<Signal>(enqueued));
  sender.in_turn(op, wait, enqueued, nullptr);
  // No copy may be read before the log knows what had failed on the sender.
  sender.after([signal = std::make_shared<Signal>(told)](CUresult) {});
  after([told = told](CUresult) {
    try {
      told->wait();
    } catch (const Error&) {
      // The environment has ended.
    }
  });
  return true;
}

void Stream::in_turn(const char* op, std::function<void()> body, const std::shared_ptr<HostBuffer>& before,
                     std::shared_ptr<Signal> then) {
  card_.make_current(op);
  if (direct() && (!before || before->ready())) return body();
  const auto waiting = [body = std::move(body), before, then = std::move(then)] {
    if (before) before->wait();
    body();
  };
  later(waiting, fail_operation());
}

}  // namespace heed::cuda
