// After a mesh has failed: which ranks are still there.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "transport/link.h"
#include "transport/mesh.h"

namespace nc::transport {

void Mesh::watch(int wakeFd) {
  std::array<std::byte, 16384> dropped;
  std::vector<pollfd> polls;
  for (;;) {
    polls.assign(1, {wakeFd, POLLIN, 0});
    for (const auto& link : links_) {
      if (!link) continue;
      if (!link->open() && !link->gone) {
        link->gone = true;
        if (onGone) onGone(link->member().rank);
      }
      // A negative descriptor is passed over.
      const short events = static_cast<short>(POLLIN | (link->pending() ? POLLOUT : 0));
      polls.push_back({link->open() ? link->fd() : -1, events, 0});
    }
    if (::poll(polls.data(), polls.size(), -1) < 0 && errno != EINTR) return;
    if (polls.front().revents != 0) return;
    size_t at = 1;
    for (const auto& link : links_) {
      if (!link) continue;
      const short found = polls[at++].revents;
      if (found == 0 || !link->open()) continue;
      if ((found & POLLOUT) != 0) link->flush();
      if ((found & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      if (link->read(dropped.data(), dropped.size()) == 0) link->close();
    }
  }
}

}  // namespace nc::transport
