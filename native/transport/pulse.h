// The heartbeat of a group: a second thread that sees to it that no link stays silent for long, whatever the
// group's thread and the process's JavaScript are busy with. What it writes says nothing but "alive".
//
// Borrows the links; of them it calls Link::beat() and nothing else.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/deadline.h"
#include "core/thread.h"

namespace nc::transport {

class Link;

struct Heartbeat {
  Millis every{0};      // the longest that a link stays silent; 0: no heartbeats
  Millis deadAfter{0};  // a rank from which nothing has come for so long is lost; 0: never
};

class Pulse {
 public:
  // Throws Error(kResource) if the thread cannot be started.
  Pulse(const std::vector<std::unique_ptr<Link>>& links, const Heartbeat& heartbeat, uint32_t generation);
  ~Pulse();  // ends and joins it
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;

 private:
  void run();

  const std::vector<std::unique_ptr<Link>>& links_;
  Heartbeat heartbeat_;
  uint32_t generation_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  NamedThread thread_;  // last: joined first
};

}  // namespace nc::transport
