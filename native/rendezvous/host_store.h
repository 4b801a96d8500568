// Rank 0's part: the group's store on the first candidate port that is free, and the verdict when a rank
// leaves while the group still forms.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "rendezvous/access.h"
#include "rendezvous/find_store.h"
#include "rendezvous/identity.h"
#include "store/server.h"

namespace nc::rendezvous {

// A process that asked for a place in this group and did not get it.
struct Refusal {
  int rank = -1;
  int64_t pid = 0;
  std::string host;
  std::string reason;
};

struct HostEvents {
  // On the caller's thread, once for a port that is taken on each of the addresses.
  std::function<void(const SocketAddress&)> onAddressInUse;
  std::function<void(const Refusal&)> onRefused;  // on the store's thread
};

// Shared by the hooks of the server and by its owner; outlives both.
class HostedStore {
 public:
  // Binds the first candidate that is free, or adopts `listenFd` if it is set. Throws kAddressInUse when all
  // are taken, kAddressUnavailable when none of the addresses is this host's,
  // kInvalidArgument for one that needs a secret.
  static std::unique_ptr<HostedStore> open(const std::vector<Candidate>& candidates, UniqueFd listenFd,
                                           const Identity& identity, const Access& access, HostEvents events);
  ~HostedStore();

  const Candidate& candidate() const { return candidate_; }
  store::Server& server() { return *server_; }
  const transport::GroupToken& token() const { return token_; }
  // Waits, for `limit` at most, until the ranks that came have read the verdict and gone; with `all`, also
  // for those that have not come yet. Whether they have.
  bool linger(Millis limit, bool all);

 private:
  struct Registrar;
  HostedStore() = default;

  Candidate candidate_;
  transport::GroupToken token_{};
  std::shared_ptr<Registrar> registrar_;
  std::unique_ptr<store::Server> server_;
};

// Publishes `cause` as the verdict, unless there is one already, and lets nobody wait for missing ranks.
void condemn(store::Server& server, int size, const Error& cause);

}  // namespace nc::rendezvous
