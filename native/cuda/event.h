// A point in a stream that other streams can wait for.
#pragma once
#include "cuda/check.h"
#include "cuda/driver.h"

namespace heed::cuda {

class Event {
 public:
  Event(const char* op, unsigned flags) {
    expect_success(driver()->event_create(&event, flags), op, "making an event");
  }
  ~Event() { driver()->event_destroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CUevent event = nullptr;
};

}  // namespace heed::cuda
