#include "rendezvous/host_store.h"

#include <sys/random.h>

#include <cerrno>
#include <condition_variable>
#include <map>
#include <set>
#include <utility>

#include "rendezvous/record.h"
#include "rendezvous/verdict.h"

namespace nc::rendezvous {

namespace {

transport::GroupToken randomToken() {
  transport::GroupToken token;
  if (::getrandom(token.data(), token.size(), 0) != static_cast<ssize_t>(token.size())) {
    throw systemError("getrandom", errno);
  }
  return token;
}

// Everybody waits for all rank keys at once; whoever cannot come any more must not keep them.
void waitForNobody(store::Server& server, int size) {
  for (int rank = 0; rank < size; ++rank) server.compareSet(rankKey(rank), "", kLeft);
}

bool startsWith(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

}  // namespace

void condemn(store::Server& server, int size, const Error& cause) {
  server.compareSet(kVerdictKey, "", encodeVerdict(cause));
  waitForNobody(server, size);
}

// Knows which connection registered which rank.
struct HostedStore::Registrar {
  Identity identity;
  HostEvents events;
  store::Server* server = nullptr;

  std::mutex mutex;
  std::condition_variable changed;
  std::map<store::Server::ConnectionId, int> ranks;
  std::set<int> gone;  // other ranks that were here
  std::map<int, Record> members;

  void keySet(store::Server::ConnectionId id, const std::string& key, const std::string& value) {
    if (startsWith(key, kRankPrefix) && value != kLeft) {
      const Record record = Record::parse(value);
      const std::lock_guard lock(mutex);
      const int rank = static_cast<int>(record.number("rank", -1));
      ranks[id] = rank;
      members[rank] = record;
    } else if (startsWith(key, kHeardPrefix)) {
      const std::lock_guard lock(mutex);
      for (int rank = 0; rank < identity.size; ++rank) {
        if (key == heardKey(rank)) ranks[id] = rank;
      }
    } else if (key == kVerdictKey && value != kFormed) {
      // Here, not by the rank that says so: it may die after the first word.
      waitForNobody(*server, identity.size);
    } else if (startsWith(key, kRefusedPrefix) && events.onRefused) {
      const Record record = Record::parse(value);
      events.onRefused({static_cast<int>(record.number("rank", -1)), record.number("pid", 0),
                        record.get("host"), record.get("reason")});
    }
  }

  void closed(store::Server::ConnectionId id) {
    int rank = -1;
    Record member;
    {
      const std::lock_guard lock(mutex);
      const auto found = ranks.find(id);
      if (found == ranks.end()) return;
      rank = found->second;
      member = members[rank];
      ranks.erase(found);
      if (rank != 0) gone.insert(rank);
      changed.notify_all();
    }
    if (server->check(kVerdictKey)) return;  // it may go: the group stands, or has failed already
    ErrorFacts facts;
    facts.rank = 0;
    facts.detectedBy = 0;
    facts.peer = rank;
    facts.peerHost = member.get("host");
    facts.peerPid = member.number("pid", 0);
    facts.op = "join";
    condemn(*server, identity.size,
            Error(ErrorCode::kRankLost,
                  "rank " + std::to_string(rank) + " (pid " + std::to_string(facts.peerPid) + " on " +
                      facts.peerHost + ") left while the group was forming",
                  facts));
  }
};

std::unique_ptr<HostedStore> HostedStore::open(const std::vector<Candidate>& candidates, UniqueFd listenFd,
                                               const Identity& identity, const Access& access,
                                               HostEvents events) {
  auto hosted = std::unique_ptr<HostedStore>(new HostedStore());
  hosted->registrar_ = std::make_shared<Registrar>();
  hosted->registrar_->identity = identity;
  hosted->registrar_->events = events;
  store::Server::Options options;
  options.credentials = credentialsFor(identity, access, Purpose::kGroupStore, 0, -1);
  options.hooks.onKeySet = [registrar = hosted->registrar_](
                               store::Server::ConnectionId id, const std::string& key,
                               const std::string& value) { registrar->keySet(id, key, value); };
  options.hooks.onClose = [registrar = hosted->registrar_](store::Server::ConnectionId id) {
    registrar->closed(id);
  };

  if (listenFd) {
    hosted->server_ = store::Server::adopt(std::move(listenFd), options);
    if (!candidates.empty()) hosted->candidate_ = candidates.front();
    for (const Candidate& candidate : candidates) {
      if (candidate.address.port() != hosted->server_->port()) continue;
      hosted->candidate_ = candidate;
      break;
    }
  } else {
    std::string taken;
    std::string foreign;
    const SocketAddress* inUse = nullptr;  // of this port
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& candidate = candidates[i];
      const bool last = i + 1 == candidates.size() || candidates[i + 1].port != candidate.port;
      try {
        hosted->server_ = store::Server::listen(candidate.address, options);
        hosted->candidate_ = candidate;
        break;
      } catch (const Error& error) {
        if (error.code == ErrorCode::kAddressInUse) {
          taken += (taken.empty() ? "" : ", ") + candidate.address.text();
          inUse = &candidate.address;
        } else if (error.code == ErrorCode::kAddressUnavailable) {
          foreign += (foreign.empty() ? "" : ", ") + candidate.address.host();
        } else {
          throw;
        }
      }
      if (last && inUse && events.onAddressInUse) events.onAddressInUse(*inUse);
      if (last) inUse = nullptr;
    }
    if (!hosted->server_) {
      ErrorFacts facts;
      facts.rank = 0;
      facts.op = "join";
      if (!taken.empty()) {
        facts.errnum = EADDRINUSE;
        facts.address = taken;
        throw Error(ErrorCode::kAddressInUse,
                    "EADDRINUSE: every candidate port of the group is taken (" + taken +
                        "); free one, or give other ports",
                    facts);
      }
      facts.errnum = EADDRNOTAVAIL;
      facts.address = foreign;
      throw Error(ErrorCode::kAddressUnavailable,
                  "EADDRNOTAVAIL: rank 0 has to listen on the group's master address, but " + foreign +
                      " is no address of this host",
                  facts);
    }
  }
  checkListening(hosted->server_->address(), access, "create", 0);
  hosted->candidate_.address = hosted->server_->address();
  hosted->registrar_->server = hosted->server_.get();
  hosted->token_ = randomToken();
  hosted->server_->set(kIdentityKey, encodeIdentity(identity, hosted->token_));
  hosted->server_->start();
  return hosted;
}

HostedStore::~HostedStore() {
  if (server_) server_->stop();
}

bool HostedStore::linger(Millis limit, bool all) {
  Registrar& registrar = *registrar_;
  std::unique_lock lock(registrar.mutex);
  return registrar.changed.wait_for(lock, limit, [&] {
    return registrar.ranks.empty() &&
           (!all || registrar.gone.size() + 1 >= static_cast<size_t>(registrar.identity.size));
  });
}

}  // namespace nc::rendezvous
