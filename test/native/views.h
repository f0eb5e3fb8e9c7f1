// Views with awkward strides over memory of exactly their size, and the plain index arithmetic that references use.
#pragma once
#include "check.h"

namespace heed::test {

using Shape = std::vector<int64_t>;

constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16, DType::i32, DType::u8};

inline int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

// The layout of a tensor in memory: row-major; with its last two dimensions swapped; every other element of a row; and,
// for inputs, repeated over the first dimension, over the last one, or over all of them.
enum class Layout { contiguous, transposed, stepped, repeated_first, repeated_last, repeated_all };
constexpr Layout kOutLayouts[] = {Layout::contiguous, Layout::transposed, Layout::stepped};
constexpr Layout kInLayouts[] = {Layout::contiguous,     Layout::transposed,    Layout::stepped,
                                 Layout::repeated_first, Layout::repeated_last, Layout::repeated_all};

// Returns the place in memory of the element with flat row-major index i.
inline int64_t place(const TensorView& view, int64_t i) {
  int64_t at = 0;
  for (int d = view.rank - 1; d >= 0; d--) {
    at += i % view.shape[d] * view.strides[d];
    i /= view.shape[d];
  }
  return at;
}

// dims[k] is the dimension of `view` that becomes the k-th.
inline TensorView permute(const TensorView& view, const std::vector<int>& dims) {
  TensorView result = view;
  for (int k = 0; k < view.rank; k++) {
    result.shape[k] = view.shape[dims[k]];
    result.strides[k] = view.strides[dims[k]];
  }
  return result;
}

template <class T>
class Laid {
 public:
  explicit Laid(const Shape& shape, Layout layout = Layout::contiguous)
      : memory(stored(shape, layout)), view(memory.view) {
    const int last = view.rank - 1;
    if (layout == Layout::transposed && last >= 1) {
      std::swap(view.shape[last], view.shape[last - 1]);
      std::swap(view.strides[last], view.strides[last - 1]);
    }
    for (int d = 0; d <= last; d++) {
      if (layout == Layout::stepped) view.strides[d] = d == last ? 2 : view.strides[d];
      if (view.shape[d] != shape[d]) view.strides[d] = layout == Layout::stepped ? 2 : 0;
      view.shape[d] = shape[d];
    }
  }
  T& at(int64_t i) { return memory[place(view, i)]; }
  const T& at(int64_t i) const { return memory[place(view, i)]; }
  operator const TensorView&() const { return view; }
  // Returns true if the memory between the elements still has this value.
  bool gaps_are(T value) const {
    if (view.numel() == memory.size) return true;
    std::vector<bool> used(static_cast<size_t>(memory.size));
    for (int64_t i = 0; i < view.numel(); i++) used[static_cast<size_t>(place(view, i))] = true;
    for (int64_t i = 0; i < memory.size; i++)
      if (!used[static_cast<size_t>(i)] && memory[i] != value) return false;
    return true;
  }

  Array<T> memory;
  TensorView view;

 private:
  static Shape stored(Shape shape, Layout layout) {
    const size_t rank = shape.size();
    if (layout == Layout::transposed && rank >= 2) std::swap(shape[rank - 1], shape[rank - 2]);
    if (layout == Layout::stepped && rank >= 1) shape[rank - 1] *= 2;
    if (layout == Layout::repeated_first && rank >= 1) shape[0] = 1;
    if (layout == Layout::repeated_last && rank >= 1) shape[rank - 1] = 1;
    if (layout == Layout::repeated_all) shape.assign(rank, 1);
    return shape;
  }
};

// Runs `body` with 1 and 5 threads and restores the number of threads.
template <class Body>
void with_thread_counts(const Body& body) {
  const int before = cpu::thread_count();
  for (const int threads : {1, 5}) {
    cpu::set_thread_count(threads);
    body();
  }
  cpu::set_thread_count(before);
}

}  // namespace heed::test
