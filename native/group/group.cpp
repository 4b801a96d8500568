#include "group/group.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace nc::group {

namespace {
// For a communicator to be aborted; what takes longer is left to itself.
constexpr Millis kDeviceAbort{1000};
}  // namespace

Group::Group(GroupOptions options, GroupEvents events)
    : options_(std::move(options)),
      events_(std::move(events)),
      wakeFd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      recorder_(options_.join.identity.size) {
  for (MessageNumbers& numbers : messages_) {
    numbers.sent.resize(static_cast<size_t>(options_.join.identity.size));
    numbers.received.resize(static_cast<size_t>(options_.join.identity.size));
  }
  if (!wakeFd_) throw systemError("eventfd", errno);
}

Group::~Group() {
  shutdown("the group was dropped");
}

void Group::start() {
  try {
    thread_ = NamedThread("nc-group", [this] { run(); });
  } catch (const std::system_error& error) {
    throw systemError("the group's thread could not be started", error.code().value());
  }
}

void Group::submit(std::unique_ptr<Task> task) {
  const std::lock_guard lock(mutex_);
  if (failure_) throw ofOperation(*failure_, task->stamp);
  if (closing_) throw Error(ErrorCode::kClosed, "the group is closed on this rank");
  task->stamp.seq = numberOf(task->stamp);
  task->called = Clock::now();
  if (task->device && isMessage(task->stamp)) {
    task->device->batch = batch_;
    queue_.push_back(std::move(task));
    return;
  }
  ++batch_;
  // The first message can go out from here, while the group's thread is still waking up.
  if (parked_ && queue_.empty()) task->firstSent = sendFirst(*task);
  queue_.push_back(std::move(task));
  wake();
}

void Group::endBatch() {
  const std::lock_guard lock(mutex_);
  ++batch_;
  wake();
}

// Not every rank takes part in a message, so that it must not take one of the group's numbers.
uint64_t Group::numberOf(const Stamp& stamp) {
  if (!isMessage(stamp)) return ++lastSeq_;
  if (stamp.root < 0 || stamp.root >= options_.join.identity.size || stamp.root == options_.join.rank) {
    ErrorFacts facts;
    facts.op = name(stamp.kind);
    throw Error(ErrorCode::kInvalidArgument,
                facts.op + ": " + std::to_string(stamp.root) + " is no other rank of the group", facts);
  }
  MessageNumbers& numbers = messages_[stamp.device ? 1 : 0];
  return ++(stamp.kind == OpKind::kSend ? numbers.sent : numbers.received)[static_cast<size_t>(stamp.root)];
}

bool Group::sendFirst(const Task& task) {
  if (task.device) return false;
  if (isMessage(task.stamp)) {
    if (task.stamp.kind != OpKind::kSend) return false;
    return mesh_->trySendMessage(task.stamp, task.tag, task.in,
                                 task.stamp.count * elementSize(task.stamp.dtype));
  }
  const auto first = collectives_->firstMessage(task.stamp);
  if (!first) return false;
  const auto* const from = static_cast<const std::byte*>(task.in) + first->offset;
  return mesh_->trySend(first->peer, first->slot, task.stamp, from, first->bytes);
}

void Group::abort(const std::string& reason) {
  cancel_.cancel(aborted(reason));
}

Error Group::aborted(const std::string& reason) const {
  const int rank = options_.join.rank;
  ErrorFacts facts;
  facts.rank = rank;
  facts.peer = rank;
  facts.detectedBy = rank;
  return {ErrorCode::kAborted, "aborted by rank " + std::to_string(rank) + ": " + reason, facts};
}

void Group::close() {
  const std::lock_guard lock(mutex_);
  closing_ = true;
  ++batch_;
  wake();
}

void Group::hush() {
  quiet_.cancel(aborted("nobody is told any more"));
}

void Group::shutdown(const std::string& reason) {
  abort(reason);
  {
    const std::lock_guard lock(mutex_);
    dropped_ = true;
    wake();
  }
  hush();
  thread_.join();
}

UniqueFd Group::meet() {
  const std::lock_guard lock(mutex_);
  if (!held_.fd || closing_) throw Error(ErrorCode::kClosed, "the group is closed on this rank");
  return listenBeside(held_.fd.get());
}

void Group::lose(const Error& cause) {
  const std::lock_guard lock(mutex_);
  if (!committed_) cancel_.cancel(cause);
}

std::optional<GroupInfo> Group::info() const {
  const std::lock_guard lock(mutex_);
  return info_;
}

std::vector<OperationRecord> Group::operations() const {
  // Under the lock nothing passes from the queue to the recorder.
  const std::lock_guard lock(mutex_);
  std::vector<OperationRecord> records = recorder_.operations();
  for (size_t i = 0; i < std::min(queue_.size(), Recorder::kKept); ++i) {
    records.push_back(recorder_.queued(queue_[i]->stamp, queue_[i]->called));
  }
  return records;
}

uint64_t Group::lastSeq() const {
  const std::lock_guard lock(mutex_);
  return lastSeq_;
}

GroupStats Group::stats() const {
  const std::lock_guard lock(mutex_);
  GroupStats out;
  out.counters = recorder_.counters();
  out.queued = queue_.size();
  out.running = recorder_.running();
  out.formed = formedAt_;
  out.failed = failedAt_;
  if (info_) {
    out.earlyFrames = mesh_->earlyFrames();
    out.links = mesh_->linkCounters();
  }
  return out;
}

void Group::wake() {
  ::eventfd_write(wakeFd_.get(), 1);
}

void Group::woken() {
  eventfd_t count = 0;
  ::eventfd_read(wakeFd_.get(), &count);
}

// What nobody else has told was seen here.
Error Group::ofThisRank(Error error) const {
  if (error.facts.rank < 0) error.facts.rank = options_.join.rank;
  if (error.facts.detectedBy < 0) error.facts.detectedBy = options_.join.rank;
  return error;
}

void Group::failWith(const Error& seen, std::vector<std::unique_ptr<Task>> ended) {
  const Error error = ofThisRank(seen);
  // A device may fail where the mesh is not asked: the others would take this rank's leave for a good one.
  if (mesh_) mesh_->fail(error);
  std::deque<std::unique_ptr<Task>> left;
  {
    const std::lock_guard lock(mutex_);
    parked_ = false;
    failure_ = error;
    failedAt_ = Clock::now();
    left.swap(queue_);
    // All of it is on record before anybody hears of it.
    for (const std::unique_ptr<Task>& task : left) recorder_.dropped(task->stamp, task->called, error);
  }
  if (device_) device_->reject(error);
  for (std::unique_ptr<Task>& task : left) ended.push_back(std::move(task));
  for (std::unique_ptr<Task>& task : ended) {
    const Error own = ofOperation(error, task->stamp);
    finish(std::move(task), &own);
  }
  if (events_.onFailed) events_.onFailed(error);
  if (device_) device_->abort(kDeviceAbort);
}

}  // namespace nc::group
