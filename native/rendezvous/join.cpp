#include "rendezvous/join.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "rendezvous/farewell.h"
#include "rendezvous/member.h"
#include "rendezvous/verdict.h"
#include "transport/first_word.h"

namespace nc::rendezvous {

namespace {

constexpr Millis kTellLimit{300};
// To find out who is missing, once it is too late: one question for each rank, to a rank 0 that may be busy.
constexpr Millis kCountLimit{3000};
constexpr Millis kHearLimit{300};  // for others to say that the group stood
// Who was aborted must not make its caller wait for others.
constexpr Millis kAbortedTellLimit{60};
constexpr Millis kVerdictCheck{20};
using transport::kNoticeAfter;

template <typename Body>
Clock::duration timed(Body body) {
  const auto began = Clock::now();
  body();
  return Clock::now() - began;
}

class Joiner {
 public:
  Joiner(JoinOptions options, const JoinEvents& events, const Deadline& deadline, Cancel& cancel)
      : options_(std::move(options)), events_(events), deadline_(deadline), cancel_(cancel) {}

  Joined run() {
    try {
      JoinTimings& timings = joined_.timings;
      timings.found = timed([this] { findOrHost(); });
      timings.companion = timed([this] {
        if (options_.companion != nullptr) described_ = options_.companion->describe([this] { look(); });
      });
      timings.registered = timed([this] { registerRank(); });
      timings.met = timed([this] { meet(); });
      timings.linked = timed([this] { link(); });
      timings.companion += timed([this] {
        if (options_.companion != nullptr) connectCompanion();
      });
      timings.agreed = timed([this] { agree(); });
      joined_.token = token_;
    } catch (const Error& error) {
      throw giveUp(error);
    }
    return std::move(joined_);
  }

 private:
  int rank() const { return options_.rank; }
  int size() const { return options_.identity.size; }
  Credentials storeCredentials() const {
    return credentialsFor(options_.identity, options_.access, Purpose::kGroupStore, rank(), 0);
  }

  void findOrHost() {
    const std::vector<Candidate> candidates = candidatesOf(options_);
    if (rank() == 0) {
      joined_.hosted = HostedStore::open(candidates, std::move(options_.listenFd), options_.identity,
                                         options_.access, events_.host);
      joined_.portIndex = joined_.hosted->candidate().port;
      if (events_.onListening) events_.onListening(joined_.hosted->server().port());
      token_ = joined_.hosted->token();
      client_.emplace(store::Client::connect(joined_.hosted->server().address(), deadline_, &cancel_, {},
                                             storeCredentials()));
    } else {
      FoundStore found = findStore(candidates, options_.identity, storeCredentials(), deadline_, cancel_);
      joined_.portIndex = found.candidate.port;
      token_ = found.group.token;
      host_ = found.group;
      client_.emplace(std::move(found.client));
    }
    joined_.store = client_->address();
    joined_.lineage = rank() == 0 ? lineageOf(options_.identity, token_) : host_.identity.ancestry.lineage;
  }

  // Claims this rank's number, with the address at which the others reach it.
  void registerRank() {
    SocketAddress local = SocketAddress::local(client_->fd());
    if (rank() == 0 && isWildcard(joined_.hosted->server().address())) {
      local = SocketAddress::parse(options_.hosts.front(), 0);
    }
    local = permitted(local, options_.allowedAddresses, rank());
    checkListening(local, options_.access, "create", rank());
    listener_ = transport::openListener(local);
    joined_.held = holdPort(local);
    Member self;
    self.endpoint.rank = rank();
    self.id = options_.memberId;
    self.heldPort = joined_.held.port;
    self.settings = options_.settings;
    self.companion = described_;
    own_ = encodeMember(self, listener_);
    const std::string now = client_->compareSet(rankKey(rank()), "", own_, deadline_, &cancel_);
    if (now == own_) return;
    if (now == kLeft) {
      client_->set(heardKey(rank()), "1", Deadline::in(kTellLimit), &cancel_);
      throw verdict();
    }
    throw taken(decodeMember(rank(), now));
  }

  Error taken(const Member& holder) {
    ErrorFacts facts;
    facts.rank = rank();
    facts.peer = rank();
    facts.peerHost = holder.endpoint.host;
    facts.peerPid = holder.endpoint.pid;
    facts.op = "join";
    facts.address = joined_.store.text();
    const std::string text = "rank " + std::to_string(rank()) + " of group '" + options_.identity.groupName +
                             "' at " + facts.address + " is taken by pid " + std::to_string(facts.peerPid) +
                             " on " + facts.peerHost + "; give every process a rank of its own";
    refused_ = true;
    tellRefused(*client_, rank(), text, cancel_);
    return Error(ErrorCode::kRankTaken, text, facts);
  }

  // Waits until every rank has registered, and reads all of them in one request.
  void meet() {
    std::vector<std::string> keys;
    for (int peer = 0; peer < size(); ++peer) keys.push_back(rankKey(peer));
    const auto began = Clock::now();
    std::vector<std::string> values;
    for (size_t notice = 0;; ++notice) {
      const bool last = notice >= kNoticeAfter.size();
      const auto left = last ? deadline_
                             : deadline_.sooner(kNoticeAfter[notice] -
                                                std::chrono::duration_cast<Millis>(Clock::now() - began));
      try {
        values = client_->multiGet(keys, left, &cancel_);
        break;
      } catch (const Error& error) {
        if (error.code != ErrorCode::kTimeout) throw;
        const std::vector<int> missing = missingOf(keys);
        if (missing.empty()) {
          // They came at this moment, or the group was given up.
          values = client_->multiGet(keys, Deadline::in(kTellLimit), &cancel_);
          break;
        }
        if (deadline_.passed()) throw late(missing, "missing");
        const auto waited = std::chrono::duration_cast<Millis>(Clock::now() - began);
        if (!last && events_.onWaiting) events_.onWaiting(waited, missing);
      }
    }
    for (int peer = 0; peer < size(); ++peer) {
      const std::string& value = values[static_cast<size_t>(peer)];
      if (value == kLeft) throw verdict();
      joined_.members.push_back(decodeMember(peer, value));
    }
    checkMembers(joined_.members, rank());
    if (options_.companion != nullptr) options_.companion->check(joined_.members);
  }

  std::vector<int> missingOf(const std::vector<std::string>& keys) {
    std::vector<int> missing;
    const Deadline limit = Deadline::in(kCountLimit);
    for (int peer = 0; peer < size(); ++peer) {
      if (!client_->check({keys[static_cast<size_t>(peer)]}, limit, &cancel_)) missing.push_back(peer);
    }
    return missing;
  }

  Error late(const std::vector<int>& missing, const std::string& how) const {
    ErrorFacts facts;
    facts.rank = rank();
    facts.op = "join";
    facts.missing = missing;
    facts.address = joined_.store.text();
    if (missing.size() == 1) facts.peer = missing.front();
    std::string text = "group '" + options_.identity.groupName + "' at " + facts.address +
                       " was not complete within " + std::to_string(deadline_.limit().count()) + " ms; " +
                       std::to_string(static_cast<size_t>(size()) - missing.size()) + " of " +
                       std::to_string(size()) + " ranks came, " + how + ":";
    for (const int peer : missing) text += " rank " + std::to_string(peer) + ",";
    text.pop_back();
    return Error(ErrorCode::kTimeout, text, facts);
  }

  void link() {
    transport::EstablishOptions establish;
    establish.rank = rank();
    establish.token = token_;
    establish.credentials = credentialsFor(options_.identity, options_.access, Purpose::kLink, rank(), -1);
    establish.generation = options_.identity.generation;
    for (const Member& member : joined_.members) establish.endpoints.push_back(member.endpoint);
    establish.meanwhile = [this] { checkVerdict(); };
    joined_.ends = transport::establish(listener_, establish, deadline_, cancel_);
  }

  // A rank that fails meanwhile, or dies, is told by the verdict.
  void checkVerdict() {
    const auto text = client_->tryGet(kVerdictKey, deadline_, &cancel_);
    if (text && *text != kFormed) throw verdictError(*text, rank());
  }

  void look() {
    cancel_.check();
    if (deadline_.passed()) {
      ErrorFacts facts;
      facts.rank = rank();
      facts.peer = rank();  // it is this one that keeps the others waiting
      facts.missing = {rank()};
      facts.op = "join";
      throw Error(ErrorCode::kTimeout,
                  "rank " + std::to_string(rank()) + " was not ready within " +
                      std::to_string(deadline_.limit().count()) +
                      " ms: the driver or the collectives library did not come back",
                  facts);
    }
  }

  void connectCompanion() {
    auto next = Clock::now() + kVerdictCheck;
    options_.companion->connect([&] {
      look();
      if (Clock::now() < next) return;
      checkVerdict();
      next = Clock::now() + kVerdictCheck;
    });
  }

  // The last rank that has all its links pronounces the group formed. One verdict, the same for all.
  void agree() {
    if (events_.onCommitted) events_.onCommitted();
    cancel_.check();
    try {
      readVerdict();
    } catch (const Error& error) {
      // Aborted just as the last rank pronounced it formed: it stands, and its links tell the others better
      // than this rank's going without a word.
      if (isOwnAbort(error) && standingVerdict(error) == kFormed) return client_->close();
      // Rank 0 is gone, and may have pronounced the group formed to some. They have lost rank 0 as well, and
      // say so on their links: then the group stood, for this rank too, and its failure is what comes next. A
      // rank that was not told says nothing.
      const bool unsure = rank() != 0 && error.code == ErrorCode::kNetwork && !client_->usable();
      if (!unsure || !transport::anyoneSpeaks(joined_.ends, Deadline::in(kHearLimit), cancel_)) throw;
    }
    client_->close();
  }

  void readVerdict() {
    client_->set(readyKey(rank()), "1", deadline_, &cancel_);
    if (client_->add(kReadyKey, 1, deadline_, &cancel_) == size()) {
      client_->compareSet(kVerdictKey, "", kFormed, deadline_, &cancel_);
    }
    std::string text;
    try {
      text = client_->get(kVerdictKey, deadline_, &cancel_);
    } catch (const Error& error) {
      if (error.code != ErrorCode::kTimeout || !client_->usable()) throw;
      std::vector<std::string> keys;
      for (int peer = 0; peer < size(); ++peer) keys.push_back(readyKey(peer));
      const std::vector<int> missing = missingOf(keys);
      if (!missing.empty()) throw late(missing, "not linked with all");
      text = client_->get(kVerdictKey, Deadline::in(kTellLimit), &cancel_);
    }
    if (text != kFormed) throw verdictError(text, rank());
  }

  // It is there already, so that this is quick; also where the deadline has passed, which may be its reason.
  Error verdict() {
    return verdictError(client_->get(kVerdictKey, Deadline::in(kTellLimit), &cancel_), rank());
  }

  // This rank cannot go on: the others are told, unless they said so first.
  Error giveUp(Error error) {
    if (error.facts.rank < 0) error.facts.rank = rank();
    if (error.facts.detectedBy < 0) error.facts.detectedBy = rank();
    if (error.facts.op.empty() || error.facts.op.rfind("store.", 0) == 0) error.facts.op = "join";
    if (joined_.hosted) {
      const std::string text = standingVerdict(error).value_or("");
      // Somebody else's failure, where there was one before, is the cause of this one.
      if (!text.empty() && text != kFormed) error = verdictError(text, rank());
      if (client_) client_->close();
      const bool aborted = isOwnAbort(error);
      // Nobody else wants a port that was this rank's to choose: its caller need not wait for anybody.
      const bool chosen = options_.ports.at(joined_.portIndex) == 0;
      if (aborted && chosen) {
        bid(letRead(std::move(joined_.hosted), true));
        return error;
      }
      // Who is on its way is told as well, unless it is what was waited for: else it would look for this
      // store until its deadline.
      joined_.hosted->linger(tellLimit(), error.code != ErrorCode::kTimeout);
      if (!joined_.hosted->linger(Millis{0}, false)) leaveStore();
      return error;
    }
    if (!client_) {
      if (isOwnAbort(error)) {
        bid(tellOnceFound(
            {candidatesOf(options_), options_.identity, storeCredentials(), error, {}, std::nullopt}));
      }
      return error;
    }
    if (!client_->usable() && error.code == ErrorCode::kNetwork) {
      ErrorFacts facts = error.facts;
      facts.peer = 0;
      facts.peerHost = host_.host;
      facts.peerPid = host_.pid;
      return Error(ErrorCode::kRankLost,
                   std::string("rank 0's store ended while the group was forming: ") + error.what(), facts);
    }
    if (error.code == ErrorCode::kTimeout && error.facts.missing.empty()) nameStoreOwner(error);
    if (!refused_ && !error.facts.consequence) {
      const auto verdict = tellFailed(error);
      // When several ranks go at once, all name the one that was told first.
      const bool ownLibrary = error.code == ErrorCode::kTimeout && error.facts.peer == rank();
      if ((error.code == ErrorCode::kRankLost || ownLibrary) && verdict && *verdict != kFormed) {
        return verdictError(*verdict, rank());
      }
      // A rank 0 that is short of processor time is given more, but not that of this rank's caller.
      if (!verdict && isOwnAbort(error)) {
        bid(tellOnceFound({{{joined_.portIndex, joined_.store}},
                           options_.identity,
                           storeCredentials(),
                           error,
                           own_,
                           std::move(client_)}));
      }
    }
    return error;
  }

  // Whatever it is, once this rank has said its own.
  std::optional<std::string> standingVerdict(const Error& error) {
    if (!joined_.hosted) return tellFailed(error);
    condemn(joined_.hosted->server(), size(), error);
    return joined_.hosted->server().get(kVerdictKey);
  }

  bool isOwnAbort(const Error& error) const {
    return error.code == ErrorCode::kAborted && error.facts.detectedBy == rank();
  }

  void bid(std::unique_ptr<Farewell> farewell) {
    if (events_.onFarewell) events_.onFarewell(std::move(farewell));
  }

  // A rank that is short of processor time reads its verdict later than this rank's caller is to wait. It
  // would name rank 0, whose store was gone, were it not left to somebody.
  void leaveStore() {
    try {
      joined_.hosted->server().stopListening();
      bid(letRead(std::move(joined_.hosted), false));
    } catch (const Error&) {
      // No thread to be had: it is closed here, as the cause of the failure matters more.
    }
  }

  // Whom this rank waited for, where it was not another rank but the store itself that did not answer.
  void nameStoreOwner(Error& error) const {
    error.facts.missing = {0};
    error.facts.peer = 0;
    error.facts.peerHost = host_.host;
    error.facts.peerPid = host_.pid;
  }

  Millis tellLimit() const { return cancel_.cancelled() ? kAbortedTellLimit : kTellLimit; }

  // The verdict that stands; nothing if it could not be told.
  std::optional<std::string> tellFailed(const Error& error) {
    try {
      const Deadline limit = Deadline::in(tellLimit());
      // What was under way when this rank was aborted has left its connection out of step. It stays open
      // until the reason is told: were it closed first, rank 0 would say that this rank is lost.
      std::optional<store::Client> fresh;
      if (!client_->usable())
        fresh.emplace(store::Client::connect(joined_.store, limit, nullptr, {}, storeCredentials()));
      store::Client& client = fresh ? *fresh : *client_;
      return tellVerdict(client, rank(), error, limit);
    } catch (const Error&) {
      // Rank 0 notices the closing connection and condemns the group itself.
      return std::nullopt;
    }
  }

  JoinOptions options_;
  const JoinEvents& events_;
  const Deadline& deadline_;
  Cancel& cancel_;
  Joined joined_;
  transport::GroupToken token_{};
  Found host_;  // what rank 0 said of itself
  transport::Listener listener_;
  std::optional<store::Client> client_;
  Settings described_;
  std::string own_;  // what this rank registers
  bool refused_ = false;
};

}  // namespace

std::vector<Candidate> candidatesOf(const JoinOptions& options) {
  std::vector<Candidate> candidates;
  for (size_t port = 0; port < options.ports.size(); ++port) {
    for (const std::string& host : options.hosts) {
      candidates.push_back({port, SocketAddress::parse(host, options.ports[port])});
    }
  }
  if (options.rank == 0) return candidates;
  for (size_t i = 0; i < options.alsoAt.size(); ++i) {
    candidates.push_back({options.ports.size() + i, options.alsoAt[i]});
  }
  return candidates;
}

Joined join(JoinOptions options, const JoinEvents& events, const Deadline& deadline, Cancel& cancel) {
  return Joiner(std::move(options), events, deadline, cancel).run();
}

}  // namespace nc::rendezvous
