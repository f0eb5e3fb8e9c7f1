// Sweeps: an operation over awkward sizes and layouts. test/ops checks its values on every instruction set. Here it
// runs over memory of exactly its operands' sizes, so that AddressSanitizer finds an access beyond the end. The tests
// check that it changes only its outputs, and that its bits are the same with any number of threads.
#pragma once
#include "views.h"

namespace heed::test {

// An operand of an operation: random numbers from `low` to `high`, or integers below `high`.
struct Operand {
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::contiguous;
  float low = -1, high = 1;
  // The part of the tensor that the operation sees, if it is not the whole tensor.
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

  // Runs `call` on the operands. It may change the elements of the first `outputs` and nothing else.
  void check(const char* name, size_t outputs, const std::vector<Operand>& operands, const Call& call);
  // The same with and without accumulation, which must add to f32 outputs exactly the numbers that are written without
  // it.
  void check_accumulating(const char* name, size_t outputs, const std::vector<Operand>& operands,
                          const AccumulatingCall& call);
  // Checks that these bytes are the same in each round.
  void same(const char* name, const void* bytes, size_t size);

 private:
  bool same_in_each_round(const void* bytes, size_t size);
  friend void sweep(Stream& stream, const std::function<void(Sweep&)>& body);
  Stream& stream_;
  std::vector<uint64_t> first_round_;  // hashes
  size_t at_ = 0;
};

// Runs `body` once with 1 and once with 5 threads; the results that it checks must have the same bits in each round.
void sweep(Stream& stream, const std::function<void(Sweep&)>& body);

}  // namespace heed::test
