#include "transport/pulse.h"

#include <algorithm>
#include <system_error>

#include "core/error.h"
#include "transport/link.h"

namespace nc::transport {

Pulse::Pulse(const std::vector<std::unique_ptr<Link>>& links, const Heartbeat& heartbeat, uint32_t generation)
    : links_(links), heartbeat_(heartbeat), generation_(generation) {
  try {
    thread_ = NamedThread("nc-pulse", [this] { run(); });
  } catch (const std::system_error& error) {
    throw systemError("the heartbeat's thread could not be started", error.code().value());
  }
}

Pulse::~Pulse() {
  const std::lock_guard lock(mutex_);
  end_ = true;
  ended_.notify_all();
}

// A link is looked at twice in each interval: if nothing has been written between two looks, it is time.
void Pulse::run() {
  FrameHeader pulse;
  pulse.kind = FrameKind::kPulse;
  pulse.generation = generation_;
  const Millis pause = std::max(heartbeat_.every / 2, Millis{1});
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, pause, [this] { return end_; })) {
    for (const auto& link : links_) {
      if (link) link->beat(pulse, heartbeat_.deadAfter);
    }
  }
}

}  // namespace nc::transport
