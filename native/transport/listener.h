// Where a rank is reached by the others while a group forms: one TCP port on exactly one address, and for
// ranks of the same host an abstract UNIX socket. Belongs to one thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/address.h"
#include "core/unique_fd.h"

namespace nc::transport {

struct Listener {
  UniqueFd tcp;
  UniqueFd local;         // abstract UNIX socket: needs no file, ends with the process, one network namespace
  SocketAddress address;  // as bound, with the port
  std::string localName;  // without the leading zero byte
};

// Binds `address`, whose port is set to 0 so that the kernel chooses.
Listener openListener(SocketAddress address);

// Ranks with the same text reach each other's UNIX socket: boot id and network namespace.
std::string hostIdentity();
std::string hostName();

}  // namespace nc::transport
