#include "transport/first_word.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>

#include "core/error.h"

namespace nc::transport {

bool anyoneSpeaks(const std::vector<LinkEnd>& ends, const Deadline& limit, Cancel& cancel) {
  std::vector<pollfd> polls{{cancel.fd(), POLLIN, 0}};
  for (const LinkEnd& end : ends) polls.push_back({end.fd.get(), POLLIN, 0});
  size_t open = ends.size();
  while (open > 0 && !limit.passed()) {
    cancel.check();
    if (::poll(polls.data(), polls.size(), limit.pollTimeout()) < 0 && errno != EINTR)
      throw systemError("poll", errno);
    for (size_t i = 1; i < polls.size(); ++i) {
      if (polls[i].fd < 0 || polls[i].revents == 0) continue;
      std::byte first{};
      const ssize_t got = ::recv(polls[i].fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
      if (got > 0) return true;
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
      polls[i].fd = -1;
      --open;
    }
  }
  return false;
}

}  // namespace nc::transport
