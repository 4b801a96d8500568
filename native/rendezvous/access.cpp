#include "rendezvous/access.h"

#include "core/error.h"

namespace nc::rendezvous {

void checkListening(const SocketAddress& address, const Access& access, const std::string& op, int rank) {
  if (access.secret || access.allowUnauthenticated || address.isLoopback()) return;
  ErrorFacts facts;
  facts.rank = rank;
  facts.op = op;
  facts.address = address.text();
  throw Error(
      ErrorCode::kInvalidArgument,
      op + ": other hosts may reach " + address.host() +
          ", and without a secret whoever does can join. Give all ranks the same secret (option secret, or "
          "NODE_COLLECTIVES_SECRET), or, on a network of which all hosts are trusted, set "
          "allowUnauthenticated: true (NODE_COLLECTIVES_ALLOW_UNAUTHENTICATED=1)",
      facts);
}

Credentials credentialsFor(const Identity& identity, const Access& access, Purpose purpose, int from,
                           int to) {
  return {access.secret,
          {purpose, from, to, scopeOf(identity.groupName, identity.jobId, identity.generation)}};
}

}  // namespace nc::rendezvous
