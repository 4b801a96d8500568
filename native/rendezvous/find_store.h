// How a rank finds the store of its group among several candidate ports: all are tried, again and again,
// until one proves to be this group's. Refused, silent, foreign or complete groups' listeners cost nothing
// but time.
#pragma once

#include <string>
#include <vector>

#include "core/address.h"
#include "core/cancel.h"
#include "core/deadline.h"
#include "rendezvous/identity.h"
#include "store/client.h"

namespace nc::rendezvous {

struct Candidate {
  size_t port = 0;  // index into the configuration's ports; several addresses may share one
  SocketAddress address;
};

struct FoundStore {
  store::Client client;
  Candidate candidate;
  Found group;
};

// Throws kGroupMismatch as soon as the group's store is found but has another world size; kRankTaken where
// the only candidate is this group's store and the group already stands with another process as `rank`; the
// failure of the group if it failed before this rank came; kRendezvous at the deadline, saying what was met
// on each candidate; kAuthentication where stores were met, but none that proves the secret (for a single
// candidate at once, when that has not changed for a moment); or the Cancel's cause. `credentials.claim.from`
// is the rank that looks.
FoundStore findStore(const std::vector<Candidate>& candidates, const Identity& identity,
                     const Credentials& credentials, const Deadline& deadline, Cancel& cancel);

}  // namespace nc::rendezvous
