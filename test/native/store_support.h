// Helpers of the store's tests: raw sockets, hex, a server on loopback.
#pragma once

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "core/error.h"
#include "store/client.h"
#include "store/server.h"
#include "store/wire.h"

namespace store_test {

using namespace nc;
using store::Client;
using store::Server;

inline Deadline soon(int ms = 20'000) {
  return Deadline::in(Millis(ms));
}

inline std::string unhex(std::string_view text) {
  std::string out;
  int high = -1;
  for (const char c : text) {
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (digit < 0) continue;
    if (high >= 0) out.push_back(static_cast<char>(high * 16 + digit));
    high = high >= 0 ? -1 : digit;
  }
  return out;
}

inline std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out += "0123456789ABCDEF"[static_cast<uint8_t>(c) >> 4];
    out += "0123456789ABCDEF"[static_cast<uint8_t>(c) & 15];
  }
  return out;
}

// A plain blocking TCP connection with bounded reads.
class Raw {
 public:
  explicit Raw(const SocketAddress& address)
      : fd_(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (::connect(fd_.get(), address.get(), address.length) != 0) throw systemError("connect", errno);
  }
  explicit Raw(UniqueFd fd) : fd_(std::move(fd)) {}

  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return;  // closed: the next read shows it
      bytes.remove_prefix(static_cast<size_t>(count));
    }
  }
  void validate() const { send(unhex("00CEF7853C")); }

  // "closed" stands for end of file and reset. Fewer bytes than asked for: nothing came for `ms`.
  std::string read(size_t count, int ms = 20'000) {
    std::string out;
    while (out.size() < count) {
      pollfd fd{fd_.get(), POLLIN, 0};
      if (::poll(&fd, 1, ms) == 0) return out;
      std::string chunk(count - out.size(), '\0');
      const ssize_t got = ::recv(fd_.get(), chunk.data(), chunk.size(), 0);
      if (got <= 0) {
        closed_ = true;
        return out;
      }
      out.append(chunk.data(), static_cast<size_t>(got));
    }
    return out;
  }
  bool closed(int ms = 20'000) {
    if (!closed_) CHECK(read(1, ms) == "");
    return closed_;
  }
  // Everything sent before has been served, and nothing but `expected` was answered to it.
  void settle(std::string_view expected = {}) {
    send(unhex("0D FEEDBEEF"));
    CHECK(hex(read(expected.size() + 4)) == hex(expected) + "FEEDBEEF");
  }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  bool closed_ = false;
};

inline std::unique_ptr<Server> started(Server::Options options = {}) {
  auto server = Server::listen(SocketAddress::parse("127.0.0.1", 0), std::move(options));
  server->start();
  return server;
}

// Runs `body` and returns the error it must throw.
template <typename Body>
Error failureOf(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error was thrown");
  return Error(ErrorCode::kInternal, "");
}

}  // namespace store_test
