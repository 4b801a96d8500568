// What a group has done: its last operations, one by one, and all of them in numbers. Always on, so every
// method that an operation meets takes well under a tenth of a microsecond.
//
// Whoever runs operations says begun() and ended(), once each, whatever the path (Gloo's, NCCL's, ...).
// Several may run at a time. Any thread may call any method.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/deadline.h"
#include "core/error.h"
#include "core/histogram.h"
#include "core/operation.h"

namespace nc::group {

enum class OperationState : uint8_t { kQueued, kRunning, kDone, kFailed };
const char* name(OperationState state) noexcept;

struct OperationRecord {
  Stamp stamp;
  uint64_t bytes = 0;  // that this rank contributes; 0 for a barrier
  OperationState state = OperationState::kQueued;
  const char* path = nullptr;  // how it ran, a static text; known at its end
  Clock::time_point called;    // when it was handed to the group
  std::optional<Clock::time_point> begun;
  std::optional<Clock::time_point> ended;
  // Of its running: for messages of other ranks. Not known of what runs on a device, nor of messages.
  std::optional<Clock::duration> waited;
  std::optional<ErrorCode> error;  // how it failed,
  std::vector<int> missing;        // and who had not come
};

struct KindCounters {
  uint64_t failed = 0;
  uint64_t bytes = 0;        // of those that succeeded
  Clock::duration waited{};  // as in OperationRecord, where it is known
  Histogram latency;         // of those that succeeded: ns from called to ended
};

struct Counters {
  std::map<OpKind, KindCounters> kinds;
  std::map<ErrorCode, uint64_t> failures;
};

class Recorder {
 public:
  static constexpr size_t kKept = 256;

  // `size`: ranks of the group.
  explicit Recorder(int size) : size_(static_cast<uint64_t>(size)) {}

  // A record of an operation that waits for its turn.
  OperationRecord queued(const Stamp& stamp, Clock::time_point called) const;
  // Its turn has come.
  void begun(const Stamp& stamp, Clock::time_point called);
  // It is over; `error` is null if it succeeded. An operation that never began is given whole.
  void ended(uint64_t seq, const char* path, std::optional<Clock::duration> waited, const Error* error);
  // The same for a message, which has a number of its own sort.
  void messageEnded(const Stamp& stamp, const char* path, const Error* error);
  void dropped(const Stamp& stamp, Clock::time_point called, const Error& error);

  // The last kKept that have ended, then those that run.
  std::vector<OperationRecord> operations() const;
  // The operation of all ranks of that number, if it is among them.
  std::optional<OperationRecord> find(uint64_t seq) const;
  Counters counters() const;
  size_t running() const;

 private:
  template <typename Which>
  void close(Which which, const char* path, std::optional<Clock::duration> waited, const Error* error);
  void keep(OperationRecord record, const Error* error);

  const uint64_t size_;
  mutable std::mutex mutex_;
  std::vector<OperationRecord> running_;  // oldest first; one, but for devices
  std::vector<OperationRecord> ended_;    // a ring
  size_t next_ = 0;                       // where the next one goes, once it is full
  std::array<std::unique_ptr<KindCounters>, static_cast<size_t>(kLastOpKind) + 1> kinds_;
  std::map<ErrorCode, uint64_t> failures_;
};

}  // namespace nc::group
