// A free port, kept: bound but not listening, so nobody else gets it and whoever dials is refused at once.
// The very descriptor becomes the listener later; at no moment is the port free.
#pragma once

#include <cstdint>

#include "core/address.h"
#include "core/unique_fd.h"

namespace nc {

struct HeldPort {
  UniqueFd fd;
  uint16_t port = 0;
};

// Binds a port of the kernel's choice on `address`. Throws kAddressUnavailable if it is none of this host's,
// else kNetwork or kResource.
HeldPort holdPort(SocketAddress address);

// Makes the held descriptor a listening one.
void listenOn(int fd);

// A second socket that listens on the held port, which stays bound by the first: at no moment is the port
// free, and once the second is closed it can be done again. Throws kAddressInUse if somebody else listens
// there.
UniqueFd listenBeside(int heldFd);

}  // namespace nc
