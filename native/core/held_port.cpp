#include "core/held_port.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "core/error.h"

namespace nc {

namespace {
constexpr int kBacklog = 1024;
}

HeldPort holdPort(SocketAddress address) {
  address.setPort(0);
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw systemError("socket", errno, address.host());
  const int on = 1;
  if (address.family() == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  // Without SO_REUSEADDR: with it, another socket that has it too could bind the same port meanwhile.
  if (::bind(fd.get(), address.get(), address.length) != 0) {
    const int errnum = errno;
    if (errnum != EADDRNOTAVAIL) throw systemError("bind", errnum, address.host());
    ErrorFacts facts;
    facts.errnum = errnum;
    facts.address = address.host();
    throw Error(ErrorCode::kAddressUnavailable, address.host() + " is no address of this host", facts);
  }
  const uint16_t port = SocketAddress::local(fd.get()).port();
  return {std::move(fd), port};
}

void listenOn(int fd) {
  if (::listen(fd, kBacklog) != 0) throw systemError("listen", errno);
}

UniqueFd listenBeside(int heldFd) {
  const SocketAddress address = SocketAddress::local(heldFd);
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw systemError("socket", errno, address.text());
  int on = 1;
  if (address.family() == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // Both have to allow it, while the second is bound and when it begins to listen.
  ::setsockopt(heldFd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = ::bind(fd.get(), address.get(), address.length) == 0;
  const bool listening = bound && ::listen(fd.get(), kBacklog) == 0;
  const int errnum = errno;
  on = 0;
  ::setsockopt(heldFd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (listening) return fd;
  Error error = systemError(bound ? "listen" : "bind", errnum, address.text());
  if (errnum == EADDRINUSE) error.code = ErrorCode::kAddressInUse;
  throw error;
}

}  // namespace nc
