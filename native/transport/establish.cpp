#include "transport/establish.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <list>
#include <optional>
#include <span>
#include <utility>

#include "transport/describe.h"

namespace nc::transport {

namespace {

constexpr Millis kHelloLimit{5000};  // a connection that is not made, or not introduced, by then is dropped
constexpr Millis kMeanwhile{20};
constexpr Millis kRedial{10};  // first pause before dialling again; doubles up to kRedialMost
constexpr Millis kRedialMost{250};
// Connections not introduced yet, besides one for each rank that may dial; above it the oldest goes.
constexpr size_t kMaxStrangers = 256;
// Few enough that between two batches the connections that have introduced themselves are read, and so are
// not the ones dropped when strangers flood in.
constexpr int kAcceptBatch = 32;

// Bytes of a message of the handshake that have come so far; all of them have fixed lengths.
struct Inbox {
  std::array<std::byte, kAnswerBytes> bytes{};
  size_t have = 0;

  enum class Progress { kMore, kComplete, kEnded };
  // Not a byte beyond the message: what follows may be a frame.
  Progress read(int fd, size_t length) {
    while (have < length) {
      const ssize_t got = ::recv(fd, &bytes[have], length - have, MSG_DONTWAIT);
      if (got > 0) {
        have += static_cast<size_t>(got);
      } else if (got < 0 && errno == EINTR) {
        continue;
      } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return Progress::kMore;
      } else {
        return Progress::kEnded;
      }
    }
    return Progress::kComplete;
  }
  template <size_t N>
  std::span<const std::byte, N> message() const {
    static_assert(N <= kAnswerBytes);
    return std::span(bytes).template first<N>();
  }
  std::span<const std::byte> sofar() const { return std::span(bytes).first(have); }
};

static_assert(kHelloBytes <= kAnswerBytes);

// A step of the handshake: what is awaited next.
enum class Step { kGreeting, kAnswer, kProof, kHello };

struct Incoming {
  UniqueFd fd;
  bool local = false;
  Step step = Step::kHello;
  std::optional<Callee> callee;
  Inbox inbox;
  Clock::time_point limit;
};

struct Dial {
  const Endpoint* to = nullptr;
  UniqueFd fd;
  bool local = false;        // over the UNIX socket
  bool localFailed = false;  // do not try that again
  bool connected = false;
  Step step = Step::kHello;
  std::optional<Caller> caller;
  Inbox inbox;
  Clock::time_point next;   // not before
  Clock::time_point limit;  // of this attempt
  Millis pause = kRedial;
  std::string trouble = "not tried yet";
};

void tune(int fd, bool local) {
  if (local) {
    // The default of 208 KiB makes large messages a matter of many small steps.
    const int bytes = 1 << 20;
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    return;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

// An abstract socket has no file permissions: the peer has to be of this user, or root.
bool trusted(int fd) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

// It may have ended again by now, which is for whoever reads the link to find.
std::string reachedAt(int fd, const Endpoint& to) {
  const auto peer = SocketAddress::peer(fd);
  return (peer ? *peer : SocketAddress::parse(to.address, to.port)).text();
}

class Establisher {
 public:
  Establisher(const Listener& listener, const EstablishOptions& options, Cancel& cancel)
      : listener_(listener), options_(options), cancel_(cancel), linked_(options.endpoints.size(), false) {
    linked_[static_cast<size_t>(options.rank)] = true;
    missing_ = options.endpoints.size() - 1;
    for (const Endpoint& endpoint : options.endpoints) {
      if (endpoint.rank <= options.rank) continue;
      Dial& dial = dials_.emplace_back();
      dial.to = &endpoint;
      dial.next = Clock::now();
    }
  }

  std::vector<LinkEnd> run(const Deadline& deadline) {
    auto meanwhileAt = Clock::now() + kMeanwhile;
    while (missing_ > 0) {
      cancel_.check();
      if (deadline.passed()) throw timedOut(deadline);
      if (options_.meanwhile && Clock::now() >= meanwhileAt) {
        options_.meanwhile();
        meanwhileAt = Clock::now() + kMeanwhile;
      }
      startDials();
      poll(std::min(deadline.at(), meanwhileAt));
      dropSlow();
    }
    return std::move(ends_);
  }

 private:
  void startDials() {
    const auto now = Clock::now();
    for (Dial& dial : dials_) {
      if (!dial.fd && dial.next <= now) start(dial);
    }
  }

  void start(Dial& dial) {
    const Endpoint& self = options_.endpoints[static_cast<size_t>(options_.rank)];
    dial.local = !dial.localFailed && !self.identity.empty() && self.identity == dial.to->identity;
    dial.connected = false;
    dial.inbox = {};
    dial.caller.reset();
    dial.limit = Clock::now() + kHelloLimit;
    int rc = 0;
    if (dial.local) {
      sockaddr_un name{};
      name.sun_family = AF_UNIX;
      const size_t bytes = std::min(dial.to->localName.size(), sizeof(name.sun_path) - 1);
      std::memcpy(&name.sun_path[1], dial.to->localName.data(), bytes);
      dial.fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!dial.fd) throw systemError("socket(AF_UNIX)", errno);
      rc = ::connect(dial.fd.get(), reinterpret_cast<const sockaddr*>(&name),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes));
    } else {
      const SocketAddress to = SocketAddress::parse(dial.to->address, dial.to->port);
      dial.fd = UniqueFd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!dial.fd) throw systemError("socket", errno, to.text());
      rc = ::connect(dial.fd.get(), to.get(), to.length);
    }
    if (rc == 0) {
      connected(dial);
    } else if (errno != EINPROGRESS) {
      again(dial, "connect: " + errnoText(errno), errno);
    }
  }

  void connected(Dial& dial) {
    if (dial.local && !trusted(dial.fd.get()))
      return again(dial, "the UNIX socket belongs to another user", 0);
    dial.connected = true;
    // It is this rank's own listener that took the call; a process that is stopped may answer late. Calling
    // again could leave the other side with a link that this side has dropped.
    dial.limit = Clock::time_point::max();
    tune(dial.fd.get(), dial.local);
    if (!options_.credentials) {
      dial.step = Step::kHello;
      return say(dial, encode(hello(dial.to->rank, false)));
    }
    Credentials credentials = options_.credentials;
    credentials.claim.to = dial.to->rank;
    dial.step = Step::kAnswer;
    say(dial, dial.caller.emplace(credentials).greeting());
  }

  void say(Dial& dial, std::span<const std::byte> bytes) {
    if (!send(dial.fd.get(), bytes)) again(dial, "send: " + errnoText(errno), errno);
  }

  // A new socket's buffer takes any message of the handshake whole.
  static bool send(int fd, std::span<const std::byte> bytes) {
    return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

  // The listener has proven the secret, or has not; this side's proof and hello follow.
  void answered(Dial& dial) {
    if (dial.caller->check(dial.inbox.message<kAnswerBytes>()) != Caller::Outcome::kProven ||
        !dial.caller->sameScope()) {
      return again(dial, "somebody without the group's secret answered there", 0);
    }
    dial.inbox = {};
    dial.step = Step::kHello;
    std::array<std::byte, kProofBytes + kHelloBytes> bytes;
    const Proof proof = dial.caller->proof();
    const auto own = encode(hello(dial.to->rank, false));
    std::copy(own.begin(), own.end(), std::copy(proof.begin(), proof.end(), bytes.begin()));
    say(dial, bytes);
  }

  void again(Dial& dial, std::string trouble, int errnum) {
    dial.fd.reset();
    dial.trouble = std::move(trouble);
    // A full backlog (EAGAIN) is worth another try, anything else means that the UNIX way is closed.
    if (dial.local && errnum != EAGAIN) dial.localFailed = true;
    dial.next = dial.local ? Clock::now() : Clock::now() + dial.pause;
    if (!dial.local || errnum == EAGAIN) dial.pause = std::min(dial.pause * 2, kRedialMost);
    if (dial.local && errnum == EAGAIN) dial.next = Clock::now() + dial.pause;
  }

  void poll(Clock::time_point until) {
    polls_.clear();
    polls_.push_back({cancel_.fd(), POLLIN, 0});
    polls_.push_back({listener_.tcp.get(), POLLIN, 0});
    polls_.push_back({listener_.local.get(), POLLIN, 0});
    const size_t firstDial = polls_.size();
    for (const Dial& dial : dials_) {
      if (dial.fd) {
        polls_.push_back({dial.fd.get(), static_cast<short>(dial.connected ? POLLIN : POLLOUT), 0});
        until = std::min(until, dial.limit);
      } else {
        polls_.push_back({-1, 0, 0});
        until = std::min(until, dial.next);
      }
    }
    const size_t firstIncoming = polls_.size();
    for (const Incoming& incoming : incoming_) {
      polls_.push_back({incoming.fd.get(), POLLIN, 0});
      until = std::min(until, incoming.limit);
    }
    const auto left = std::chrono::ceil<Millis>(until - Clock::now()).count();
    const int timeout = static_cast<int>(std::clamp<decltype(left)>(left, 0, 60'000));
    if (::poll(polls_.data(), polls_.size(), timeout) < 0 && errno != EINTR) throw systemError("poll", errno);

    size_t at = firstIncoming;
    for (auto it = incoming_.begin(); it != incoming_.end(); ++at) {
      it = polls_[at].revents != 0 && !keep(*it) ? incoming_.erase(it) : std::next(it);
    }
    at = firstDial;
    for (auto it = dials_.begin(); it != dials_.end(); ++at) {
      it = polls_[at].revents != 0 && progress(*it) ? dials_.erase(it) : std::next(it);
    }
    if (polls_[1].revents != 0) accept(listener_.tcp.get(), false);
    if (polls_[2].revents != 0) accept(listener_.local.get(), true);
  }

  // True once the dial has become a link.
  bool progress(Dial& dial) {
    if (!dial.connected) {
      int errnum = 0;
      socklen_t length = sizeof(errnum);
      ::getsockopt(dial.fd.get(), SOL_SOCKET, SO_ERROR, &errnum, &length);
      if (errnum != 0) {
        again(dial, "connect: " + errnoText(errnum), errnum);
      } else {
        connected(dial);
      }
      return false;
    }
    switch (dial.inbox.read(dial.fd.get(), dial.step == Step::kAnswer ? kAnswerBytes : kHelloBytes)) {
      case Inbox::Progress::kMore:
        return false;
      case Inbox::Progress::kEnded:
        again(dial, "the connection was closed before it answered", 0);
        return false;
      case Inbox::Progress::kComplete:
        break;
    }
    if (dial.step == Step::kAnswer) {
      answered(dial);
      return false;
    }
    Hello expected = hello(options_.rank, true);
    expected.from = dial.to->rank;
    if (decodeHello(dial.inbox.message<kHelloBytes>()) != expected) {
      again(dial, "somebody else answered there", 0);
      return false;
    }
    link(*dial.to, std::move(dial.fd), dial.local,
         dial.caller ? std::optional(dial.caller->linkKeys()) : std::nullopt);
    return true;
  }

  void accept(int listening, bool local) {
    for (int i = 0; i < kAcceptBatch; ++i) {
      UniqueFd fd(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      // Out of descriptors, the connection stays queued and poll reports it again and again: the links cannot
      // be had, and waiting for the deadline would only hide why.
      if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
        throw systemError("accept", errno);
      if (!fd) return;
      if (local && !trusted(fd.get())) continue;
      if (incoming_.size() >= kMaxStrangers + options_.endpoints.size()) dropOne();
      Incoming& incoming = incoming_.emplace_back();
      if (options_.credentials) {
        incoming.step = Step::kGreeting;
        incoming.callee.emplace(options_.credentials);
      }
      incoming.fd = std::move(fd);
      incoming.local = local;
      incoming.limit = Clock::now() + kHelloLimit;
    }
  }

  // Makes room. The oldest that has said nothing goes first: a member that waits its turn has said something.
  void dropOne() {
    for (auto it = incoming_.begin(); it != incoming_.end(); ++it) {
      if (hasSpoken(*it)) continue;
      // It may have spoken by now.
      if (keep(*it) && hasSpoken(*it)) continue;
      incoming_.erase(it);
      return;
    }
    incoming_.pop_front();
  }

  bool hasSpoken(const Incoming& incoming) const {
    const Step first = options_.credentials ? Step::kGreeting : Step::kHello;
    return incoming.step != first || incoming.inbox.have > 0;
  }

  // False once the connection is done with: it has become a link, or is a stranger's.
  bool keep(Incoming& incoming) {
    for (;;) {
      const size_t length = incoming.step == Step::kGreeting ? kGreetingBytes
                            : incoming.step == Step::kProof  ? kProofBytes
                                                             : kHelloBytes;
      const auto got = incoming.inbox.read(incoming.fd.get(), length);
      // The first wrong byte is enough.
      if (incoming.step == Step::kGreeting && !startsLikeGreeting(incoming.inbox.sofar())) return false;
      if (got == Inbox::Progress::kMore) return true;
      if (got == Inbox::Progress::kEnded) return false;
      if (incoming.step == Step::kHello) return introduced(incoming);
      if (incoming.step == Step::kGreeting) {
        const auto answer = incoming.callee->answer(incoming.inbox.message<kGreetingBytes>());
        const Claim& peer = incoming.callee->peer();
        if (!answer || !incoming.callee->sameScope() || peer.to != options_.rank || !mayDial(peer.from))
          return false;
        if (!send(incoming.fd.get(), *answer)) return false;
        incoming.step = Step::kProof;
      } else {
        if (!incoming.callee->check(incoming.inbox.message<kProofBytes>())) return false;
        incoming.step = Step::kHello;
      }
      incoming.inbox = {};
    }
  }

  bool mayDial(int32_t from) const {
    return from >= 0 && from < options_.rank && !linked_[static_cast<size_t>(from)];
  }

  // Always false: the connection is a link now, or of no use.
  bool introduced(Incoming& incoming) {
    const auto said = decodeHello(incoming.inbox.message<kHelloBytes>());
    if (!said || !mayDial(said->from)) return false;
    // Who proved the secret as one rank does not become another.
    if (incoming.callee && incoming.callee->peer().from != said->from) return false;
    Hello expected = hello(options_.rank, false);
    expected.from = said->from;
    if (*said != expected) return false;
    tune(incoming.fd.get(), incoming.local);
    if (!send(incoming.fd.get(), encode(hello(said->from, true)))) return false;
    link(options_.endpoints[static_cast<size_t>(said->from)], std::move(incoming.fd), incoming.local,
         incoming.callee ? std::optional(incoming.callee->linkKeys()) : std::nullopt);
    return false;
  }

  void link(const Endpoint& to, UniqueFd fd, bool local, std::optional<LinkKeys> keys) {
    LinkEnd end;
    end.keys = std::move(keys);
    end.member = {to.rank, to.host, to.pid, local ? "unix" : reachedAt(fd.get(), to)};
    if (local) end.process = openPeerProcess(fd.get());
    end.fd = std::move(fd);
    ends_.push_back(std::move(end));
    linked_[static_cast<size_t>(to.rank)] = true;
    --missing_;
  }

  void dropSlow() {
    const auto now = Clock::now();
    std::erase_if(incoming_, [&](const Incoming& incoming) { return incoming.limit <= now; });
    for (Dial& dial : dials_) {
      if (dial.fd && dial.limit <= now) again(dial, "no connection within 5 s", 0);
    }
  }

  Hello hello(int to, bool reply) const {
    Hello hello;
    hello.token = options_.token;
    hello.generation = options_.generation;
    hello.from = options_.rank;
    hello.to = to;
    hello.size = static_cast<int32_t>(options_.endpoints.size());
    hello.reply = reply;
    return hello;
  }

  Error timedOut(const Deadline& deadline) const {
    ErrorFacts facts;
    facts.rank = options_.rank;
    facts.op = "join";
    std::string text = "rank " + std::to_string(options_.rank) +
                       " could not be linked with every rank within " +
                       std::to_string(deadline.limit().count()) + " ms:";
    for (const Endpoint& endpoint : options_.endpoints) {
      if (linked_[static_cast<size_t>(endpoint.rank)]) continue;
      facts.missing.push_back(endpoint.rank);
      text += " " + describe(Member{endpoint.rank, endpoint.host, endpoint.pid, {}}) + " at " +
              endpoint.address + ":" + std::to_string(endpoint.port);
      if (endpoint.rank < options_.rank) {
        text += " has not dialled;";
      } else {
        const auto dial =
            std::find_if(dials_.begin(), dials_.end(), [&](const Dial& d) { return d.to == &endpoint; });
        text += dial != dials_.end() ? ": " + dial->trouble + ";" : ";";
      }
    }
    text.pop_back();
    return Error(ErrorCode::kTimeout, text, facts);
  }

  const Listener& listener_;
  const EstablishOptions& options_;
  Cancel& cancel_;
  std::vector<bool> linked_;
  size_t missing_ = 0;
  std::list<Dial> dials_;
  std::list<Incoming> incoming_;
  std::vector<LinkEnd> ends_;
  std::vector<pollfd> polls_;
};

}  // namespace

std::vector<LinkEnd> establish(const Listener& listener, const EstablishOptions& options,
                               const Deadline& deadline, Cancel& cancel) {
  return Establisher(listener, options, cancel).run(deadline);
}

}  // namespace nc::transport
