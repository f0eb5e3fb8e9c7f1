// Sweeps: tensors in memory of exactly their sizes, and the parts of it that may change.
#include "sweep.h"

#include <algorithm>
#include <cstring>

#include "dtypes.h"

namespace heed::test {
namespace {

class Tensor {
 public:
  Tensor(const Operand& operand, Random& random) : layout_(operand.shape, operand.layout) {
    const int64_t n = layout_.memory.size;
    element_ = size_of(operand.dtype);
    memory_.reset(new char[static_cast<size_t>(n) * element_]);
    for (int64_t i = 0; i < n; i++) put(operand, i, random.uniform(operand.low, operand.high));
    bytes_.assign(memory_.get(), memory_.get() + static_cast<size_t>(n) * element_);
    view = layout_.view;
    view.dtype = operand.dtype;
    view.data = memory_.get();
    if (operand.window) view = operand.window(view);
  }

  size_t size() const { return bytes_.size(); }
  const char* data() const { return memory_.get(); }
  const float* before() const { return reinterpret_cast<const float*>(bytes_.data()); }
  const float* after() const { return reinterpret_cast<const float*>(memory_.get()); }

  bool whole() const { return static_cast<size_t>(view.numel()) * element_ == size(); }
  // Returns the elements of the memory that belong to the view.
  std::vector<bool> used() const {
    std::vector<bool> used(bytes_.size() / element_);
    const size_t first = static_cast<size_t>(view.ptr<char>() - memory_.get()) / element_;
    for (int64_t i = 0; i < view.numel(); i++) used[first + static_cast<size_t>(place(view, i))] = true;
    return used;
  }
  // Returns true if all elements but the view's are unchanged; with `all` the view's must be unchanged too.
  bool untouched(bool all) const {
    if (size() == 0 || (!all && whole()) || std::memcmp(data(), bytes_.data(), size()) == 0) return true;
    if (all) return false;
    const std::vector<bool> mine = used();
    for (size_t i = 0; i < size(); i++)
      if (!mine[i / element_] && data()[i] != bytes_[i]) return false;
    return true;
  }

  TensorView view;

 private:
  void put(const Operand& operand, int64_t i, float number) {
    char* to = memory_.get() + static_cast<size_t>(i) * element_;
    const auto store = [to](auto value) { std::memcpy(to, &value, sizeof value); };
    switch (operand.dtype) {
      case DType::f32:
        return store(number);
      case DType::bf16:
      case DType::f16:
        return store(encode(operand.dtype, converted(operand.dtype, static_cast<double>(number))));
      case DType::i32:
        return store(static_cast<int32_t>(std::floor(number)));
      case DType::u8:
        return store(static_cast<uint8_t>(std::floor(number)));
    }
  }

  Laid<uint8_t> layout_;
  size_t element_;
  std::unique_ptr<char[]> memory_;
  std::vector<char> bytes_;  // content of the memory before anything ran
};

std::string describe(const char* name, const std::vector<Operand>& operands) {
  std::string text = name;
  for (const Operand& operand : operands) {
    text += operands.data() == &operand ? " of [" : ", [";
    for (size_t d = 0; d < operand.shape.size(); d++) text += (d ? ", " : "") + std::to_string(operand.shape[d]);
    text += std::string("] ") + name_of(operand.dtype);
    if (operand.layout != Layout::contiguous) text += " in layout " + std::to_string(static_cast<int>(operand.layout));
  }
  return text;
}

std::vector<Tensor> run(Stream& stream, const char* name, size_t outputs, const std::vector<Operand>& operands,
                        const Sweep::Call& call) {
  Random random(operands.size());
  std::vector<Tensor> tensors;
  Views views;
  for (const Operand& operand : operands) views.push_back(tensors.emplace_back(operand, random).view);
  call(views);
  const std::string error = synchronize(stream);
  if (!error.empty()) report("%s failed on the device: %s", describe(name, operands).c_str(), error.c_str());
  for (size_t k = 0; k < tensors.size(); k++)
    if (!tensors[k].untouched(k >= outputs))
      report("%s wrote what is not its output's in operand %zu", describe(name, operands).c_str(), k);
  return tensors;
}

}  // namespace

void Sweep::check(const char* name, size_t outputs, const std::vector<Operand>& operands, const Call& call) {
  const std::vector<Tensor> tensors = run(stream_, name, outputs, operands, call);
  for (size_t k = 0; k < outputs; k++)
    if (!same_in_each_round(tensors[k].data(), tensors[k].size()))
      report("%s is not the same with %d threads as with one", describe(name, operands).c_str(), cpu::thread_count());
}

void Sweep::check_accumulating(const char* name, size_t outputs, const std::vector<Operand>& operands,
                               const AccumulatingCall& call) {
  std::vector<Tensor> tensors[2];
  for (const bool accumulate : {false, true}) {
    tensors[accumulate] = run(stream_, name, outputs, operands, [&](const Views& views) { call(views, accumulate); });
    for (size_t k = 0; k < outputs; k++)
      if (!same_in_each_round(tensors[accumulate][k].data(), tensors[accumulate][k].size()))
        report("%s is not the same with %d threads as with one", describe(name, operands).c_str(), cpu::thread_count());
  }
  for (size_t k = 0; k < outputs; k++) {
    if (operands[k].dtype != DType::f32) continue;
    const Tensor &written = tensors[0][k], &added = tensors[1][k];
    const bool whole = written.whole();
    const std::vector<bool> used = whole ? std::vector<bool>() : written.used();
    for (size_t i = 0; i < written.size() / sizeof(float); i++) {
      const float expected = added.before()[i] + written.after()[i], got = added.after()[i];
      if (got == expected || std::isnan(expected) || !(whole || used[i])) continue;
      report("%s adds other numbers than it writes", describe(name, operands).c_str());
      break;
    }
  }
}

void Sweep::same(const char* name, const void* bytes, size_t size) {
  if (!same_in_each_round(bytes, size))
    report("%s is not the same with %d threads as with one", name, cpu::thread_count());
}

bool Sweep::same_in_each_round(const void* bytes, size_t size) {
  const char* from = static_cast<const char*>(bytes);
  uint64_t hash = size;
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, from + i, std::min(size - i, sizeof word));
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 32;
  }
  if (at_ == first_round_.size()) first_round_.push_back(hash);
  return first_round_[at_++] == hash;
}

void sweep(Stream& stream, const std::function<void(Sweep&)>& body) {
  Sweep rounds(stream);
  with_thread_counts([&] {
    rounds.at_ = 0;
    body(rounds);
  });
}

}  // namespace heed::test
