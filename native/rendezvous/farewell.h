// What a rank that has given up a formation still has to tell, once its own caller knows: without it the
// others would wait for that rank until their deadline.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/challenge.h"
#include "core/error.h"
#include "rendezvous/find_store.h"
#include "rendezvous/host_store.h"
#include "rendezvous/join.h"

namespace nc::rendezvous {

class Farewell {
 public:
  virtual ~Farewell() = default;
  // On the calling thread: until all is said, for a few seconds at most, or until cancelled.
  virtual void say(Cancel& cancel) noexcept = 0;
};

// Of rank 0: its store is served on, until the ranks that came have read the verdict, or `all` of the group
// have.
std::unique_ptr<Farewell> letRead(std::unique_ptr<HostedStore> hosted, bool all);

// Of another rank: the store is looked for, and told `cause`. Not if the rank has registered, or another
// process as that rank, unless with `registered`. A connection that was left out of step stays open
// meanwhile: were it closed first, rank 0 would say that this rank was lost.
struct Untold {
  std::vector<Candidate> candidates;
  Identity identity;
  Credentials credentials;
  Error cause;
  std::string registered;
  std::optional<store::Client> connection;
};
std::unique_ptr<Farewell> tellOnceFound(Untold untold);

// Of a rank that was aborted before it could so much as look for the others: `cause` is all that they ever
// hear of it. Rank 0 opens its store for that, where it may choose the port; nothing where it may not.
std::unique_ptr<Farewell> leave(JoinOptions options, const JoinEvents& events, const Error& cause);

}  // namespace nc::rendezvous
