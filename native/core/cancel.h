// A switch that ends waits. One side calls cancel(); every poll(2) of the other side includes fd().
// Any thread may call any method. Once cancelled it stays so, and the first cause is kept.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "core/unique_fd.h"

namespace nc {

class Cancel {
 public:
  Cancel();
  Cancel(const Cancel&) = delete;
  Cancel& operator=(const Cancel&) = delete;

  // Readable for ever after the first cancel().
  int fd() const { return fd_.get(); }
  void cancel(Error cause);
  bool cancelled() const { return flag_.load(std::memory_order_acquire); }
  // Throws the cause if cancelled.
  void check() const;
  std::optional<Error> cause() const;

 private:
  UniqueFd fd_;
  std::atomic<bool> flag_{false};
  mutable std::mutex mutex_;
  std::optional<Error> cause_;
};

}  // namespace nc
