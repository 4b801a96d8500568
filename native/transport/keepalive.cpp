#include "transport/keepalive.h"

#include <linux/tcp.h>  // its tcp_info is newer than the one of netinet/tcp.h
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

namespace nc::transport {

namespace {

constexpr int kProbes = 3;

void set(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

bool isTcp(int fd) {
  int protocol = 0;
  socklen_t length = sizeof(protocol);
  return ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 && protocol == IPPROTO_TCP;
}

void keepAlive(int fd, Millis deadAfter) {
  const int seconds = static_cast<int>(std::chrono::ceil<std::chrono::seconds>(deadAfter).count());
  set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(fd, IPPROTO_TCP, TCP_KEEPIDLE, std::max(seconds, 1));
  set(fd, IPPROTO_TCP, TCP_KEEPINTVL, std::max(seconds / kProbes, 1));
  set(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(deadAfter.count()));
}

bool limitUnlessHeldBack(int fd, Millis deadAfter, bool limited) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return limited;
  // All that was sent has been acknowledged, and yet there is more that may not be sent.
  const bool heldBack = info.tcpi_unacked == 0 && info.tcpi_notsent_bytes > 0;
  if (limited == !heldBack) return limited;
  set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, heldBack ? 0 : static_cast<int>(deadAfter.count()));
  return !heldBack;
}

}  // namespace nc::transport
