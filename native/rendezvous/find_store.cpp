#include "rendezvous/find_store.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "rendezvous/member.h"
#include "rendezvous/probe.h"
#include "rendezvous/verdict.h"

namespace nc::rendezvous {

namespace {

// The next candidate is looked at once the one before has answered, or after this time.
constexpr Millis kStagger{10};
// A store that has another secret may be an earlier job's, which is about to end.
constexpr Millis kUnprovenLimit{1500};
constexpr Millis kAskLimit{300};  // for a question to a store that has answered already

// The new number of an old rank; -1 if it does not go on.
int indexIn(const std::vector<int>& ranks, int rank) {
  const auto at = std::lower_bound(ranks.begin(), ranks.end(), rank);
  return at != ranks.end() && *at == rank ? static_cast<int>(at - ranks.begin()) : -1;
}

class Finder {
 public:
  Finder(const std::vector<Candidate>& candidates, const Identity& identity, const Credentials& credentials,
         Cancel& cancel)
      : identity_(identity), rank_(credentials.claim.from), cancel_(cancel) {
    for (const Candidate& candidate : candidates) probes_.emplace_back(candidate, credentials);
    told_.assign(probes_.size(), false);
  }

  FoundStore run(const Deadline& deadline) {
    const auto began = Clock::now();
    for (;;) {
      cancel_.check();
      auto until = deadline.at();
      std::vector<pollfd> polls{{cancel_.fd(), POLLIN, 0}};
      for (size_t i = 0; i < probes_.size(); ++i) {
        Probe& probe = probes_[i];
        if (probe.state() == Probe::State::kWaiting && mayStart(i, began)) probe.start();
        if (probe.state() == Probe::State::kStore) break;
        polls.push_back({probe.state() == Probe::State::kWaiting ? -1 : probe.fd(), probe.events(), 0});
        until = std::min(until, probe.tried() ? probe.due() : began + kStagger * static_cast<int>(i));
      }
      for (size_t i = 0; i < probes_.size(); ++i) {
        if (probes_[i].state() != Probe::State::kStore) continue;
        if (auto found = judge(i)) return std::move(*found);
      }
      if (deadline.passed()) throw notFound(deadline);
      if (isHopeless()) throw notFound(deadline);
      if (polls.size() != probes_.size() + 1) continue;
      const auto left = std::chrono::ceil<Millis>(until - Clock::now()).count();
      const int timeout = static_cast<int>(std::clamp<decltype(left)>(left, 0, 60'000));
      if (::poll(polls.data(), polls.size(), timeout) < 0 && errno != EINTR) throw systemError("poll", errno);
      for (size_t i = 0; i < probes_.size(); ++i) probes_[i].advance(polls[i + 1].revents != 0);
    }
  }

 private:
  bool mayStart(size_t i, Clock::time_point began) const {
    const auto now = Clock::now();
    const Probe& probe = probes_[i];
    if (probe.tried()) return probe.due() <= now;
    if (i == 0 || now >= began + kStagger * static_cast<int>(i)) return true;
    const Probe& before = probes_[i - 1];
    return before.tried() && before.state() == Probe::State::kWaiting;
  }

  // The store's owner said who it is: ours, or not.
  std::optional<FoundStore> judge(size_t i) {
    Probe& probe = probes_[i];
    Found found;
    if (!decodeIdentity(probe.identity(), found)) {
      probe.reject("a TCPStore that is not a group's of this kind");
      return std::nullopt;
    }
    found.verdict = probe.verdict();
    const Identity& theirs = found.identity;
    if (theirs.groupName != identity_.groupName || theirs.jobId != identity_.jobId ||
        theirs.generation != identity_.generation || !probe.sameScope() || foreign(theirs.ancestry)) {
      return turnedAway(i, "the store of " + describe(found));
    }
    if (const Difference difference = compare(identity_.ancestry, theirs.ancestry); difference.any) {
      return disagree(i, found, difference);
    }
    if (!found.verdict.empty() && found.verdict != kFormed) {
      store::Client client = probe.release();
      if (concerned(client)) throw verdictError(found.verdict, rank_);
      probe.outdated("this group's store, but forming it has failed; waiting for the next try");
      return std::nullopt;
    }
    if (theirs.size != identity_.size) {
      ErrorFacts facts;
      facts.rank = rank_;
      facts.op = "join";
      facts.address = probe.candidate().address.text();
      facts.peer = 0;
      facts.peerHost = found.host;
      facts.peerPid = found.pid;
      const std::string text = "rank " + std::to_string(rank_) + " was started with world size " +
                               std::to_string(identity_.size) + ", but the store at " + facts.address +
                               " is of " + describe(found) + "; start all ranks with the same world size";
      store::Client client = probe.release();
      tellRefused(client, rank_, text, cancel_);
      const Error cause(ErrorCode::kGroupMismatch, text, facts);
      // A member of the old group is no stranger: without it the others would wait in vain.
      if (!identity_.ancestry.ranks.empty()) tell(client, cause);
      throw Error(cause);
    }
    if (found.verdict == kFormed) return complete(i, found);
    return FoundStore{probe.release(), probe.candidate(), found};
  }

  // A port may have gone to another group of that name since its holder died.
  bool foreign(const Ancestry& theirs) const {
    if (apart(identity_.ancestry, theirs)) return true;
    const std::string& lineage = identity_.ancestry.lineage;
    return !lineage.empty() && lineage != theirs.lineage;
  }

  // The same generation, but its host means other ranks. Whoever has not heard of a loss is told, and tries
  // again; what no loss explains is a mistake, and ends it for all.
  std::optional<FoundStore> disagree(size_t i, const Found& found, const Difference& difference) {
    Probe& probe = probes_[i];
    const std::vector<int>& mine = identity_.ancestry.ranks;
    const std::vector<int>& theirs = found.identity.ancestry.ranks;
    const SocketAddress at = probe.candidate().address;
    if (!found.verdict.empty() && found.verdict != kFormed) {
      probe.outdated("an attempt with ranks " + rankList(theirs) + ", which has failed");
      return std::nullopt;
    }
    store::Client client = probe.release();
    if (!difference.explained) {
      ErrorFacts facts;
      facts.rank = rank_;
      facts.op = "join";
      facts.address = at.text();
      facts.peerHost = found.host;
      facts.peerPid = found.pid;
      const int self = mine[static_cast<size_t>(rank_)];
      const std::string text = "the ranks do not agree on who goes on: rank " + std::to_string(self) +
                               " of the old group means ranks " + rankList(mine) + ", its rank " +
                               std::to_string(theirs.front()) + " (pid " + std::to_string(found.pid) +
                               " on " + found.host + ") means ranks " + rankList(theirs) +
                               "; call reform() with the same ranks everywhere";
      // Each side's ranks in its own numbering, and the other side to blame.
      facts.peer = indexIn(theirs, self);
      tell(client, Error(ErrorCode::kGroupMismatch, text, facts));
      facts.peer = indexIn(mine, theirs.front());
      throw Error(ErrorCode::kGroupMismatch, text, facts);
    }
    if (!difference.theirsOnly.empty()) {
      tell(client, lostError(theirs, difference.theirsOnly.front(), "was lost, as other ranks know"));
    }
    if (!difference.mineOnly.empty()) {
      throw lostError(mine, difference.mineOnly.front(), "has been given up by the others");
    }
    probe.outdated("an attempt of ranks that had not heard of a loss");
    return std::nullopt;
  }

  Error lostError(const std::vector<int>& ranks, int lost, const std::string& what) const {
    ErrorFacts facts;
    facts.rank = rank_;
    facts.op = "join";
    facts.peer = indexIn(ranks, lost);
    return Error(ErrorCode::kRankLost, "rank " + std::to_string(lost) + " of the old group " + what, facts);
  }

  void tell(store::Client& client, const Error& cause) {
    try {
      client.compareSet(kVerdictKey, "", encodeVerdict(cause), Deadline::in(kAskLimit), &cancel_);
    } catch (const Error&) {
      cancel_.check();
    }
  }

  // The group stands. It may be about to end and be formed anew, or have other candidates left.
  std::optional<FoundStore> complete(size_t i, const Found& found) {
    Probe& probe = probes_[i];
    const std::string text = "this group's store, but the group is complete and rank " +
                             std::to_string(rank_) + " is in it: " + describe(found);
    if (probes_.size() > 1) return turnedAway(i, text);
    store::Client client = probe.release();
    const std::optional<Member> holder = holderOf(client);
    // This process was in it: it has seen its end before rank 0 has.
    if (!holder || isThisProcess(*holder)) {
      probe.outdated(text);
      return std::nullopt;
    }
    ErrorFacts facts;
    facts.rank = rank_;
    facts.op = "join";
    facts.address = probe.candidate().address.text();
    facts.peer = rank_;
    facts.peerHost = holder->endpoint.host;
    facts.peerPid = holder->endpoint.pid;
    const std::string taken = "rank " + std::to_string(rank_) + " is taken by pid " +
                              std::to_string(facts.peerPid) + " on " + facts.peerHost + ": the store at " +
                              facts.address + " is " + text;
    tellRefused(client, rank_, taken, cancel_);
    throw Error(ErrorCode::kRankTaken, taken, facts);
  }

  std::optional<Member> holderOf(store::Client& client) {
    try {
      const auto text = client.tryGet(rankKey(rank_), Deadline::in(kAskLimit), &cancel_);
      if (text) return decodeMember(rank_, *text);
    } catch (const Error&) {
      cancel_.check();
    }
    return std::nullopt;
  }

  // Whether a failure is news to this rank, which came too late to register; told once. A rank that was there
  // has had it already, and is here for the next try.
  bool concerned(store::Client& client) {
    try {
      const Deadline limit = Deadline::in(kAskLimit);
      return client.tryGet(rankKey(rank_), limit, &cancel_) == kLeft &&
             client.add(heardKey(rank_), 1, limit, &cancel_) == 1;
    } catch (const Error&) {
      cancel_.check();
      return false;
    }
  }

  // Foreign, as far as this rank is concerned: said once to its owner, then looked at again from time to
  // time.
  std::optional<FoundStore> turnedAway(size_t i, const std::string& finding) {
    Probe& probe = probes_[i];
    if (!told_[i]) {
      told_[i] = true;
      store::Client client = probe.release();
      tellRefused(client, rank_,
                  "rank " + std::to_string(rank_) + " looks for group '" + identity_.groupName +
                      "' of job '" + identity_.jobId + "', generation " +
                      std::to_string(identity_.generation) + ", and found " + finding,
                  cancel_);
    }
    probe.reject(finding);
    return std::nullopt;
  }

  // The only port there is belongs to a store with another secret, and has for a while.
  bool isHopeless() const {
    bool any = false;
    for (const Probe& probe : probes_) {
      if (probe.candidate().port != probes_.front().candidate().port) return false;
      any = any || probe.unprovenFor() > kUnprovenLimit;
    }
    return any && onlyUnproven();
  }

  // Stores were met, and each of them failed to prove the secret.
  bool onlyUnproven() const {
    bool any = false;
    for (const Probe& probe : probes_) {
      if (probe.metProvenStore()) return false;
      any = any || probe.unproven();
    }
    return any;
  }

  Error notFound(const Deadline& deadline) const {
    ErrorFacts facts;
    facts.rank = rank_;
    facts.op = "join";
    if (onlyUnproven()) {
      std::string text = "rank " + std::to_string(rank_) + " found no store of group '" +
                         identity_.groupName + "' that has the same secret. Met on the candidates:";
      for (const Probe& probe : probes_) {
        text += "\n  " + probe.candidate().address.text() + ": " + probe.finding();
        if (probe.unproven() && facts.address.empty()) facts.address = probe.candidate().address.text();
      }
      text += "\nGive all ranks the same secret (option secret, or NODE_COLLECTIVES_SECRET), or none of them";
      return Error(ErrorCode::kAuthentication, text, facts);
    }
    std::string text = "rank " + std::to_string(rank_) + " did not find the store of group '" +
                       identity_.groupName + "' within " + std::to_string(deadline.limit().count()) +
                       " ms. Met on the candidates:";
    for (const Probe& probe : probes_)
      text += "\n  " + probe.candidate().address.text() + ": " + probe.finding();
    facts.peer = 0;
    facts.missing = {0};
    text += "\nCheck that rank 0 runs, that all ranks have the same address, ports, group name and job id";
    return Error(ErrorCode::kRendezvous, text, facts);
  }

  const Identity& identity_;
  int rank_;
  Cancel& cancel_;
  std::vector<Probe> probes_;
  std::vector<bool> told_;
};

}  // namespace

FoundStore findStore(const std::vector<Candidate>& candidates, const Identity& identity,
                     const Credentials& credentials, const Deadline& deadline, Cancel& cancel) {
  return Finder(candidates, identity, credentials, cancel).run(deadline);
}

}  // namespace nc::rendezvous
