// Makes the full mesh: one link to every other rank. The lower rank dials, the higher accepts; UNIX sockets
// between ranks of one host where that works, TCP otherwise. Runs on the calling thread, all links at once.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/challenge.h"
#include "core/deadline.h"
#include "transport/handshake.h"
#include "transport/listener.h"
#include "transport/mesh.h"

namespace nc::transport {

// How a rank is reached; what each one publishes in the store.
struct Endpoint {
  int rank = -1;
  std::string host;  // name, for messages
  int64_t pid = 0;
  std::string identity;   // hostIdentity()
  std::string localName;  // abstract UNIX socket
  std::string address;    // numeric
  uint16_t port = 0;
};

struct EstablishOptions {
  int rank = -1;
  GroupToken token{};
  uint32_t generation = 0;
  Credentials credentials;          // without `to`; no key: the token alone tells members from strangers
  std::vector<Endpoint> endpoints;  // by rank, this one's own too
  // Called now and then while links are missing (about every 50 ms); may throw to give up.
  std::function<void()> meanwhile;
};

// Strangers at the listener are dropped and cost nobody else anything. Throws kTimeout naming the ranks that
// could not be linked and why, or the Cancel's cause.
std::vector<LinkEnd> establish(const Listener& listener, const EstablishOptions& options,
                               const Deadline& deadline, Cancel& cancel);

}  // namespace nc::transport
