#include "nccl/communicator.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/lone_thread.h"

namespace nc::nccl {

namespace {

constexpr Millis kAbortLimit{1000};
constexpr Millis kGiveUpLimit{60};  // who is aborted while joining must not make its caller wait
constexpr Millis kStopLimit{50};
constexpr Millis kPoll{1};
constexpr size_t kLeastScratch = 4096;

// Where data are only moved, their type does not matter: NCCL has none for 16-bit integers, and older ones
// none for 8-bit floating point.
bool onlyMoves(OpKind kind) {
  return kind != OpKind::kAllReduce && kind != OpKind::kReduce && kind != OpKind::kReduceScatter;
}

}  // namespace

Extent extentOf(const Stamp& stamp, int rank, int size) noexcept {
  const size_t bytes = stamp.count * elementSize(stamp.dtype);
  const auto ranks = static_cast<size_t>(size);
  switch (stamp.kind) {
    case OpKind::kAllReduce:
      return {bytes, bytes};
    case OpKind::kBroadcast:
      return {stamp.root == rank ? bytes : 0, bytes};
    case OpKind::kReduce:
      return {bytes, stamp.root == rank ? bytes : 0};
    case OpKind::kAllGather:
      return {bytes, bytes * ranks};
    case OpKind::kReduceScatter:
      return {bytes * ranks, bytes};
    case OpKind::kAllToAll:
      return {bytes * ranks, bytes * ranks};
    case OpKind::kSend:
      return {bytes, 0};
    case OpKind::kRecv:
      return {0, bytes};
    case OpKind::kBarrier:
      break;
  }
  return {};
}

namespace {

// close() and its thread agree by this on who ends the communicator: a library must not get it twice, nor two
// ends at a time.
enum class Closing {
  kOpen,        // the thread is on its way: close() may still stop it,
  kStopped,     // and did: the communicator is left to an abort
  kDestroying,  // the thread is in the library with it, or comes back from there
  kDestroyed,   // and is through: what else there is belongs to close() again,
  kLeft,        // or, because it took too long, to the thread
};

bool step(std::atomic<Closing>& closing, Closing from, Closing to) {
  return closing.compare_exchange_strong(from, to);
}

}  // namespace

// All that belongs to the libraries. The last owner gives it back, on whichever thread that is.
struct Communicator::Core {
  std::shared_ptr<DeviceRuntime> runtime;
  std::shared_ptr<NcclApi> api;
  int device = 0;
  CommHandle comm = nullptr;
  StreamHandle stream = nullptr;
  std::vector<EventHandle> made;  // all events,
  std::vector<EventHandle> idle;  // and those that nobody uses
  std::vector<Scratch> memory;    // all scratch memory,
  std::vector<Scratch> free;      // and what nobody uses
  std::atomic<Closing> closing{Closing::kOpen};

  // After the communicator: what it had on its stream is over by then.
  void release() noexcept {
    const auto quietly = [](auto&& step) {
      try {
        step();
      } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nobody is left who could do anything
      }
    };
    for (const EventHandle event : made) quietly([&] { runtime->destroyEvent(device, event); });
    for (const Scratch& scratch : memory) {
      quietly([&] { runtime->free(device, scratch.device); });
      quietly([&] { runtime->freePinned(device, scratch.host); });
    }
    if (stream != nullptr) quietly([&] { runtime->destroyStream(device, stream); });
    made.clear();
    memory.clear();
    stream = nullptr;
  }

  void abort() noexcept {
    try {
      api->abort(std::exchange(comm, nullptr));
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): it has come back, that is all we wanted
    }
  }
};

Communicator::Communicator(std::shared_ptr<DeviceRuntime> runtime, std::shared_ptr<NcclApi> api, int device,
                           int rank, int size)
    : core_(std::make_shared<Core>()), rank_(rank), size_(size) {
  core_->runtime = std::move(runtime);
  core_->api = std::move(api);
  core_->device = device;
}

Communicator::~Communicator() {
  abort(kAbortLimit, {});
}

DeviceRuntime& Communicator::runtime() {
  return *core_->runtime;
}
NcclApi& Communicator::api() {
  return *core_->api;
}
int Communicator::device() const {
  return core_->device;
}
StreamHandle Communicator::stream() {
  return core_->stream;
}

// Also a library whose init returns at once is called on another thread: a broken one may not.
void Communicator::connect(const UniqueId& id, const std::function<void()>& look) {
  const std::shared_ptr<DeviceRuntime> runtime = core_->runtime;
  const std::shared_ptr<NcclApi> api = core_->api;
  const int device = core_->device;
  decideFirstAtExit();
  const std::function<CommHandle()> make = [runtime, api, device, id, rank = rank_, size = size_] {
    runtime->use(device);
    return api->init(size, id, rank);
  };
  const std::function<void(CommHandle&)> drop = [api](CommHandle& comm) { api->abort(comm); };
  try {
    core_->comm = aside<CommHandle>("nc-gpu-init", make, look, drop);
    runtime->use(device);
    while (!api->ready(core_->comm)) {
      look();
      std::this_thread::sleep_for(kPoll);
    }
    core_->stream = runtime->makeStream(device);
    // So that a vote allocates nothing.
    recycle(record(core_->stream));
    recycle(takeScratch(kLeastScratch));
  } catch (...) {
    abort(kGiveUpLimit, {});
    throw;
  }
}

bool Communicator::ready() {
  return core_->api->ready(core_->comm);
}

void Communicator::call(const Stamp& stamp, DevicePtr in, DevicePtr out, StreamHandle stream) {
  if (stamp.count == 0) return;
  Core& core = *core_;
  NcclApi& api = *core.api;
  size_t count = stamp.count;
  DType dtype = stamp.dtype;
  if (onlyMoves(stamp.kind)) {
    count *= elementSize(dtype);
    dtype = DType::kUint8;
  } else {
    api.checkType(dtype);
    api.checkReduction(dtype, stamp.reduceOp);
  }
  core.runtime->use(core.device);
  switch (stamp.kind) {
    case OpKind::kAllReduce:
      return api.allReduce(in, out, count, dtype, stamp.reduceOp, core.comm, stream);
    case OpKind::kReduce:
      return api.reduce(in, out, count, dtype, stamp.reduceOp, stamp.root, core.comm, stream);
    case OpKind::kReduceScatter:
      return api.reduceScatter(in, out, count, dtype, stamp.reduceOp, core.comm, stream);
    case OpKind::kBroadcast:
      return api.broadcast(in, out, count, dtype, stamp.root, core.comm, stream);
    case OpKind::kAllGather:
      return api.allGather(in, out, count, dtype, core.comm, stream);
    case OpKind::kAllToAll:
      return exchange(stamp, in, out, stream);
    case OpKind::kSend:
      return api.send(in, count, dtype, stamp.root, core.comm, stream);
    case OpKind::kRecv:
      return api.recv(out, count, dtype, stamp.root, core.comm, stream);
    case OpKind::kBarrier:
      break;
  }
  throw Error(ErrorCode::kInvalidArgument, std::string(name(stamp.kind)) + " does not run on a device");
}

void Communicator::together(const std::function<void()>& body) {
  NcclApi& api = *core_->api;
  api.groupStart();
  try {
    body();
  } catch (const Error&) {
    try {
      api.groupEnd();         // or every later call would belong to it
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the first failure is the one to report
    }
    throw;
  }
  api.groupEnd();
}

void Communicator::exchange(const Stamp& stamp, DevicePtr in, DevicePtr out, StreamHandle stream) {
  Core& core = *core_;
  const size_t part = stamp.count * elementSize(stamp.dtype);
  together([&] {
    for (int peer = 0; peer < size_; ++peer) {
      const size_t offset = part * static_cast<size_t>(peer);
      core.api->send(in + offset, part, DType::kUint8, peer, core.comm, stream);
      core.api->recv(out + offset, part, DType::kUint8, peer, core.comm, stream);
    }
  });
}

EventHandle Communicator::record(StreamHandle stream) {
  Core& core = *core_;
  if (core.idle.empty()) {
    core.idle.push_back(core.runtime->makeEvent(core.device));
    core.made.push_back(core.idle.back());
  }
  core.runtime->record(core.device, core.idle.back(), stream);
  const EventHandle event = core.idle.back();
  core.idle.pop_back();
  return event;
}

bool Communicator::done(EventHandle event) {
  return core_->runtime->done(core_->device, event);
}

void Communicator::recycle(EventHandle event) {
  core_->idle.push_back(event);
}

Scratch Communicator::takeScratch(size_t bytes) {
  Core& core = *core_;
  const auto fits = std::find_if(core.free.begin(), core.free.end(),
                                 [&](const Scratch& each) { return each.bytes >= bytes; });
  if (fits != core.free.end()) {
    const Scratch found = *fits;
    core.free.erase(fits);
    return found;
  }
  Scratch scratch;
  scratch.bytes = kLeastScratch;
  while (scratch.bytes < bytes) scratch.bytes *= 2;
  scratch.host = core.runtime->allocatePinned(core.device, scratch.bytes);
  try {
    scratch.device = core.runtime->allocate(core.device, scratch.bytes);
  } catch (...) {
    core.runtime->freePinned(core.device, scratch.host);
    throw;
  }
  core.memory.push_back(scratch);
  return scratch;
}

// What is kept is for the votes and for arrays of usual sizes; freeing waits for the device, so it is left to
// the end.
void Communicator::recycle(Scratch scratch) {
  const auto place = std::find_if(core_->free.begin(), core_->free.end(),
                                  [&](const Scratch& each) { return each.bytes >= scratch.bytes; });
  core_->free.insert(place, scratch);
}

void Communicator::close(Millis limit) {
  if (core_->comm == nullptr) return abort(limit, {});
  const std::shared_ptr<Core> core = core_;
  LoneThread thread("nc-gpu-close", [core, comm = core->comm] {
    core->runtime->use(core->device);
    core->api->finalize(comm);
    while (!core->api->ready(comm)) {
      if (core->closing == Closing::kStopped) return;
      std::this_thread::sleep_for(kPoll);
    }
    if (!step(core->closing, Closing::kOpen, Closing::kDestroying)) return;
    try {
      core->api->destroy(comm);
      core->comm = nullptr;
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): an abort ends what is still there
    }
    if (step(core->closing, Closing::kDestroying, Closing::kDestroyed)) return;
    if (core->comm != nullptr) core->abort();
    core->release();
  });
  if (!thread.join(limit) && step(core->closing, Closing::kOpen, Closing::kStopped)) {
    // If it still is in the library after this, abort() is what gets it out.
    thread.join(kStopLimit);
  }
  if (step(core->closing, Closing::kDestroying, Closing::kLeft)) {
    core_ = std::make_shared<Core>();
    return;
  }
  abort(kAbortLimit, {});
}

void Communicator::abort(Millis limit, std::vector<std::shared_ptr<void>> keep) {
  const std::shared_ptr<Core> core = std::exchange(core_, std::make_shared<Core>());
  if (core->runtime == nullptr) return;
  LoneThread thread("nc-gpu-abort", [core, keep = std::move(keep)]() mutable {
    if (core->comm != nullptr) core->abort();
    keep.clear();
    core->release();
  });
  thread.join(limit);
}

}  // namespace nc::nccl
