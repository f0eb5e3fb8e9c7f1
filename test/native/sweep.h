// Sweeps: an operation over awkward sizes and layouts. What values it gives is proved by test/ops, on every instruction
// set; here it runs over memory of exactly its operands' sizes, where AddressSanitizer sees one element too many, it
// leaves alone what is not its output's, and its bits are the same with any number of threads.
#pragma once
#include "views.h"

namespace heed::test {

// A tensor that an operation is given: random numbers from `low` to `high`, integers below `high`.
struct Operand {
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::contiguous;
  float low = -1, high = 1;
  // What the operation sees of the tensor, where that is not all of it.
  std::function<TensorView(const TensorView&)> window = nullptr;
};
using Views = std::vector<TensorView>;

inline Operand integers(const Shape& shape, int64_t below, int64_t from = 0) {
  return {shape, DType::i32, Layout::contiguous, static_cast<float>(from), static_cast<float>(below)};
}

class Sweep {
 public:
  using Call = std::function<void(const Views&)>;
  using AccumulatingCall = std::function<void(const Views&, bool accumulate)>;

  explicit Sweep(Stream& stream) : stream_(stream) {}

  // Runs `call` on the operands, of which it may change the elements of the first `outputs` and nothing else.
  void check(const char* name, size_t outputs, const std::vector<Operand>& operands, const Call& call);
  // The same with and without accumulation, which must add to f32 outputs the very numbers that are written without it.
  void check_accumulating(const char* name, size_t outputs, const std::vector<Operand>& operands,
                          const AccumulatingCall& call);
  // Bytes that must be the same in each round.
  void same(const char* name, const void* bytes, size_t size);

 private:
  bool same_in_each_round(const void* bytes, size_t size);
  friend void sweep(Stream& stream, const std::function<void(Sweep&)>& body);
  Stream& stream_;
  std::vector<uint64_t> first_round_;  // hashes
  size_t at_ = 0;
};

// Runs `body` once with 1 and with 5 threads; what it checks must have the same bits in each round.
void sweep(Stream& stream, const std::function<void(Sweep&)>& body);

}  // namespace heed::test
