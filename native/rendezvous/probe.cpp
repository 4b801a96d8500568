#include "rendezvous/probe.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "store/wire.h"

namespace nc::rendezvous {

namespace {

constexpr Millis kFirstPause{2};  // rank 0 is usually only a moment late
constexpr Millis kMostPause{50};
constexpr Millis kOutdatedPause{20};
constexpr Millis kForeignPause{200};  // a stranger does not leave soon
// After this time without a word the connection is made anew: the port may have changed hands while the old
// holder keeps the connection. Doubles, for stores that are slow.
constexpr Millis kFirstSilence{250};
constexpr Millis kMostSilence{2000};
constexpr size_t kMostInput = 64 * 1024;

// Two blobs, one after the other; false while they are not complete, or if they are none of ours.
bool takeBlobs(const std::string& input, std::string& first, std::string& second, bool& bad) {
  size_t at = 0;
  for (std::string* blob : {&first, &second}) {
    if (input.size() - at < 8) return false;
    const uint64_t length = store::getU64(reinterpret_cast<const uint8_t*>(input.data() + at));
    if (length > kMostInput) {
      bad = true;
      return false;
    }
    if (input.size() - at - 8 < length) return false;
    blob->assign(input, at + 8, length);
    at += 8 + length;
  }
  return true;
}

}  // namespace

void Probe::start() {
  tried_ = true;
  input_.clear();
  silence_ = std::clamp(silence_ * 2, kFirstSilence, kMostSilence);
  limit_ = Clock::now() + silence_;
  state_ = State::kConnecting;
  fd_ = UniqueFd(::socket(candidate_.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd_) return again("socket: " + errnoText(errno), kMostPause);
  const int on = 1;
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (::connect(fd_.get(), candidate_.address.get(), candidate_.address.length) == 0) return connected();
  if (errno != EINPROGRESS) {
    const int errnum = errno;
    pause_ = std::clamp(pause_ * 2, kFirstPause, kMostPause);
    again(errnoText(errnum), pause_);
  }
}

void Probe::advance(bool ready) {
  if (state_ == State::kWaiting || state_ == State::kStore) return;
  if (ready) {
    if (state_ == State::kConnecting) {
      int errnum = 0;
      socklen_t length = sizeof(errnum);
      ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &errnum, &length);
      if (errnum == 0) return connected();
      pause_ = std::clamp(pause_ * 2, kFirstPause, kMostPause);
      return again(errnoText(errnum), pause_);
    }
    return read();
  }
  if (Clock::now() < limit_) return;
  const bool silent = state_ != State::kConnecting;
  again(silent ? "a listener that accepted the connection and stayed silent"
               : "no answer to the connection request",
        kMostPause);
}

void Probe::connected() {
  if (store::connectedToItself(fd_.get())) {
    // It holds the very port that rank 0 wants, and in TIME_WAIT would go on to: a reset frees it at once.
    const linger reset{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    return again("nobody listens (a connection met itself)", kFirstPause);
  }
  caller_.reset();
  if (*credentials_) return greet();
  ask();
}

void Probe::greet() {
  const Greeting& greeting = caller_.emplace(*credentials_).greeting();
  state_ = State::kProving;
  if (::send(fd_.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(greeting.size())) {
    again("a listener that closed the connection at once", kMostPause);
  }
}

// The store's own protocol begins, behind this side's proof where there is a secret.
void Probe::ask() {
  nonce_ = store::randomNonce();
  const auto hello = store::handshake(nonce_);
  std::string bytes;
  if (caller_) {
    const Proof proof = caller_->proof();
    bytes.assign(reinterpret_cast<const char*>(proof.data()), proof.size());
  }
  bytes.append(reinterpret_cast<const char*>(hello.data()), hello.size());
  state_ = State::kGreeting;
  if (::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    again("a listener that closed the connection at once", kMostPause);
  }
}

// The other side's answer to the greeting; false while it is not whole, or where it is of no use.
bool Probe::readAnswer() {
  const auto input = std::as_bytes(std::span(input_));
  if (startsLikeRefusal(input)) {
    if (decodeRefusal(input)) unprovenStore("a store that has no secret, while this rank has one");
    return false;
  }
  if (!startsLikeGreeting(input)) {
    again("something that is no store of this package; it said " + store::quoted(input_.substr(0, 40)),
          kForeignPause);
    return false;
  }
  if (input.size() < kAnswerBytes) return false;
  switch (caller_->check(input.first<kAnswerBytes>())) {
    case Caller::Outcome::kNotThis:
      again("something that is no store of this package", kForeignPause);
      return false;
    case Caller::Outcome::kUnproven:
      unprovenStore("a store that has another secret");
      return false;
    case Caller::Outcome::kProven:
      break;
  }
  input_.erase(0, kAnswerBytes);
  return true;
}

void Probe::unprovenStore(std::string finding) {
  const auto since = unprovenSince_.value_or(Clock::now());
  again(std::move(finding), kForeignPause);
  unprovenSince_ = since;
}

void Probe::read() {
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  if (got <= 0) {
    return again(
        state_ == State::kProving  ? "a listener that closed the connection when it was to prove the secret"
        : state_ == State::kAsking ? "a TCPStore that is not ours (it closed the connection when asked)"
                                   : "a listener that closed the connection without a word",
        kForeignPause);
  }
  input_.append(buffer.data(), static_cast<size_t>(got));
  if (state_ == State::kProving) {
    if (readAnswer()) ask();
    return;
  }
  if (state_ == State::kGreeting) {
    if (input_.size() < 4) return;
    const auto* answer = reinterpret_cast<const uint8_t*>(input_.data());
    if (!store::nonceMatches(std::span<const uint8_t, 4>(answer, 4), nonce_)) {
      if (!caller_ && startsLikeRefusal(std::as_bytes(std::span(input_)))) {
        return unprovenStore("a store that asks for a secret, while this rank has none");
      }
      return again("something that is no TCPStore; it said " + store::quoted(input_.substr(0, 40)),
                   kForeignPause);
    }
    input_.erase(0, 4);
    std::string request;
    for (const char* key : {kIdentityKey, kVerdictKey}) {
      store::putOp(request, store::Op::kGet);
      store::putString(request, key);
    }
    state_ = State::kAsking;
    if (::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      return again("a TCPStore that closed the connection", kForeignPause);
    }
  }
  bool bad = input_.size() > kMostInput;
  if (takeBlobs(input_, identity_, verdict_, bad)) {
    state_ = State::kStore;
    metProvenStore_ = true;
    unprovenSince_.reset();
  } else if (bad) {
    again("a TCPStore whose answers cannot be read", kForeignPause);
  }
}

std::string Probe::finding() const {
  if (!finding_.empty()) return finding_;
  if (!tried_) return "not tried yet";
  return state_ == State::kConnecting ? "no answer to the connection request so far"
                                      : "a listener that accepted the connection and stayed silent so far";
}

void Probe::reject(std::string finding) {
  again(std::move(finding), kForeignPause);
}

void Probe::outdated(std::string finding) {
  again(std::move(finding), kOutdatedPause);
}

void Probe::again(std::string finding, Millis pause) {
  finding_ = std::move(finding);
  unprovenSince_.reset();
  fd_.reset();
  state_ = State::kWaiting;
  next_ = Clock::now() + pause;
}

store::Client Probe::release() {
  return store::Client(std::move(fd_), candidate_.address);
}

}  // namespace nc::rendezvous
