#include "transport/listener.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>

#include "core/error.h"

namespace nc::transport {

namespace {

constexpr int kBacklog = 1024;

std::string randomName() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw systemError("getrandom", errno);
  }
  std::string text = "node-collectives-";
  constexpr const char* kHex = "0123456789abcdef";
  for (const unsigned char byte : bytes) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

}  // namespace

Listener openListener(SocketAddress address) {
  Listener listener;
  address.setPort(0);
  listener.tcp = UniqueFd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.tcp) throw systemError("socket", errno, address.host());
  if (::bind(listener.tcp.get(), address.get(), address.length) != 0)
    throw systemError("bind", errno, address.host());
  if (::listen(listener.tcp.get(), kBacklog) != 0) throw systemError("listen", errno, address.host());
  listener.address = SocketAddress::local(listener.tcp.get());

  listener.localName = randomName();
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(&name.sun_path[1], listener.localName.data(), listener.localName.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + listener.localName.size());
  listener.local = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.local) throw systemError("socket(AF_UNIX)", errno);
  if (::bind(listener.local.get(), reinterpret_cast<const sockaddr*>(&name), length) != 0 ||
      ::listen(listener.local.get(), kBacklog) != 0) {
    throw systemError("bind(AF_UNIX)", errno);
  }
  return listener;
}

std::string hostIdentity() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat space {};
  // Of this thread, which opens the sockets: others of the process may be in another namespace.
  if (boot.empty() || ::stat("/proc/thread-self/ns/net", &space) != 0) return {};
  return boot + "/" + std::to_string(space.st_ino);
}

std::string hostName() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace nc::transport
