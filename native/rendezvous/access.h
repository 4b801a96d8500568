// Who may join: the secret, and what may be listened on without one.
#pragma once

#include <memory>
#include <string>

#include "core/address.h"
#include "core/challenge.h"
#include "rendezvous/identity.h"

namespace nc::rendezvous {

struct Access {
  std::shared_ptr<const SecretKey> secret;  // null: whoever reaches the ports can join,
  bool allowUnauthenticated = false;        // which for others than this host has to be said
};

// Throws kInvalidArgument for an address that other hosts reach, where nobody would have to prove anything.
void checkListening(const SocketAddress& address, const Access& access, const std::string& op, int rank = -1);

// With what rank `from` and rank `to` of that group prove the secret to each other; none without a secret.
Credentials credentialsFor(const Identity& identity, const Access& access, Purpose purpose, int from, int to);

}  // namespace nc::rendezvous
