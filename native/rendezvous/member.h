// What each rank publishes of itself, and what must hold between all of them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/address.h"
#include "core/cancel.h"
#include "store/client.h"
#include "transport/establish.h"
#include "transport/listener.h"

namespace nc::rendezvous {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct Member {
  transport::Endpoint endpoint;
  std::string id;         // of this process in this lineage
  uint16_t heldPort = 0;  // where the next generation meets if this is its lowest rank
  Settings settings;
  Settings companion;  // facts of what is made beside the links; see Companion
};

// What a rank publishes; `member.endpoint` needs no more than its rank.
std::string encodeMember(const Member& member, const transport::Listener& listener);
Member decodeMember(int rank, const std::string& text);
// "rank 1 (pid 7 on host)"
std::string who(const Member& member);
// kGroupMismatch, `other` being the rank that differs.
Error mismatch(const Member& other, int rank, const std::string& text);

// True if that record is of this very process.
bool isThisProcess(const Member& member);

// Throws kGroupMismatch if two ranks differ in a setting (naming it and both values), or if a rank is reached
// at a loopback address although another is on a different host.
void checkMembers(const std::vector<Member>& members, int rank);

bool isWildcard(const SocketAddress& address);
// `local`, or the first of `allowed` (of the same family if there is one) if `local` is none of them.
SocketAddress permitted(const SocketAddress& local, const std::vector<std::string>& allowed, int rank);

// Tells the store's owner that this process was turned away, and why.
void tellRefused(store::Client& client, int rank, const std::string& reason, Cancel& cancel);

}  // namespace nc::rendezvous
