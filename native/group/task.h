// One operation on its way through a group.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "core/deadline.h"
#include "core/error.h"
#include "core/operation.h"
#include "nccl/device_runtime.h"

namespace nc::group {

// What an operation on the device has more than one on the CPU.
struct DevicePart {
  nccl::DevicePtr in = 0;
  nccl::DevicePtr out = 0;
  nccl::StreamHandle stream = nullptr;  // the caller's; the group's own where `ownStream`
  bool ownStream = true;
  // Data are in host memory, Task::in and Task::out, and go through pinned memory.
  bool staged = false;
  // The caller is done once it is on the stream.
  bool untilEnqueued = false;
  // Sends and receives of one batch go to the device together; 0 for what goes alone. Given by submit().
  uint64_t batch = 0;
  // Memory and stream: kept until the device has done with them. Released on any thread.
  std::shared_ptr<void> keep;
};

// The caller owns the memory until finish(); that of the device part belongs to `keep`.
class Task {
 public:
  virtual ~Task() = default;
  // The operation has ended; `error` is null if it succeeded. Takes the task over.
  virtual void finish(std::unique_ptr<Task> self, const Error* error) noexcept = 0;

  Stamp stamp;               // seq is given by submit(),
  Clock::time_point called;  // and so is this
  Deadline deadline = Deadline::never();
  const void* in = nullptr;
  void* out = nullptr;
  uint64_t tag = 0;        // of send and recv
  bool firstSent = false;  // see gloo::Collectives::firstMessage(); for a send, all of it
  std::optional<DevicePart> device;
};

// Task::finish() of a task that is given away in the same breath.
inline void finish(std::unique_ptr<Task> task, const Error* error) noexcept {
  Task& ended = *task;
  ended.finish(std::move(task), error);
}

// The group's failure as the error of one operation: of that one, where the failure interrupted none itself.
inline Error ofOperation(Error failure, const Stamp& stamp) {
  if (!failure.facts.op.empty()) return failure;
  failure.facts.op = name(stamp.kind);
  if (stamp.seq > 0) failure.facts.seq = static_cast<int64_t>(stamp.seq);
  return failure;
}

}  // namespace nc::group
