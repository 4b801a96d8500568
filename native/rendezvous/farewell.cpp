#include "rendezvous/farewell.h"

#include <utility>

#include "rendezvous/verdict.h"

namespace nc::rendezvous {

namespace {

// As long as a silent rank is taken to be alive.
constexpr Millis kUnread{3000};
// How much later than this rank's end another may begin to join and still hear of it. Whoever comes after
// that is more likely to belong to the next attempt.
constexpr Millis kLate{1000};
constexpr Millis kLook{20};
constexpr Millis kAskLimit{300};

class LetRead final : public Farewell {
 public:
  LetRead(std::unique_ptr<HostedStore> hosted, bool all) : hosted_(std::move(hosted)), all_(all) {}

  void say(Cancel& cancel) noexcept override {
    const Deadline late = Deadline::in(kLate);
    const Deadline limit = Deadline::in(kUnread);
    while (!cancel.cancelled() && !limit.passed()) {
      if (hosted_->linger(kLook, all_ && !late.passed())) return;
    }
  }

 private:
  std::unique_ptr<HostedStore> hosted_;
  bool all_;
};

class TellOnceFound final : public Farewell {
 public:
  explicit TellOnceFound(Untold untold) : untold_(std::move(untold)) {}

  void say(Cancel& cancel) noexcept override {
    try {
      FoundStore found =
          findStore(untold_.candidates, untold_.identity, untold_.credentials, Deadline::in(kLate), cancel);
      const Deadline limit = Deadline::in(kAskLimit);
      const int rank = untold_.credentials.claim.from;
      // Not a formation that another process, or this one's next attempt, takes part in.
      const auto registered = found.client.tryGet(rankKey(rank), limit, &cancel);
      if (registered.value_or("") != untold_.registered) return;
      tellVerdict(found.client, rank, untold_.cause, limit, &cancel);
    } catch (const std::exception&) {
      // There is nobody to tell, or they know.
    }
  }

 private:
  Untold untold_;
};

}  // namespace

std::unique_ptr<Farewell> letRead(std::unique_ptr<HostedStore> hosted, bool all) {
  return std::make_unique<LetRead>(std::move(hosted), all);
}

std::unique_ptr<Farewell> tellOnceFound(Untold untold) {
  return std::make_unique<TellOnceFound>(std::move(untold));
}

std::unique_ptr<Farewell> leave(JoinOptions options, const JoinEvents& events, const Error& cause) {
  const std::vector<Candidate> candidates = candidatesOf(options);
  if (options.rank != 0) {
    const Credentials credentials =
        credentialsFor(options.identity, options.access, Purpose::kGroupStore, options.rank, 0);
    return tellOnceFound({candidates, std::move(options.identity), credentials, cause, {}, {}});
  }
  if (options.ports != std::vector<uint16_t>{0}) return nullptr;
  auto hosted = HostedStore::open(candidates, {}, options.identity, options.access, events.host);
  condemn(hosted->server(), options.identity.size, cause);
  if (events.onListening) events.onListening(hosted->server().port());
  return letRead(std::move(hosted), true);
}

}  // namespace nc::rendezvous
