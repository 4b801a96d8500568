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
#include <utility>

#include "core/error.h"
#include "store/client.h"
#include "store/wire.h"

namespace nc::store {

namespace {

constexpr Millis kFirstPause{5};
constexpr Millis kLongestPause{50};

class Dial {
 public:
  Dial(const SocketAddress& address, const Deadline& deadline, Cancel* cancel)
      : address_(address), deadline_(deadline), cancel_(cancel) {}

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
    const uint32_t nonce = randomNonce();
    const auto hello = handshake(nonce);
    if (::send(fd.get(), hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size())) {
      return again("send", errno);
    }
    std::array<uint8_t, 4> answer{};
    size_t have = 0;
    while (have < answer.size()) {
      wait(fd.get(), POLLIN, "was accepted, but PING was not answered");
      const ssize_t count = ::recv(fd.get(), answer.data() + have, answer.size() - have, 0);
      if (count == 0) return again("handshake", ECONNRESET);
      if (count > 0) have += static_cast<size_t>(count);
      if (count < 0 && errno != EAGAIN && errno != EINTR) return again("handshake", errno);
    }
    if (!nonceMatches(answer, nonce)) {
      throw Error(ErrorCode::kProtocol,
                  "store.connect: " + address_.text() + " answered, but is no TCPStore (wrong nonce)",
                  facts(0));
    }
    return fd;
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
  std::string reason_ = "nothing was tried";
  int errnum_ = 0;
};

}  // namespace

UniqueFd connectValidated(const SocketAddress& address, const Deadline& deadline, Cancel* cancel) {
  if (cancel) cancel->check();
  return Dial(address, deadline, cancel).run();
}

bool connectedToItself(int fd) {
  const SocketAddress local = SocketAddress::local(fd);
  SocketAddress peer;
  peer.length = sizeof(peer.storage);
  if (::getpeername(fd, peer.get(), &peer.length) != 0) return false;
  return local.port() == peer.port() && local.host() == peer.host();
}

Client Client::connect(const SocketAddress& address, const Deadline& deadline, Cancel* cancel,
                       std::string prefix) {
  return Client(connectValidated(address, deadline, cancel), std::move(prefix));
}

}  // namespace nc::store
