// Tests storages over memory that belongs to someone else: its owner lives until the queue no longer uses the memory,
// whatever is released in which order, also with graphs. The memory has exactly the bytes of the tensors, so that
// AddressSanitizer sees an access beside it or after its end.
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include "check.h"

namespace heed::test {
namespace {

// Memory from malloc that is freed with its owner.
class Owned final : public Owner {
 public:
  Owned(size_t count, int& alive, bool read_only = false) : Owner(read_only), data(new float[count]), alive_(alive) {
    alive_++;
  }
  ~Owned() override { alive_--; }
  const std::unique_ptr<float[]> data;

 private:
  int& alive_;
};

// Keeps owners until it is told that the queue has come to them, as an environment does.
struct Environment {
  explicit Environment(Stream& stream) : stream(stream) {
    stream.let_go = [this](std::unique_ptr<Owner> owner) { left.push_back(std::move(owner)); };
  }
  ~Environment() {
    settle();
    stream.let_go = nullptr;
  }
  void settle() {
    stream.wait_idle();
    left.clear();
  }
  Stream& stream;
  std::vector<std::unique_ptr<Owner>> left;
};

TensorView vector_of(void* data, int64_t count) {
  TensorView view;
  view.data = data;
  view.rank = 1;
  view.shape[0] = count;
  view.strides[0] = 1;
  return view;
}

struct Foreign {
  Foreign(Stream& stream, int64_t count, int& alive) {
    auto owner = std::make_unique<Owned>(static_cast<size_t>(count), alive);
    view = vector_of(owner->data.get(), count);
    storage = stream.adopt_storage(view.data, static_cast<size_t>(count) * sizeof(float), std::move(owner));
  }
  TensorView view;
  Storage* storage;
};

}  // namespace

TEST(foreign_memory_lives_until_the_queue_has_used_it) {
  Environment environment(stream);
  constexpr int64_t kCount = 1237;
  int alive = 0;
  const int64_t live = stream.allocator().stats().live;
  Foreign a(stream, kCount, alive), b(stream, kCount, alive);
  EXPECT(stream.allocator().stats().live == live);
  std::atomic<bool> go{false};
  stream.launch("wait", [&go] {
    while (!go) std::this_thread::yield();
  });
  ops.fill(stream, a.view, 3);
  ops.unary(stream, b.view, a.view, static_cast<int64_t>(UnaryKind::square));
  stream.retain(b.storage);
  stream.release(a.storage);
  stream.release(b.storage);
  EXPECT(alive == 2 && environment.left.size() == 1);
  go = true;
  environment.settle();
  EXPECT(alive == 1);
  for (int64_t i = 0; i < kCount; i++) EXPECT(b.view.f32()[i] == 9);
  stream.release(b.storage);
  environment.settle();
  EXPECT(alive == 0);
}

TEST(foreign_memory_without_an_environment_is_let_go_after_the_queue) {
  int alive = 0;
  Foreign a(stream, 64, alive);
  stream.launch("wait", [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  ops.fill(stream, a.view, 1);
  stream.release(a.storage);
  EXPECT(alive == 0);
}

TEST(a_graph_keeps_foreign_memory_that_it_uses) {
  Environment environment(stream);
  int alive = 0;
  Foreign a(stream, 33, alive), unused(stream, 8, alive);
  stream.begin_capture();
  stream.use(a.storage);
  ops.fill(stream, a.view, 5);
  Foreign made(stream, 33, alive);
  stream.use(made.storage);
  ops.unary(stream, made.view, a.view, static_cast<int64_t>(UnaryKind::neg));
  for (Storage* storage : {a.storage, made.storage, unused.storage}) stream.release(storage);
  // Nothing may be enqueued for an owner while a graph is captured.
  EXPECT(alive == 3 && environment.left.empty());
  auto graph = stream.end_capture();
  EXPECT(environment.left.size() == 1);
  environment.settle();
  EXPECT(alive == 2);
  std::memset(made.view.data, 0, 33 * sizeof(float));
  graph->launch();
  graph->launch();
  stream.wait_idle();
  for (int64_t i = 0; i < 33; i++) EXPECT(made.view.f32()[i] == -5);
  graph->launch();
  graph.reset();
  EXPECT(alive == 2);
  environment.settle();
  EXPECT(alive == 0);
}

}  // namespace heed::test
