#include "group/group.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace nc::group {

namespace {
constexpr Millis kFarewell{1000};  // for what was sent to be taken, when a group closes
// For ranks to read why the group did not form: as long as a silent rank is taken to be alive.
constexpr Millis kUnread{3000};
constexpr Millis kUnreadLook{20};
// For a communicator to be closed, or aborted; what takes longer is left to itself.
constexpr Millis kDeviceFarewell{2000};
constexpr Millis kDeviceAbort{1000};
constexpr const char* kMessagePath = "message";  // for the record
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
  const int rank = options_.join.rank;
  ErrorFacts facts;
  facts.rank = rank;
  facts.peer = rank;
  facts.detectedBy = rank;
  cancel_.cancel(
      Error(ErrorCode::kAborted, "aborted by rank " + std::to_string(rank) + ": " + reason, facts));
}

void Group::close() {
  const std::lock_guard lock(mutex_);
  closing_ = true;
  ++batch_;
  wake();
}

void Group::shutdown(const std::string& reason) {
  abort(reason);
  {
    const std::lock_guard lock(mutex_);
    dropped_ = true;
    wake();
  }
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

// --------------------------------------------------------------------------------------- the group's thread

void Group::run() {
  if (form()) {
    serve();
  } else if (hosted_) {
    if (events_.onEnded) events_.onEnded(true);
    letRead();
    hosted_.reset();
    if (events_.onStoreRead) events_.onStoreRead();
    return;
  }
  // Before the goodbye: the others may still need this rank's part of what the device does.
  if (device_) device_->close(kDeviceFarewell);
  device_.reset();
  if (mesh_ && !mesh_->failed()) mesh_->close(Deadline::in(kFarewell));
  // A rank that has not read yet that the group was formed must still be able to.
  if (hosted_ && !cancel_.cancelled()) hosted_->linger(kFarewell, false);
  collectives_.reset();
  // Also of a group that has failed and that nobody closes: its port may be wanted for a new one.
  hosted_.reset();
  if (mesh_ && mesh_->failed()) {
    watch();
    mesh_->close(Deadline::in(kFarewell));
  }
  {
    const std::lock_guard lock(mutex_);
    held_ = {};
  }
  if (events_.onEnded) events_.onEnded(false);
}

void Group::letRead() {
  const Deadline limit = Deadline::in(kUnread);
  while (!limit.passed()) {
    if (hosted_->linger(kUnreadLook, false)) return;
    const std::lock_guard lock(mutex_);
    if (dropped_) return;
  }
}

bool Group::form() {
  try {
    rendezvous::JoinEvents events;
    events.onUnread = [this](std::unique_ptr<rendezvous::HostedStore> hosted) {
      hosted_ = std::move(hosted);
    };
    events.host.onAddressInUse = events_.onAddressInUse;
    events.host.onRefused = events_.onRefused;
    events.onListening = events_.onListening;
    events.onWaiting = [this](Millis waited, const std::vector<int>& missing) {
      if (events_.onWaiting) events_.onWaiting(Stamp{}, waited, missing);
    };
    events.onCommitted = [this] {
      const std::lock_guard lock(mutex_);
      committed_ = true;
    };
    const Deadline deadline = Deadline::in(options_.initTimeout);
    std::optional<DeviceCompanion> companion;
    if (options_.device) {
      companion.emplace(*options_.device, options_.join.rank, options_.join.identity.size);
      options_.join.companion = &*companion;
    }
    rendezvous::Joined joined = rendezvous::join(std::move(options_.join), events, deadline, cancel_);
    hosted_ = std::move(joined.hosted);

    GroupInfo info;
    info.generation = options_.join.identity.generation;
    info.lineage = joined.lineage;
    info.rank = options_.join.rank;
    info.size = options_.join.identity.size;
    info.portIndex = joined.portIndex;
    info.store = joined.store.text();
    info.token = joined.token;
    info.timings = joined.timings;
    for (const rendezvous::Member& member : joined.members) {
      const transport::Endpoint& at = member.endpoint;
      info.members.push_back({{at.rank, at.host, at.pid, "self"}, member.id, at.address, member.heldPort});
    }
    for (const transport::LinkEnd& end : joined.ends) {
      info.members[static_cast<size_t>(end.member.rank)].link = end.member;
    }
    transport::MeshLimits limits;
    limits.heartbeat = options_.heartbeat;
    mesh_ = std::make_unique<transport::Mesh>(info.rank, info.size, options_.join.identity.generation,
                                              std::move(joined.ends), cancel_, limits);
    mesh_->onWaiting = events_.onWaiting;
    mesh_->onGone = events_.onGone;
    collectives_ = std::make_unique<gloo::Collectives>(*mesh_);
    if (companion) {
      info.device = companion->facts();
      serveDevice(companion->take());
    }
    const std::lock_guard lock(mutex_);
    held_ = std::move(joined.held);
    info_ = std::move(info);
    formedAt_ = Clock::now();
  } catch (const Error& error) {
    failWith(error);
    return false;
  } catch (const std::exception& error) {
    failWith(Error(ErrorCode::kInternal, std::string("forming the group failed: ") + error.what()));
    return false;
  }
  if (events_.onFormed) events_.onFormed();
  return true;
}

void Group::serveDevice(std::unique_ptr<nccl::Communicator> communicator) {
  // The default of 50 us would be added to each look at the device.
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  device_ =
      std::make_unique<DeviceOperations>(*mesh_, std::move(communicator), recorder_, [this] { wake(); });
  mesh_->beside = [this] { return device_->step(); };
}

void Group::serve() {
  try {
    while (std::unique_ptr<Task> task = next()) {
      if (task->device) {
        device_->add(batchOf(std::move(task)));
        continue;
      }
      if (isMessage(task->stamp)) {
        if (!exchange(std::move(task))) return;
        continue;
      }
      const gloo::Call call{task->stamp, task->deadline, task->in, task->out, task->firstSent};
      try {
        collectives_->run(call);
      } catch (const Error& error) {
        noteEnd(*task, &error);
        // Only a mistake of the caller's leaves the group as it was.
        if (error.code != ErrorCode::kInvalidArgument) {
          std::vector<std::unique_ptr<Task>> met;
          met.push_back(std::move(task));
          return failWith(error, std::move(met));
        }
        Task& ended = *task;
        ended.finish(std::move(task), &error);
        continue;
      }
      noteEnd(*task, nullptr);
      Task& ended = *task;
      ended.finish(std::move(task), nullptr);
    }
  } catch (const Error& error) {
    // A device may fail where the mesh is not asked: the others would take this rank's leave for a good one.
    mesh_->fail(error);
    failWith(error);
  } catch (const std::exception& error) {
    const Error cause(ErrorCode::kInternal, std::string("the group's thread failed: ") + error.what());
    mesh_->fail(cause);
    failWith(cause);
  }
}

bool Group::exchange(std::unique_ptr<Task> first) {
  Messages messages(*mesh_);
  std::optional<Error> failure;
  try {
    messages.add(std::move(first));
    for (;;) {
      // Not only when woken: those that were called together with the first one woke this thread together.
      while (std::unique_ptr<Task> more = nextMessage()) messages.add(std::move(more));
      for (std::unique_ptr<Task>& task : messages.takeDone()) {
        recorder_.messageEnded(task->stamp, kMessagePath, nullptr);
        Task& ended = *task;
        ended.finish(std::move(task), nullptr);
      }
      if (messages.empty()) return true;
      if (!messages.wait(wakeFd_.get())) continue;
      eventfd_t count = 0;
      ::eventfd_read(wakeFd_.get(), &count);
    }
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::kInternal, std::string("sending and receiving failed: ") + error.what());
  }
  if (!mesh_->failed()) mesh_->fail(*failure);
  std::vector<std::unique_ptr<Task>> met = messages.takeAll();
  for (const std::unique_ptr<Task>& task : met) recorder_.messageEnded(task->stamp, kMessagePath, &*failure);
  failWith(*failure, std::move(met));
  return false;
}

// The next operation, if it is a message of the CPUs as well.
std::unique_ptr<Task> Group::nextMessage() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty() || !isMessage(queue_.front()->stamp) || queue_.front()->device) return nullptr;
  std::unique_ptr<Task> task = std::move(queue_.front());
  queue_.pop_front();
  recorder_.begun(task->stamp, task->called);
  return task;
}

// What goes to the device together with that one.
std::vector<std::unique_ptr<Task>> Group::batchOf(std::unique_ptr<Task> first) {
  const uint64_t batch = first->device->batch;
  std::vector<std::unique_ptr<Task>> tasks;
  tasks.push_back(std::move(first));
  if (batch == 0) return tasks;
  const std::lock_guard lock(mutex_);
  while (!queue_.empty() && queue_.front()->device && queue_.front()->device->batch == batch) {
    tasks.push_back(std::move(queue_.front()));
    queue_.pop_front();
    recorder_.begun(tasks.back()->stamp, tasks.back()->called);
  }
  return tasks;
}

void Group::noteEnd(const Task& task, const Error* error) {
  // Where it came to no algorithm, the mesh still speaks of the operation before.
  const char* const path = collectives_->path();
  recorder_.ended(task.stamp.seq, path, path != nullptr ? mesh_->waited() : Clock::duration{}, error);
}

// Until the group is closed: who could take part in the next generation.
void Group::watch() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || dropped_) return;
    }
    mesh_->watch(wakeFd_.get());
    eventfd_t count = 0;
    ::eventfd_read(wakeFd_.get(), &count);
  }
}

// Whether the first of the queue can be begun: the device takes so many at a time, and a batch whole.
bool Group::takeable() const {
  if (queue_.empty()) return false;
  const auto& device = queue_.front()->device;
  return !device || (!device_->full() && device->batch != batch_);
}

// The next operation, or nothing once the group is closed and all have ended. Watches the links meanwhile.
std::unique_ptr<Task> Group::next() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      parked_ = false;
      if (takeable()) {
        std::unique_ptr<Task> task = std::move(queue_.front());
        queue_.pop_front();
        recorder_.begun(task->stamp, task->called);
        return task;
      }
      if (closing_ && queue_.empty() && (!device_ || device_->empty())) return nullptr;
      parked_ = true;
    }
    mesh_->serve(wakeFd_.get());
    eventfd_t count = 0;
    ::eventfd_read(wakeFd_.get(), &count);
  }
}

// What nobody else has told was seen here.
Error Group::ofThisRank(Error error) const {
  if (error.facts.rank < 0) error.facts.rank = options_.join.rank;
  if (error.facts.detectedBy < 0) error.facts.detectedBy = options_.join.rank;
  return error;
}

void Group::failWith(const Error& seen, std::vector<std::unique_ptr<Task>> ended) {
  const Error error = ofThisRank(seen);
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
    Task& each = *task;
    const Error own = ofOperation(error, each.stamp);
    each.finish(std::move(task), &own);
  }
  if (events_.onFailed) events_.onFailed(error);
  if (device_) device_->abort(kDeviceAbort);
}

}  // namespace nc::group
