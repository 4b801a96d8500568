#include "store/server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "core/error.h"
#include "store/loop.h"

namespace nc::store {

namespace {

constexpr int kBacklog = 4096;  // the kernel takes the smaller of this and net.core.somaxconn

[[noreturn]] void listenFailed(const char* what, int errnum, const SocketAddress& address) {
  Error error = systemError(std::string("store: ") + what, errnum, address.text());
  if (errnum == EADDRINUSE) error.code = ErrorCode::kAddressInUse;
  if (errnum == EADDRNOTAVAIL) error.code = ErrorCode::kAddressUnavailable;
  throw error;
}

int optionOf(int fd, int name) {
  int value = 0;
  socklen_t length = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

}  // namespace

std::unique_ptr<Server> Server::listen(const SocketAddress& address, Options options) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) throw systemError("store: socket", errno, address.text());
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.family() == AF_INET6) {
    // "::" would otherwise listen on every IPv4 address too.
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  if (::bind(fd.get(), address.get(), address.length) != 0) listenFailed("bind", errno, address);
  // With SO_REUSEADDR two sockets may be bound to one port; the second to listen is told so only here.
  if (::listen(fd.get(), kBacklog) != 0) listenFailed("listen", errno, address);
  return std::unique_ptr<Server>(new Server(std::make_unique<Loop>(std::move(fd), std::move(options))));
}

std::unique_ptr<Server> Server::adopt(UniqueFd listening, Options options) {
  const int fd = listening.get();
  const int domain = optionOf(fd, SO_DOMAIN);
  if (optionOf(fd, SO_ACCEPTCONN) != 1 || optionOf(fd, SO_TYPE) != SOCK_STREAM ||
      (domain != AF_INET && domain != AF_INET6)) {
    throw Error(ErrorCode::kInvalidArgument,
                "store: descriptor " + std::to_string(fd) + " is not a listening TCP socket");
  }
  if (::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw systemError("store: fcntl", errno);
  }
  return std::unique_ptr<Server>(
      new Server(std::make_unique<Loop>(std::move(listening), std::move(options))));
}

Server::Server(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}

Server::~Server() = default;

void Server::start() {
  loop_->start();
}

void Server::stopListening() {
  loop_->stopListening();
}

void Server::stop() {
  loop_->stop();
}

const SocketAddress& Server::address() const {
  return loop_->address();
}

uint16_t Server::port() const {
  return loop_->address().port();
}

// Each method that can make a key has the loop answer the waiters: their sockets are the loop's alone. On the
// loop's own thread (a hook) that is done after the hook in any case.
void Server::set(std::string_view key, std::string_view value) {
  loop_->table().set(key, value);
  if (loop_->table().anyWoken()) loop_->kick();
}

std::optional<std::string> Server::get(std::string_view key) const {
  return loop_->table().get(key);
}

bool Server::check(std::string_view key) const {
  return loop_->table().check({std::string(key)});
}

std::string Server::compareSet(std::string_view key, std::string_view expected, std::string_view desired) {
  std::string reply = loop_->table().compareSet(key, expected, desired).reply;
  if (loop_->table().anyWoken()) loop_->kick();
  return reply;
}

int64_t Server::add(std::string_view key, int64_t amount) {
  const auto sum = loop_->table().add(key, amount);
  if (!sum) throw Error(ErrorCode::kInvalidArgument, "store: key " + quoted(key) + " is no counter");
  if (loop_->table().anyWoken()) loop_->kick();
  return *sum;
}

bool Server::deleteKey(std::string_view key) {
  return loop_->table().deleteKey(key);
}

size_t Server::numKeys() const {
  return loop_->table().size();
}

size_t Server::connections() const {
  return loop_->connections();
}

}  // namespace nc::store
