// Opening a connection to a store: dial, VALIDATE and PING, the nonce; again until the deadline.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "core/error.h"
#include "store/client.h"
#include "store/wire.h"

namespace nc::store {

namespace {

constexpr Millis kFirstPause{5};
constexpr Millis kLongestPause{50};
constexpr int kMostHangUps = 10;

class Dial {
 public:
  Dial(const SocketAddress& address, const Deadline& deadline, Cancel* cancel, const Credentials& credentials)
      : address_(address), deadline_(deadline), cancel_(cancel), credentials_(credentials) {}

  UniqueFd run() {
    Millis pause = kFirstPause;
    while (true) {
      if (UniqueFd fd = attempt()) return fd;
      if (!sleep(pause)) giveUp();
      pause = std::min(pause * 3 / 2, kLongestPause);
    }
  }

 private:
  // No descriptor: to be tried again, reason_ says why.
  UniqueFd attempt() {
    UniqueFd fd(::socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) throw systemError("store.connect: socket", errno, address_.text());
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (::connect(fd.get(), address_.get(), address_.length) != 0) {
      if (errno != EINPROGRESS && errno != EINTR) return again("connect", errno);
      wait(fd.get(), POLLOUT, "was not accepted");
      int error = 0;
      socklen_t length = sizeof(error);
      ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) return again("connect", error);
    }
    if (connectedToItself(fd.get())) {
      // Ends with a reset: an orderly close would keep the port that the server wants to listen on.
      const linger reset{1, 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
      return again("connect", ECONNREFUSED);
    }
    std::optional<Caller> caller;
    if (credentials_ && !prove(fd.get(), caller.emplace(credentials_))) return {};
    const uint32_t nonce = randomNonce();
    const auto hello = handshake(nonce);
    std::string bytes;
    if (caller) {
      const Proof proof = caller->proof();
      bytes.assign(reinterpret_cast<const char*>(proof.data()), proof.size());
    }
    bytes.append(reinterpret_cast<const char*>(hello.data()), hello.size());
    if (::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
      return again("send", errno);
    }
    std::array<std::byte, 4> answer{};
    if (!receive(fd.get(), answer, "was accepted, but PING was not answered")) return {};
    if (!nonceMatches(std::span<const uint8_t, 4>(reinterpret_cast<const uint8_t*>(answer.data()), 4),
                      nonce)) {
      if (startsLikeRefusal(answer)) {
        fail(ErrorCode::kAuthentication,
             "asks for a secret, and none is given here: set the option secret, or "
             "NODE_COLLECTIVES_SECRET");
      }
      throw Error(ErrorCode::kProtocol,
                  "store.connect: " + address_.text() + " answered, but is no TCPStore (wrong nonce)",
                  facts(0));
    }
    return fd;
  }

  // False: to be tried again. Throws where the other side has another secret, or none.
  bool prove(int fd, Caller& caller) {
    const Greeting& greeting = caller.greeting();
    if (::send(fd, greeting.data(), greeting.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(greeting.size())) {
      again("send", errno);
      return false;
    }
    Answer answer{};
    const auto begin = std::span(answer).first<kRefusalBytes>();
    const char* state = "was accepted, but the secret was not proven";
    bool whole = receive(fd, begin, state);
    if (whole && decodeRefusal(begin)) {
      fail(ErrorCode::kAuthentication,
           "has no secret, and one is given here: give it the same, or none to both");
    }
    if (whole && startsLikeGreeting(begin)) {
      whole = receive(fd, std::span(answer).subspan(kRefusalBytes), state);
    } else if (whole) {
      fail(ErrorCode::kProtocol, "answered, but is no store of this package");
    }
    if (!whole) {
      // PyTorch's store hangs up without a word. Now and then a store that is ending does too.
      if (++hungUp_ < kMostHangUps) return false;
      fail(ErrorCode::kAuthentication,
           "hangs up when it is to prove the secret: it has none, or is no store of this package");
    }
    switch (caller.check(answer)) {
      case Caller::Outcome::kNotThis:
        fail(ErrorCode::kProtocol, "answered, but is no store of this package");
      case Caller::Outcome::kUnproven:
        fail(ErrorCode::kAuthentication, "has another secret");
      case Caller::Outcome::kProven:
        break;
    }
    if (!caller.sameScope()) fail(ErrorCode::kAuthentication, "is another group's store, of the same secret");
    return true;
  }

  // False: the connection has ended, which is to be tried again.
  bool receive(int fd, std::span<std::byte> into, const char* state) {
    while (!into.empty()) {
      wait(fd, POLLIN, state);
      const ssize_t count = ::recv(fd, into.data(), into.size(), 0);
      if (count > 0) {
        into = into.subspan(static_cast<size_t>(count));
      } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        again("handshake", count == 0 ? ECONNRESET : errno);
        return false;
      }
    }
    return true;
  }

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const {
    throw Error(code, "store.connect: the store at " + address_.text() + " " + what, facts(0));
  }

  UniqueFd again(const char* what, int errnum) {
    static constexpr std::array kPassing{ECONNREFUSED, ECONNRESET,    ECONNABORTED, ETIMEDOUT, EHOSTUNREACH,
                                         ENETUNREACH,  EADDRNOTAVAIL, EAGAIN,       EPIPE,     EHOSTDOWN};
    if (std::find(kPassing.begin(), kPassing.end(), errnum) == kPassing.end()) {
      Error error = systemError(std::string("store.connect: ") + what, errnum, address_.text());
      error.facts.op = "store.connect";
      throw error;
    }
    reason_ = strerrordesc_np(errnum);
    errnum_ = errnum;
    return {};
  }

  void wait(int fd, short events, const char* state) {
    while (true) {
      std::array<pollfd, 2> fds{pollfd{fd, events, 0}, pollfd{cancel_ ? cancel_->fd() : -1, POLLIN, 0}};
      const int count = ::poll(fds.data(), fds.size(), deadline_.pollTimeout());
      if (cancel_) cancel_->check();
      if (count > 0 && fds[0].revents != 0) return;
      if (count == 0) {
        reason_ = std::string("the connection ") + state;
        errnum_ = ETIMEDOUT;
        giveUp();
      }
    }
  }

  bool sleep(Millis pause) const {
    pollfd fd{cancel_ ? cancel_->fd() : -1, POLLIN, 0};
    ::poll(&fd, 1, deadline_.sooner(pause).pollTimeout());
    if (cancel_) cancel_->check();
    return !deadline_.passed();
  }

  ErrorFacts facts(int errnum) const {
    ErrorFacts facts;
    facts.op = "store.connect";
    facts.address = address_.text();
    facts.errnum = errnum;
    return facts;
  }

  [[noreturn]] void giveUp() const {
    throw Error(ErrorCode::kTimeout,
                "store.connect: no store at " + address_.text() + " within " +
                    std::to_string(deadline_.limit().count()) + " ms: " + reason_,
                facts(errnum_));
  }

  const SocketAddress& address_;
  const Deadline& deadline_;
  Cancel* cancel_;
  const Credentials& credentials_;
  int hungUp_ = 0;  // in place of an answer to the greeting
  std::string reason_ = "nothing was tried";
  int errnum_ = 0;
};

}  // namespace

UniqueFd connectValidated(const SocketAddress& address, const Deadline& deadline, Cancel* cancel,
                          const Credentials& credentials) {
  if (cancel) cancel->check();
  return Dial(address, deadline, cancel, credentials).run();
}

bool connectedToItself(int fd) {
  const SocketAddress local = SocketAddress::local(fd);
  SocketAddress peer;
  peer.length = sizeof(peer.storage);
  if (::getpeername(fd, peer.get(), &peer.length) != 0) return false;
  return local.port() == peer.port() && local.host() == peer.host();
}

Client Client::connect(const SocketAddress& address, const Deadline& deadline, Cancel* cancel,
                       std::string prefix, const Credentials& credentials) {
  return Client(connectValidated(address, deadline, cancel, credentials), address, std::move(prefix));
}

}  // namespace nc::store
