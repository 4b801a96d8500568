// Socket addresses as values. Host names are resolved in TypeScript (asynchronously); native code only ever
// sees numeric addresses, so that no thread of ours can hang in a resolver.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

namespace nc {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  // "127.0.0.1", "::1", "fe80::1%eth0"; throws kInvalidArgument for anything that is not numeric.
  static SocketAddress parse(const std::string& host, uint16_t port);
  static SocketAddress local(int fd);  // getsockname
  // getpeername; nothing where that is not told any more, as of a connection that was reset meanwhile.
  static std::optional<SocketAddress> peer(int fd) noexcept;

  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  uint16_t port() const;
  void setPort(uint16_t number);
  bool isLoopback() const;   // 127.0.0.0/8, ::1, v4-mapped loopback
  std::string host() const;  // numeric, without port
  std::string text() const;  // "127.0.0.1:80", "[::1]:80"
};

}  // namespace nc
