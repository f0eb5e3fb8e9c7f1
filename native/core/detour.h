// The way of tensors through a stream beside their device's queue, on which another library enqueues work. It leaves
// the queue where the input is computed and joins it again where the result is used. In between, the queue goes on.
//
// A backend makes it on the JavaScript thread, and one other thread calls begin() and end().
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "core/error.h"

namespace heed {

class Detour {
 public:
  // State of the work: its input is not computed yet, it runs, or it has run.
  enum class State : uint8_t { waiting, running, ended };

  struct Card {
    std::string name;   // such as "cuda:0"
    std::string place;  // where the card is in its machine, the same text in every process; "" if nobody knows
  };

  virtual ~Detour() = default;
  virtual const Card& card() const = 0;
  // Makes the card the one that the calling thread uses. Throws ERR_CUDA.
  virtual void enter() = 0;
  // Lets the stream wait for the input, and returns it: a CUstream. Throws ERR_CUDA.
  virtual void* begin() = 0;
  // Called when the work is in the stream. Throws ERR_CUDA.
  virtual void end() = 0;
  // Damages the result. Any thread, like the functions that follow.
  virtual void fail(const Error& error) = 0;
  virtual std::optional<Error> failure() const = 0;
  virtual State state() const = 0;
};

}  // namespace heed
