// One attempt after another at one candidate address, without ever blocking. Belongs to one thread.
#pragma once

#include <poll.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "core/challenge.h"
#include "core/deadline.h"
#include "rendezvous/find_store.h"

namespace nc::rendezvous {

class Probe {
 public:
  enum class State {
    kWaiting,  // until `next`
    kConnecting,
    kProving,   // with a secret: the greeting is out
    kGreeting,  // VALIDATE and PING are out, the nonce is awaited
    kAsking,    // identity and verdict are asked for
    kStore,     // it answered as a TCPStore; text() and verdict() are filled
  };

  // The credentials have to outlive it.
  Probe(Candidate candidate, const Credentials& credentials)
      : candidate_(candidate), credentials_(&credentials) {}

  const Candidate& candidate() const { return candidate_; }
  State state() const { return state_; }
  int fd() const { return fd_.get(); }
  short events() const { return state_ == State::kConnecting ? POLLOUT : POLLIN; }
  Clock::time_point due() const { return state_ == State::kWaiting ? next_ : limit_; }
  bool tried() const { return tried_; }

  void start();
  // The descriptor is ready, or the attempt's time may be over.
  void advance(bool ready);
  // Not this group's: remembered for the final message, tried again later.
  void reject(std::string finding);
  // This group's, but an earlier formation: rank 0 may replace it any moment.
  void outdated(std::string finding);
  store::Client release();

  const std::string& identity() const { return identity_; }
  const std::string& verdict() const { return verdict_; }
  // A store answers there, and one of the two sides lacks the other's secret; since when, without a break.
  bool unproven() const { return unprovenSince_.has_value(); }
  Clock::duration unprovenFor() const {
    return unprovenSince_ ? Clock::now() - *unprovenSince_ : Clock::duration{};
  }
  // A store has answered whose secret is the same, where there is one.
  bool metProvenStore() const { return metProvenStore_; }
  // It proved the secret for the very group that is looked for; true without a secret.
  bool sameScope() const { return !caller_ || caller_->sameScope(); }
  // What this address is, as far as is known; for messages.
  std::string finding() const;

 private:
  void connected();
  void greet();
  void read();
  bool readAnswer();
  void ask();
  void unprovenStore(std::string finding);
  void again(std::string finding, Millis pause);

  Candidate candidate_;
  const Credentials* credentials_;
  std::optional<Caller> caller_;  // of this attempt
  std::optional<Clock::time_point> unprovenSince_;
  bool metProvenStore_ = false;
  UniqueFd fd_;
  State state_ = State::kWaiting;
  bool tried_ = false;
  Clock::time_point next_ = Clock::now();
  Clock::time_point limit_ = Clock::time_point::max();
  Millis pause_{0};
  Millis silence_{0};
  uint32_t nonce_ = 0;
  std::string input_;
  std::string identity_;
  std::string verdict_;
  std::string finding_;
};

}  // namespace nc::rendezvous
