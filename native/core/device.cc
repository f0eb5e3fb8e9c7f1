#include "core/device.h"

#include <utility>

#include "core/error.h"

namespace heed {

Owner::~Owner() = default;
Graph::Work::~Work() = default;

Graph::Graph(Device& device, std::vector<Storage*> used, std::vector<Block> held)
    : device_(device), used_(std::move(used)), held_(std::move(held)) {}

Graph::~Graph() {
  work_.reset();
  device_.allocator().give_back(held_);
  for (Storage* storage : used_) device_.release(storage);
}

void Graph::launch() { work_->launch(device_.log_.begin_graph(recording_)); }

Timer::~Timer() = default;

Device::Device(Backend backend) : backend(backend) {}
Device::~Device() = default;

Storage* Device::create_storage(size_t bytes, const char* op) {
  auto* storage = new Storage{this, allocator().allocate(bytes, op), 1, 0};
  log_.add(storage);
  if (capturing_) {
    storage->capture = captures_;
    made_.insert(storage);
  }
  return storage;
}

Storage* Device::adopt_storage(void* data, size_t bytes, std::unique_ptr<Owner> owner) {
  auto* storage = new Storage{this, Block{data, bytes, bytes}, 1, 0};
  storage->owner = std::move(owner);
  log_.add(storage);
  if (capturing_) keep(storage);  // the graph may use it, and no allocator would hold its memory back
  return storage;
}

void Device::release(Storage* storage) {
  if (--storage->references > 0) return;
  if (capturing_) made_.erase(storage);
  log_.remove(storage);
  if (storage->owner)
    left_.push_back(std::move(storage->owner));
  else
    allocator().free(storage->block);
  delete storage;
  if (!capturing_) let_owners_go();
}

void Device::let_owners_go() {
  for (auto& owner : std::exchange(left_, {})) {
    if (let_go)
      let_go(std::move(owner));
    else
      wait_idle();
  }
}

void Device::keep(Storage* storage) {
  storage->capture = captures_;
  retain(storage);
  used_.push_back(storage);
}

void Device::expect_not_capturing(const char* op) const {
  if (capturing_) fail(Code::argument, "%s: expected no graph to be captured at the same time", op);
}

void Device::begin_capture() {
  expect_not_capturing("capture");
  start_recording();
  log_.begin_recording();
  allocator().begin_hold();
  capturing_ = true;
  captures_++;
}

std::unique_ptr<Graph> Device::end_capture() {
  if (!capturing_) fail(Code::argument, "capture: expected begin_capture before end_capture");
  for (Storage* storage : made_) keep(storage);
  made_.clear();
  capturing_ = false;
  // If the backend fails, the graph gives back what it has.
  auto graph = std::make_unique<Graph>(*this, std::exchange(used_, {}), allocator().end_hold());
  graph->recording_ = log_.end_recording();
  graph->work_ = finish_recording();
  let_owners_go();
  return graph;
}

}  // namespace heed
