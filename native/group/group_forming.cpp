// The group's thread from its start to its end: forming the group, leaving it.
#include <sys/prctl.h>

#include <utility>

#include "group/group.h"

namespace nc::group {

namespace {
constexpr Millis kFarewell{1000};  // for what was sent to be taken, when a group closes
// For a communicator to be closed; what takes longer is left to itself.
constexpr Millis kDeviceFarewell{2000};
}  // namespace

void Group::run() {
  if (form()) {
    serve();
  } else if (farewell_) {
    if (events_.onEnded) events_.onEnded(true);
    farewell_->say(quiet_);
    farewell_.reset();
    if (events_.onTold) events_.onTold();
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

bool Group::form() {
  try {
    rendezvous::JoinEvents events;
    events.onFarewell = [this](std::unique_ptr<rendezvous::Farewell> farewell) {
      farewell_ = std::move(farewell);
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
    if (options_.leaving) {
      const Error cause = aborted(*options_.leaving);
      farewell_ = rendezvous::leave(std::move(options_.join), events, cause);
      throw cause;
    }
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

// Until the group is closed: who could take part in the next generation.
void Group::watch() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || dropped_) return;
    }
    mesh_->watch(wakeFd_.get());
    woken();
  }
}

}  // namespace nc::group
