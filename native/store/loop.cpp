#include "store/loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace nc::store {

namespace {

constexpr uint64_t kListener = 0;
constexpr uint64_t kWakeUp = UINT64_MAX;
constexpr size_t kReadBytes = 256 * 1024;
// Above this many unread reply bytes a connection's requests are not looked at any more: a client that does
// not read its replies is held to this and one reply.
constexpr size_t kPauseAbove = 1024 * 1024;
// Few enough that between two batches the connections that already sent VALIDATE are read, and so are not the
// ones evicted when strangers flood in.
constexpr int kAcceptBatch = 32;
constexpr Millis kAcceptPause{50};

void setOption(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

}  // namespace

Server::Loop::Loop(UniqueFd listener, Options options)
    : options_(std::move(options)),
      address_(SocketAddress::local(listener.get())),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wakeUp_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      listener_(std::move(listener)),
      buffer_(kReadBytes) {
  if (!epoll_) throw systemError("epoll_create1", errno);
  if (!wakeUp_) throw systemError("eventfd", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeUp;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeUp_.get(), &event) != 0) {
    throw systemError("epoll_ctl", errno);
  }
  event.data.u64 = kListener;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event) != 0) {
    throw systemError("epoll_ctl", errno);
  }
}

void Server::Loop::start() {
  try {
    thread_ = NamedThread("nc-store", [this] { run(); });
  } catch (const std::system_error& error) {
    throw systemError("starting the store's thread", error.code().value());
  }
}

void Server::Loop::endThread() {
  stopping_.store(true, std::memory_order_release);
  kick();
  thread_.join();
}

void Server::Loop::stopListening() {
  endThread();
  // By name: another process may have the same socket, so that closing it here does not end the watching.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
  listener_.reset();
  acceptingPaused_ = false;
  stopping_.store(false, std::memory_order_release);
  start();
}

void Server::Loop::stop() {
  endThread();
  connections_.clear();
  open_.store(0, std::memory_order_relaxed);
  listener_.reset();
}

void Server::Loop::kick() {
  ::eventfd_write(wakeUp_.get(), 1);
}

void Server::Loop::run() {
  std::array<epoll_event, 256> events;
  while (!stopping_.load(std::memory_order_acquire)) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout());
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[static_cast<size_t>(i)].data.u64;
      if (id == kListener) {
        accept();
      } else if (id == kWakeUp) {
        eventfd_t ignored = 0;
        ::eventfd_read(wakeUp_.get(), &ignored);
      } else if (const auto found = connections_.find(id); found != connections_.end()) {
        onEvents(*found->second, events[static_cast<size_t>(i)].events);
      }
    }
    wake(table_.takeWoken());
    dropLate();
    sweep();
    if (acceptingPaused_ && Clock::now() >= resumeAt_) resumeAccepting();
  }
}

int Server::Loop::timeout() const {
  auto next = Clock::time_point::max();
  if (!unvalidated_.empty()) next = unvalidated_.begin()->second;
  if (!proving_.empty()) next = std::min(next, proving_.begin()->second);
  if (acceptingPaused_) next = std::min(next, resumeAt_);
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<Millis>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

void Server::Loop::accept() {
  for (int i = 0; i < kAcceptBatch; ++i) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      const int error = errno;
      if (error == EAGAIN || error == EWOULDBLOCK) return;
      if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        // The queued connection stays ready, so going on at once would spin. A stranger's descriptor is the
        // first to give up; without one, wait until somebody closes something.
        if (!evictOldestUnvalidated()) {
          pauseAccepting();
          return;
        }
      }
      continue;  // ECONNABORTED and the like concern that one connection
    }
    setOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    // A host that vanished would hold its connection (and what hangs on onClose) for ever.
    setOption(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
    setOption(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, 20);
    setOption(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, 5);
    setOption(fd.get(), IPPROTO_TCP, TCP_KEEPCNT, 4);
    if (unvalidated_.size() >= options_.maxUnvalidated) evictOldestUnvalidated();
    auto connection = std::make_unique<Connection>();
    connection->id = ++lastId_;
    connection->fd = std::move(fd);
    connection->interest = EPOLLIN;
    if (options_.credentials) connection->gate = std::make_unique<Gate>(options_.credentials);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = connection->id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection->fd.get(), &event) != 0) continue;
    unvalidated_.emplace(connection->id, Clock::now() + options_.validateLimit);
    connections_.emplace(connection->id, std::move(connection));
    open_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Server::Loop::pauseAccepting() {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
  acceptingPaused_ = true;
  resumeAt_ = Clock::now() + kAcceptPause;
}

void Server::Loop::resumeAccepting() {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kListener;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event) == 0) {
    acceptingPaused_ = false;
  } else {
    resumeAt_ = Clock::now() + kAcceptPause;
  }
}

bool Server::Loop::evictOldestUnvalidated() {
  if (unvalidated_.empty() && proving_.empty()) return false;
  if (unvalidated_.empty()) {
    bury(*connections_.at(proving_.begin()->first));
    sweep();
    return true;
  }
  const auto found = connections_.find(unvalidated_.begin()->first);
  // It may have said VALIDATE while we were busy; then it is no stranger and the next one goes.
  if (!found->second->dead) readFrom(*found->second);
  if (!unvalidated_.empty() && unvalidated_.begin()->first == found->first) bury(*found->second);
  sweep();
  return true;
}

void Server::Loop::dropLate() {
  const auto now = Clock::now();
  while (!unvalidated_.empty() && unvalidated_.begin()->second <= now) {
    bury(*connections_.at(unvalidated_.begin()->first));
  }
  while (!proving_.empty() && proving_.begin()->second <= now) {
    bury(*connections_.at(proving_.begin()->first));
  }
}

void Server::Loop::onEvents(Connection& connection, uint32_t events) {
  if (connection.dead) return;
  if ((events & EPOLLOUT) != 0) {
    flush(connection);
    if (!connection.dead && !connection.rest.empty() &&
        connection.out.size() - connection.sent <= kPauseAbove) {
      const std::vector<uint8_t> rest = std::exchange(connection.rest, {});
      feed(connection, rest);
    }
  }
  if (connection.dead) return;
  if ((events & EPOLLIN) != 0 && (connection.interest & EPOLLIN) != 0) {
    readFrom(connection);
  } else if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    bury(connection);
  }
}

void Server::Loop::readFrom(Connection& connection) {
  // Once per event, so that nobody's flood holds up the others.
  const ssize_t count = ::recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (count > 0) {
    feed(connection, {buffer_.data(), static_cast<size_t>(count)});
  } else if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
    bury(connection);
  }
}

void Server::Loop::feed(Connection& connection, std::span<const uint8_t> input) {
  try {
    if (connection.gate && !pass(connection, input)) return;
    if (!options_.credentials && !connection.parser.validated() && input.size() >= kRefusalBytes &&
        startsLikeGreeting(std::as_bytes(input))) {
      return refuse(connection, Refusal::kNoSecretHere);
    }
    while (!connection.dead) {
      const RequestParser::Status status = connection.parser.next(input);
      if (status == RequestParser::Status::kNeedMore) break;
      if (status == RequestParser::Status::kBad || !execute(connection, connection.parser.request())) {
        flush(connection);  // replies to the requests before are still good
        bury(connection);
        return;
      }
      if (connection.out.size() - connection.sent > kPauseAbove) flush(connection);
      if (connection.out.size() - connection.sent > kPauseAbove) {
        connection.rest.assign(input.begin(), input.end());
        break;
      }
    }
    flush(connection);
  } catch (...) {
    // A hook that threw, or memory that ran out over this connection's requests.
    bury(connection);
  }
}

// Takes what belongs to the handshake; true once the secret is proven.
bool Server::Loop::pass(Connection& connection, std::span<const uint8_t>& input) {
  Gate& gate = *connection.gate;
  while (true) {
    const size_t want = gate.answered ? kProofBytes : kGreetingBytes;
    const size_t count = std::min(want - gate.have, input.size());
    std::copy_n(std::as_bytes(input).begin(), count, gate.bytes.begin() + static_cast<ptrdiff_t>(gate.have));
    gate.have += count;
    input = input.subspan(count);
    const auto read = std::span<const std::byte>(gate.bytes).first(gate.have);
    if (!gate.answered && !startsLikeGreeting(read)) {
      // A client of the store's own protocol is told what is asked of it; others are not worth a word.
      if (read.front() == static_cast<std::byte>(Op::kValidate)) {
        refuse(connection, Refusal::kSecretNeeded);
      } else {
        bury(connection);
      }
      return false;
    }
    if (gate.have < want) return false;
    gate.have = 0;
    if (gate.answered) {
      if (gate.callee.check(std::span(gate.bytes).first<kProofBytes>())) {
        connection.gate.reset();
        return true;
      }
      bury(connection);
      return false;
    }
    const auto answer = gate.callee.answer(gate.bytes);
    if (!answer) {
      bury(connection);
      return false;
    }
    gate.answered = true;
    if (proving_.size() >= options_.maxUnvalidated) bury(*connections_.at(proving_.begin()->first));
    if (auto node = unvalidated_.extract(connection.id)) proving_.insert(std::move(node));
    connection.out.append(reinterpret_cast<const char*>(answer->data()), answer->size());
    flush(connection);
    if (connection.dead) return false;
  }
}

void Server::Loop::refuse(Connection& connection, Refusal why) {
  const auto bytes = refusalBytes(why);
  connection.out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  flush(connection);
  bury(connection);
}

void Server::Loop::wake(const std::vector<Table::WaiterId>& ids) {
  for (const Table::WaiterId id : ids) {
    const auto found = connections_.find(id);
    if (found == connections_.end() || found->second->dead) continue;
    putByte(found->second->out, kStopWaiting);
    flush(*found->second);
  }
}

void Server::Loop::flush(Connection& connection) {
  while (!connection.dead && connection.sent < connection.out.size()) {
    const ssize_t count = ::send(connection.fd.get(), connection.out.data() + connection.sent,
                                 connection.out.size() - connection.sent, MSG_NOSIGNAL);
    if (count >= 0) {
      connection.sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno != EINTR) {
      bury(connection);
      return;
    }
  }
  if (connection.sent == connection.out.size()) {
    connection.sent = 0;
    connection.out.clear();
    if (connection.out.capacity() > kPauseAbove) connection.out.shrink_to_fit();
  } else if (connection.sent > kPauseAbove) {
    connection.out.erase(0, std::exchange(connection.sent, 0));
  }
  watch(connection);
}

void Server::Loop::watch(Connection& connection) {
  if (connection.dead) return;
  const size_t pending = connection.out.size() - connection.sent;
  uint32_t interest = pending > 0 ? EPOLLOUT : 0U;
  if (pending <= kPauseAbove && connection.rest.empty()) interest |= EPOLLIN;
  if (!connection.rest.empty()) interest |= EPOLLOUT;
  if (interest == connection.interest) return;
  connection.interest = interest;
  epoll_event event{};
  event.events = interest;
  event.data.u64 = connection.id;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection.fd.get(), &event);
}

void Server::Loop::bury(Connection& connection) {
  if (connection.dead) return;
  connection.dead = true;
  unvalidated_.erase(connection.id);
  proving_.erase(connection.id);
  dead_.push_back(connection.id);
}

void Server::Loop::sweep() {
  // Burying is put off to here, because the connection may be in use further up the stack. A hook's changes
  // may bury more.
  while (!dead_.empty()) {
    const std::vector<ConnectionId> dead = std::exchange(dead_, {});
    for (const ConnectionId id : dead) {
      const bool validated = connections_.at(id)->parser.validated();
      connections_.erase(id);
      open_.fetch_sub(1, std::memory_order_relaxed);
      wake(table_.forget(id));
      if (!validated || !options_.hooks.onClose) continue;
      try {
        options_.hooks.onClose(id);
      } catch (...) {  // there is nobody to tell and nothing left to close
      }
      wake(table_.takeWoken());
    }
  }
}

}  // namespace nc::store
