// Forming a group: from an address and a rank to one link with every other rank. It ends for all ranks or for
// none: whatever goes wrong on one is the verdict that all get.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/deadline.h"
#include "core/held_port.h"
#include "core/unique_fd.h"
#include "rendezvous/access.h"
#include "rendezvous/host_store.h"
#include "rendezvous/identity.h"
#include "rendezvous/member.h"
#include "transport/establish.h"
#include "transport/mesh.h"

namespace nc::rendezvous {

class Farewell;  // rendezvous/farewell.h

// What is made together with the links, or not at all: a communicator between devices, say. On the joining
// thread. Whatever these throw becomes the verdict of all ranks.
class Companion {
 public:
  virtual ~Companion() = default;
  // Before this rank registers: named facts for the others. `look` throws once this rank must not wait
  // longer; to be called every few milliseconds where this takes long, as in connect().
  virtual Settings describe(const std::function<void()>& look) = 0;
  // All ranks have come; their facts are in Member::companion, by rank.
  virtual void check(const std::vector<Member>& members) = 0;
  // The links stand. `look` throws also when another rank has failed meanwhile.
  virtual void connect(const std::function<void()>& look) = 0;
};

struct JoinOptions {
  std::vector<std::string> hosts;  // numeric addresses of rank 0, best first
  std::vector<uint16_t> ports;     // candidates, in the order every rank tries them
  UniqueFd listenFd;               // rank 0: a listening socket to use instead
  // Re-forming: where else a formation of this group may be found that means other ranks ("host port").
  std::vector<SocketAddress> alsoAt;
  int rank = 0;
  std::string memberId;
  Identity identity;
  Access access;
  std::vector<std::string> allowedAddresses;  // of the interfaces asked for; empty: the route decides
  // Named settings that must be the same on all ranks.
  Settings settings;
  Companion* companion = nullptr;
};

struct JoinEvents {
  HostEvents host;
  std::function<void(uint16_t port)> onListening;  // rank 0: ranks may come now
  // From here on the group may stand without this rank's having heard of it.
  std::function<void()> onCommitted;
  // "still waiting": ranks that have not registered.
  std::function<void(Millis waited, const std::vector<int>& missing)> onWaiting;
  // Before join() throws: what is still to be told to others. Without this it is left unsaid.
  std::function<void(std::unique_ptr<Farewell>)> onFarewell;
};

// How long each part of joining took on this rank.
struct JoinTimings {
  Clock::duration found{};       // to have found the store, or to have opened it
  Clock::duration registered{};  // from then on to have claimed the rank,
  Clock::duration met{};         // for every rank to have done so,
  Clock::duration linked{};      // to be linked with all,
  Clock::duration agreed{};      // and for all to be
  Clock::duration companion{};   // all of the companion's
};

struct Joined {
  std::unique_ptr<HostedStore> hosted;  // on rank 0; stands for the life of the group, to turn others away
  size_t portIndex = 0;                 // which of the ports it became
  SocketAddress store;
  std::string lineage;
  HeldPort held;                // this rank's, for the next generation
  std::vector<Member> members;  // by rank
  std::vector<transport::LinkEnd> ends;
  transport::GroupToken token{};  // drawn by rank 0 for this formation; known to its members only
  JoinTimings timings;
};

// Where rank 0's store may be, in the order in which it is looked for.
std::vector<Candidate> candidatesOf(const JoinOptions& options);

// On the calling thread; returns or throws by the deadline, or at once when cancelled.
Joined join(JoinOptions options, const JoinEvents& events, const Deadline& deadline, Cancel& cancel);

}  // namespace nc::rendezvous
