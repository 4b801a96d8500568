#include "transport/process_watch.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "core/process.h"

// Newer than the headers of the systems that this is built on.
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace nc::transport {

UniqueFd openPeerProcess(int socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return {};
  if (peer.pid == ::getpid()) return {};
  int process = -1;
  length = sizeof(process);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &process, &length) == 0) return UniqueFd(process);
  // A number that is 0 belongs to another pid namespace. One that was given to another process meanwhile does
  // no harm: then the peer is dead, and so it will be said, only later.
  if (peer.pid <= 0) return {};
  return openProcess(peer.pid);
}

ProcessWatch::ProcessWatch(int also) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = -1;
  if (!epoll_ || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, also, &event) != 0)
    throw systemError("epoll", errno);
}

void ProcessWatch::add(int rank, UniqueFd process) {
  if (!process) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = process.get();
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, process.get(), &event) != 0) return;
  watched_.push_back({rank, std::move(process)});
}

std::vector<int> ProcessWatch::take() {
  std::vector<int> ranks;
  std::array<epoll_event, 16> events{};
  for (size_t before = 0;; before = ranks.size()) {
    const int found = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < found; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      const auto at = std::find_if(watched_.begin(), watched_.end(),
                                   [&](const Watched& watched) { return watched.process.get() == fd; });
      if (at == watched_.end()) continue;
      ranks.push_back(at->rank);
      drop(at->rank);
    }
    if (ranks.size() == before) return ranks;
  }
}

void ProcessWatch::drop(int rank) {
  const auto at = std::find_if(watched_.begin(), watched_.end(),
                               [&](const Watched& watched) { return watched.rank == rank; });
  if (at == watched_.end()) return;
  // Closing alone would leave it in the set as long as a forked child holds a copy.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, at->process.get(), nullptr);
  watched_.erase(at);
}

}  // namespace nc::transport
