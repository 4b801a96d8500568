// N ranks as threads of this process, their meshes joined by socket pairs.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/error.h"
#include "core/thread.h"
#include "gloo/collectives.h"
#include "transport/mesh.h"

namespace nc::test {

struct Rank {
  int rank;
  int size;
  transport::Mesh& mesh;
  gloo::Collectives& collectives;
  Cancel& cancel;
  uint64_t seq = 0;

  void run(Stamp stamp, const void* in, void* out, Millis limit = Millis(60000)) {
    stamp.seq = ++seq;
    collectives.run({stamp, Deadline::in(limit), in, out});
  }
};

inline std::vector<std::vector<transport::LinkEnd>> socketPairs(int size) {
  std::vector<std::vector<transport::LinkEnd>> ends(static_cast<size_t>(size));
  for (int low = 0; low < size; ++low) {
    for (int high = low + 1; high < size; ++high) {
      int fds[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
      ends[static_cast<size_t>(low)].push_back({{high, "host", 1, "unix"}, UniqueFd(fds[0])});
      ends[static_cast<size_t>(high)].push_back({{low, "host", 1, "unix"}, UniqueFd(fds[1])});
    }
  }
  return ends;
}

// Runs `body` on every rank; what each threw, by rank.
inline std::vector<std::optional<Error>> runRanks(int size, const std::function<void(Rank&)>& body,
                                                  gloo::CollectiveLimits limits = {}) {
  auto ends = socketPairs(size);
  std::vector<std::optional<Error>> errors(static_cast<size_t>(size));
  std::vector<std::unique_ptr<Cancel>> cancels;
  std::vector<NamedThread> threads;
  for (int i = 0; i < size; ++i) cancels.push_back(std::make_unique<Cancel>());
  for (int i = 0; i < size; ++i) {
    const auto at = static_cast<size_t>(i);
    threads.emplace_back(("rank " + std::to_string(i)).c_str(), [&, i, at] {
      try {
        transport::Mesh mesh(i, size, 1, std::move(ends[at]), *cancels[at]);
        gloo::Collectives collectives(mesh, limits);
        Rank rank{i, size, mesh, collectives, *cancels[at]};
        // As a group does, also of a mesh that has failed: what it still has to say is written.
        const auto close = [&] { mesh.close(Deadline::in(Millis(10000))); };
        try {
          body(rank);
        } catch (...) {
          close();
          throw;
        }
        close();
      } catch (const Error& error) {
        errors[at] = error;
      } catch (const std::exception& error) {
        errors[at] = Error(ErrorCode::kInternal, std::string("not an nc::Error: ") + error.what());
      }
    });
  }
  threads.clear();  // joins
  return errors;
}

}  // namespace nc::test
