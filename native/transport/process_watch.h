// Processes of ranks on this host, watched by process descriptors (pidfd): the death of one is seen even if a
// child that it has forked still holds the socket open. Belongs to one thread.
#pragma once

#include <vector>

#include "core/unique_fd.h"

namespace nc::transport {

// The process at the other end of a connected UNIX socket. None where that is this very process, in a pid
// namespace that cannot be seen from here, or where the kernel is too old: the link itself remains.
UniqueFd openPeerProcess(int socket);

class ProcessWatch {
 public:
  // `also`: a descriptor that fd() covers besides, so that who waits for both polls one.
  explicit ProcessWatch(int also);

  // Without `process`, or when descriptors have run out, that rank is not watched.
  void add(int rank, UniqueFd process);
  // Readable once a process has ended or `also` is readable.
  int fd() const { return epoll_.get(); }
  // Ranks whose process has ended, each told once. Does not wait.
  std::vector<int> take();
  void drop(int rank);

 private:
  struct Watched {
    int rank;
    UniqueFd process;
  };
  UniqueFd epoll_;  // one descriptor to poll, whatever the number of ranks
  std::vector<Watched> watched_;
};

}  // namespace nc::transport
