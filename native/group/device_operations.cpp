#include "group/device_operations.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "transport/describe.h"

namespace nc::group {

namespace {

// The device is asked at short intervals at first, then at longer ones: an eighth of what it has taken so
// far.
constexpr std::chrono::microseconds kPollLeast{20};
constexpr std::chrono::microseconds kPollMost{1000};
constexpr Millis kErrorCheck{2};

bool leavesGroup(const Error& error) {
  return error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kUnsupported;
}

}  // namespace

DeviceOperations::DeviceOperations(transport::Mesh& mesh, std::unique_ptr<nccl::Communicator> communicator,
                                   Recorder& recorder, std::function<void()> onRoom)
    : mesh_(mesh),
      recorder_(recorder),
      path_(communicator->api().flavour() == nccl::Flavour::kNccl ? "nccl" : "rccl"),
      communicator_(std::move(communicator)),
      onRoom_(std::move(onRoom)) {}

// What the driver or the library says of an operation goes to all ranks, so that it has to name the rank, the
// device and the operation.
template <typename Body>
auto DeviceOperations::named(size_t index, Body body) {
  try {
    return body();
  } catch (const Error& error) {
    const bool own = error.code == ErrorCode::kDevice || error.code == ErrorCode::kResource;
    if (!own || !error.facts.op.empty()) throw;
    const Stamp& stamp = entries_[index]->stamp;
    const int rank = communicator_->rank();
    ErrorFacts facts = error.facts;
    facts.rank = rank;
    facts.peer = rank;
    facts.op = name(stamp.kind);
    if (stamp.seq > 0) facts.seq = static_cast<int64_t>(stamp.seq);
    throw Error(error.code,
                "rank " + std::to_string(rank) + ", device " + std::to_string(communicator_->device()) +
                    ", operation " + std::to_string(stamp.seq) + ", " + transport::describe(stamp) + ": " +
                    error.what(),
                facts);
  }
}

void DeviceOperations::add(std::vector<std::unique_ptr<Task>> tasks) {
  const size_t before = entries_.size();
  for (std::unique_ptr<Task>& task : tasks) {
    Entry& entry = *entries_.emplace_back(std::make_unique<Entry>());
    entry.stamp = task->stamp;
    entry.deadline = task->deadline;
    entry.part = *task->device;
    entry.task = std::move(task);
    entry.began = Clock::now();
  }
  mesh_.setBeside(entries_.front()->stamp);
  // After the bookkeeping, since these throw.
  for (size_t i = before; i < entries_.size(); ++i) {
    const Entry& entry = *entries_[i];
    if (isMessage(entry.stamp)) {
      mesh_.announceMessage(entry.stamp, entry.task->tag);
    } else {
      mesh_.announce(entry.stamp);
    }
  }
  launch();
}

Clock::time_point DeviceOperations::step() {
  if (entries_.empty()) return Clock::time_point::max();
  const auto now = Clock::now();
  launch();
  reap();
  if (entries_.empty()) return Clock::time_point::max();
  named(0, [&] { watch(now); });
  const auto age = std::chrono::duration_cast<std::chrono::microseconds>(now - launched_);
  return now + std::clamp(age / 8, kPollLeast, kPollMost);
}

// A communicator takes one call at a time: the next goes out once the last is on its stream.
void DeviceOperations::launch() {
  for (;;) {
    if (called_ > 0 && entries_[called_ - 1]->state == State::kCalled) {
      if (!named(called_ - 1, [&] { return communicator_->ready(); })) return;
      size_t first = called_;
      while (first > 0 && entries_[first - 1]->state == State::kCalled) --first;
      for (; first < called_; ++first) named(first, [&] { enqueued(*entries_[first]); });
    }
    if (called_ == entries_.size()) return;
    const size_t last = togetherWith(called_);
    try {
      named(called_, [&] { call(called_, last); });
      for (; called_ < last; ++called_) entries_[called_]->state = State::kCalled;
    } catch (const Error& error) {
      if (!leavesGroup(error)) throw;
      // The same on all ranks that take part, since their calls and libraries are: nothing has happened.
      const size_t before = entries_.size();
      for (size_t i = called_; i < last; ++i) {
        // Staged operations are all on the group's own stream: what is there already goes before the next.
        if (entries_[i]->scratch.bytes > 0) communicator_->recycle(std::exchange(entries_[i]->scratch, {}));
        ended(*entries_[i], &error);
        finish(*entries_[i], &error);
      }
      entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(called_),
                     entries_.begin() + static_cast<ptrdiff_t>(last));
      dropFinished(before);
    }
  }
}

// One past the last operation that belongs to that one's call.
size_t DeviceOperations::togetherWith(size_t first) const {
  const uint64_t batch = entries_[first]->part.batch;
  size_t last = first + 1;
  while (batch != 0 && last < entries_.size() && entries_[last]->part.batch == batch) ++last;
  return last;
}

void DeviceOperations::call(size_t first, size_t last) {
  if (last == first + 1) return call(*entries_[first]);
  communicator_->together([&] {
    for (size_t i = first; i < last; ++i) call(*entries_[i]);
  });
}

// A staged operation has its input and output in one piece of device memory, in place where NCCL can.
void DeviceOperations::call(Entry& entry) {
  const nccl::StreamHandle stream = streamOf(entry);
  DevicePart& part = entry.part;
  if (part.staged) {
    const nccl::Extent extent = nccl::extentOf(entry.stamp, communicator_->rank(), communicator_->size());
    const bool apart = entry.stamp.kind == OpKind::kAllToAll;
    const size_t bytes = apart ? extent.in + extent.out : std::max(extent.in, extent.out);
    entry.scratch = communicator_->takeScratch(bytes);
    const nccl::DevicePtr base = entry.scratch.device;
    const bool gathers = entry.stamp.kind == OpKind::kAllGather;
    part.in = base + (gathers ? static_cast<size_t>(communicator_->rank()) * extent.in : 0);
    part.out = base + stagedOffset(entry);
    if (extent.in > 0) {
      std::memcpy(entry.scratch.host, entry.task->in, extent.in);
      communicator_->runtime().copyToDevice(communicator_->device(), part.in, entry.scratch.host, extent.in,
                                            stream);
    }
  }
  communicator_->call(entry.stamp, part.in, part.out, stream);
}

size_t DeviceOperations::stagedOffset(const Entry& entry) const {
  const nccl::Extent extent = nccl::extentOf(entry.stamp, communicator_->rank(), communicator_->size());
  if (entry.stamp.kind == OpKind::kAllToAll) return extent.in;
  if (entry.stamp.kind == OpKind::kReduceScatter)
    return static_cast<size_t>(communicator_->rank()) * extent.out;
  return 0;
}

void DeviceOperations::enqueued(Entry& entry) {
  const nccl::StreamHandle stream = streamOf(entry);
  if (entry.part.staged) {
    const nccl::Extent extent = nccl::extentOf(entry.stamp, communicator_->rank(), communicator_->size());
    if (extent.out > 0) {
      communicator_->runtime().copyToHost(communicator_->device(), entry.scratch.host, entry.part.out,
                                          extent.out, stream);
    }
  }
  entry.event = communicator_->record(stream);
  entry.state = State::kRunning;
  launched_ = Clock::now();
  if (entry.part.untilEnqueued) finish(entry, nullptr);
}

// What is done, of each stream in order.
void DeviceOperations::reap() {
  busy_.clear();
  const size_t before = entries_.size();
  for (size_t i = 0; i < called_;) {
    Entry& entry = *entries_[i];
    const nccl::StreamHandle stream = streamOf(entry);
    const bool behind = std::find(busy_.begin(), busy_.end(), stream) != busy_.end();
    // What was received is given out once it is known to be what was meant.
    const bool unknown = entry.stamp.kind == OpKind::kRecv && !mesh_.met(entry.stamp);
    const auto done = [&] { return named(i, [&] { return communicator_->done(entry.event); }); };
    if (behind || entry.state != State::kRunning || unknown || !done()) {
      busy_.push_back(stream);
      ++i;
      continue;
    }
    communicator_->recycle(std::exchange(entry.event, nullptr));
    if (entry.part.staged) {
      const nccl::Extent extent = nccl::extentOf(entry.stamp, communicator_->rank(), communicator_->size());
      if (extent.out > 0) std::memcpy(entry.task->out, entry.scratch.host, extent.out);
      communicator_->recycle(std::exchange(entry.scratch, {}));
    }
    ended(entry, nullptr);
    finish(entry, nullptr);
    entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(i));
    --called_;
  }
  dropFinished(before);
}

void DeviceOperations::dropFinished(size_t before) {
  mesh_.setBeside(entries_.empty() ? std::nullopt : std::optional(entries_.front()->stamp));
  if (entries_.size() < before && (before >= kMost || entries_.empty())) onRoom_();
}

// Limits, notices, and what the library says of itself.
void DeviceOperations::watch(Clock::time_point now) {
  if (now >= errorCheck_) {
    errorCheck_ = now + kErrorCheck;
    communicator_->ready();
    for (const auto& entry : entries_) {
      mesh_.checkStaying(entry->stamp);
      if (now >= entry->deadline.at()) mesh_.failLate(entry->stamp, entry->deadline);
    }
  }
  // Behind a message, what all ranks take part in waits no less.
  for (const auto& entry : entries_) {
    if (isMessage(entry->stamp)) continue;
    if (entry->told || now - entry->began < mesh_.limits().callsAfter(entry->deadline)) break;
    entry->told = true;
    mesh_.tellWaiting(entry->stamp);
    break;
  }
  Entry& oldest = *entries_.front();
  const auto waited = now - oldest.began;
  const auto& noticeAfter = mesh_.limits().noticeAfter;
  if (oldest.notices < noticeAfter.size() && waited >= noticeAfter[oldest.notices]) {
    ++oldest.notices;
    if (mesh_.onWaiting) {
      mesh_.onWaiting(oldest.stamp, std::chrono::duration_cast<Millis>(waited), mesh_.missing(oldest.stamp));
    }
  }
}

void DeviceOperations::ended(const Entry& entry, const Error* error) {
  if (isMessage(entry.stamp)) {
    recorder_.messageEnded(entry.stamp, path_, error);
  } else {
    recorder_.ended(entry.stamp.seq, path_, std::nullopt, error);
  }
}

void DeviceOperations::finish(Entry& entry, const Error* error) {
  if (!entry.task) return;
  // Not kept by the task: it is destroyed on the JavaScript thread, whenever that has time.
  entry.task->device->keep.reset();
  group::finish(std::move(entry.task), error);
}

nccl::StreamHandle DeviceOperations::streamOf(const Entry& entry) {
  return entry.part.ownStream ? communicator_->stream() : entry.part.stream;
}

void DeviceOperations::reject(const Error& cause) {
  for (const auto& entry : entries_) {
    const Error own = ofOperation(cause, entry->stamp);
    ended(*entry, &own);
    finish(*entry, &own);
  }
}

void DeviceOperations::abort(Millis limit) {
  std::vector<std::shared_ptr<void>> keep;
  for (const auto& entry : entries_) {
    if (entry->part.keep) keep.push_back(std::move(entry->part.keep));
  }
  entries_.clear();
  called_ = 0;
  communicator_->abort(limit, std::move(keep));
}

void DeviceOperations::close(Millis limit) {
  communicator_->close(limit);
}

}  // namespace nc::group
