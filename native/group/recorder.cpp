#include "group/recorder.h"

#include <algorithm>
#include <utility>

namespace nc::group {

const char* name(OperationState state) noexcept {
  switch (state) {
    case OperationState::kQueued:
      return "queued";
    case OperationState::kRunning:
      return "running";
    case OperationState::kDone:
      return "done";
    case OperationState::kFailed:
      return "failed";
  }
  return "unknown";
}

OperationRecord Recorder::queued(const Stamp& stamp, Clock::time_point called) const {
  OperationRecord record;
  record.stamp = stamp;
  record.called = called;
  if (stamp.kind != OpKind::kBarrier) record.bytes = stamp.count * elementSize(stamp.dtype);
  // These count in blocks, one for each rank.
  if (stamp.kind == OpKind::kReduceScatter || stamp.kind == OpKind::kAllToAll) record.bytes *= size_;
  return record;
}

void Recorder::begun(const Stamp& stamp, Clock::time_point called) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  OperationRecord& record = running_.emplace_back(queued(stamp, called));
  record.state = OperationState::kRunning;
  record.begun = now;
}

void Recorder::ended(uint64_t seq, const char* path, std::optional<Clock::duration> waited,
                     const Error* error) {
  close([&](const Stamp& stamp) { return stamp.seq == seq && !isMessage(stamp); }, path, waited, error);
}

void Recorder::messageEnded(const Stamp& message, const char* path, const Error* error) {
  close([&](const Stamp& stamp) { return stamp == message; }, path, std::nullopt, error);
}

template <typename Which>
void Recorder::close(Which which, const char* path, std::optional<Clock::duration> waited,
                     const Error* error) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  const auto at =
      std::find_if(running_.begin(), running_.end(), [&](const auto& each) { return which(each.stamp); });
  if (at == running_.end()) return;
  OperationRecord record = std::move(*at);
  running_.erase(at);
  record.path = path;
  record.ended = now;
  record.waited = waited;
  keep(std::move(record), error);
}

void Recorder::dropped(const Stamp& stamp, Clock::time_point called, const Error& error) {
  OperationRecord record = queued(stamp, called);
  record.ended = Clock::now();
  const std::lock_guard lock(mutex_);
  keep(std::move(record), &error);
}

void Recorder::keep(OperationRecord record, const Error* error) {
  record.state = error == nullptr ? OperationState::kDone : OperationState::kFailed;
  std::unique_ptr<KindCounters>& kind = kinds_[static_cast<size_t>(record.stamp.kind)];
  if (!kind) kind = std::make_unique<KindCounters>();
  kind->waited += record.waited.value_or(Clock::duration::zero());
  if (error == nullptr) {
    kind->bytes += record.bytes;
    const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(*record.ended - record.called);
    kind->latency.add(static_cast<uint64_t>(std::max<int64_t>(took.count(), 0)));
  } else {
    ++kind->failed;
    ++failures_[error->code];
    record.error = error->code;
    record.missing = error->facts.missing;
  }
  if (ended_.size() < kKept) {
    ended_.push_back(std::move(record));
    return;
  }
  ended_[next_] = std::move(record);
  next_ = (next_ + 1) % kKept;
}

std::vector<OperationRecord> Recorder::operations() const {
  const std::lock_guard lock(mutex_);
  std::vector<OperationRecord> out;
  out.reserve(ended_.size() + running_.size());
  const auto oldest = ended_.begin() + static_cast<ptrdiff_t>(next_);
  out.insert(out.end(), oldest, ended_.end());
  out.insert(out.end(), ended_.begin(), oldest);
  out.insert(out.end(), running_.begin(), running_.end());
  return out;
}

std::optional<OperationRecord> Recorder::find(uint64_t seq) const {
  const std::lock_guard lock(mutex_);
  // From the newest on, which is what is asked for.
  for (size_t i = ended_.size(); i-- > 0;) {
    const OperationRecord& record = ended_[(next_ + i) % ended_.size()];
    if (record.stamp.seq == seq && !isMessage(record.stamp)) return record;
  }
  for (const OperationRecord& record : running_) {
    if (record.stamp.seq == seq && !isMessage(record.stamp)) return record;
  }
  return std::nullopt;
}

size_t Recorder::running() const {
  const std::lock_guard lock(mutex_);
  return running_.size();
}

Counters Recorder::counters() const {
  const std::lock_guard lock(mutex_);
  Counters out;
  for (size_t kind = 0; kind < kinds_.size(); ++kind) {
    if (kinds_[kind]) out.kinds.emplace(static_cast<OpKind>(kind), *kinds_[kind]);
  }
  out.failures = failures_;
  return out;
}

}  // namespace nc::group
