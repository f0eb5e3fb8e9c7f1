// A stream beside that of a device's kernels, and the way of tensors through it (core/detour.h). Events order the two.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "core/detour.h"
#include "core/host_buffer.h"
#include "cuda/event.h"

namespace heed::cuda {

class Card;
class Stream;
class Watcher;

class SideStream {
 public:
  SideStream(Card& card, CUstream stream);  // takes the stream over
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  // Calls `action` on a thread of its own once everything in the stream so far has run.
  void after(std::function<void(CUresult)> action);
  // Waits for what is in the stream; no action is called afterwards.
  void stop();

  Card& card;
  const Detour::Card described;
  const CUstream stream;

 private:
  std::unique_ptr<Watcher> watcher_;
};

class StreamDetour final : public Detour, public std::enable_shared_from_this<StreamDetour> {
 public:
  // `op` is a string literal. `changed` is called on any thread when the work may begin and when state() has changed.
  StreamDetour(Stream& main, const char* op, std::function<void()> changed);

  // What is enqueued so far computes the input. `left` is signalled when begin() may be called. JavaScript thread, like
  // join().
  void leave(std::shared_ptr<HostBuffer> left);
  // What is enqueued from now on sees the result, or is damaged by the failure. `enqueued` is signalled after end(), or
  // has the error for which there is no end.
  void join(std::shared_ptr<HostBuffer> enqueued);

  const Detour::Card& card() const override { return side_->described; }
  void enter() override;
  void* begin() override;
  void end() override;
  void fail(const Error& error) override;
  std::optional<Error> failure() const override;
  State state() const override { return state_.load(std::memory_order_acquire); }

 private:
  void reach(State state, CUresult result);

  Stream& main_;
  const std::shared_ptr<SideStream> side_;
  const char* const op_;
  const std::function<void()> changed_;
  Event input_, output_;
  std::atomic<State> state_{State::waiting};
  mutable std::mutex mutex_;
  std::optional<Error> failure_;
};

}  // namespace heed::cuda
