// What the transport's tests share: wires, a mesh alone against raw sockets, and meshes in threads. Nothing
// here sleeps; a test that hangs is ended by its Watchdog.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/deadline.h"
#include "core/thread.h"
#include "transport/failure.h"
#include "transport/frame.h"
#include "transport/mesh.h"

namespace nc::transport::test {

using Bytes = std::vector<std::byte>;

// Ends the whole process, with a name, when a test does not end in time.
class Watchdog {
 public:
  explicit Watchdog(const char* test, Millis limit = Millis{60'000})
      : thread_("watchdog", [this, test, limit] {
          std::unique_lock lock(mutex_);
          if (over_.wait_for(lock, limit, [this] { return done_; })) return;
          std::fprintf(stderr, "%s: hangs\n", test);
          std::abort();
        }) {}
  ~Watchdog() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    over_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  NamedThread thread_;  // last: joined first
};

enum class Wire { kUnix, kTcp };
inline constexpr std::array kWires{Wire::kUnix, Wire::kTcp};

inline void must(bool ok, const char* what) {
  if (!ok) throw systemError(what, errno);
}

inline std::pair<UniqueFd, UniqueFd> wirePair(Wire wire) {
  if (wire == Wire::kUnix) {
    std::array<int, 2> fds{};
    must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0, "socketpair");
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
  }
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(at);
  auto* const address = reinterpret_cast<sockaddr*>(&at);
  must(::bind(listener.get(), address, length) == 0 && ::listen(listener.get(), 1) == 0, "listen");
  must(::getsockname(listener.get(), address, &length) == 0, "getsockname");
  UniqueFd dialled(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  must(::connect(dialled.get(), address, length) == 0, "connect");
  UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  must(static_cast<bool>(accepted), "accept");
  for (const int fd : {dialled.get(), accepted.get()}) {
    const int one = 1;
    must(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0, "TCP_NODELAY");
  }
  return {std::move(dialled), std::move(accepted)};
}

inline Bytes pattern(size_t n, unsigned seed) {
  Bytes bytes(n);
  unsigned x = seed * 2654435761u + 1;
  for (std::byte& b : bytes) {
    x = x * 1664525u + 1013904223u;
    b = static_cast<std::byte>(x >> 24);
  }
  return bytes;
}

inline Stamp stampOf(uint64_t seq, uint64_t count = 1) {
  return {seq, OpKind::kAllReduce, DType::kInt32, ReduceOp::kMax, -1, count};
}

inline constexpr uint32_t kGeneration = 7;

inline FrameHeader dataHeader(uint64_t seq, uint64_t slot, size_t length) {
  FrameHeader header;
  header.generation = kGeneration;
  header.stamp = stampOf(seq);
  header.slot = slot;
  header.length = length;
  return header;
}

inline FrameHeader controlHeader(FrameKind kind, uint64_t seq) {
  FrameHeader header;
  header.kind = kind;
  header.generation = kGeneration;
  header.stamp.seq = seq;
  return header;
}

inline Bytes frameBytes(const FrameHeader& header, std::span<const std::byte> body = {}) {
  Bytes out(kFrameHeaderBytes);
  encode(header, std::span<std::byte, kFrameHeaderBytes>(out.data(), kFrameHeaderBytes));
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

// The far end of a link as a plain blocking socket, in the hands of the test.
struct Raw {
  UniqueFd fd;
  uint64_t number = 0;  // of the next frame

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      must(n > 0, "send");
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }
  void write(const FrameHeader& header, std::span<const std::byte> body = {}) { write(next(header, body)); }
  // The bytes of the link's next frame, for tests that write them in parts.
  Bytes next(FrameHeader header, std::span<const std::byte> body = {}) {
    header.number = number++;
    return frameBytes(header, body);
  }
  // Exactly n bytes, or fewer at the end of the stream.
  Bytes read(size_t n) {
    Bytes bytes(n);
    size_t done = 0;
    while (done < n) {
      const ssize_t got = ::recv(fd.get(), bytes.data() + done, n - done, 0);
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    bytes.resize(done);
    return bytes;
  }
  // The next frame and its body; none at the end of the stream.
  std::optional<std::pair<FrameHeader, Bytes>> frame() {
    const Bytes head = read(kFrameHeaderBytes);
    if (head.size() < kFrameHeaderBytes) return std::nullopt;
    const FrameHeader header =
        decode(std::span<const std::byte, kFrameHeaderBytes>(head.data(), kFrameHeaderBytes));
    return std::pair{header, read(header.length)};
  }
  // The next failure frame's cause, whatever comes before it.
  std::optional<Error> failure() {
    while (auto next = frame()) {
      if (next->first.kind == FrameKind::kFailure) return decodeFailure(next->second, 0);
    }
    return std::nullopt;
  }
  void reset() {
    const linger now{1, 0};
    must(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0, "SO_LINGER");
    fd.reset();
  }
};

inline LinkEnd linkEnd(int rank, UniqueFd fd) {
  must(::fcntl(fd.get(), F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
  return {{rank, "host" + std::to_string(rank), 1000 + rank, "test"}, std::move(fd)};
}

// Rank 0 of a group whose other ranks are raw sockets.
class Solo {
 public:
  explicit Solo(int size, Wire wire = Wire::kUnix, MeshLimits limits = {}) : raw(static_cast<size_t>(size)) {
    std::vector<LinkEnd> ends;
    for (int peer = 1; peer < size; ++peer) {
      auto [near, far] = wirePair(wire);
      raw[static_cast<size_t>(peer)].fd = std::move(far);
      ends.push_back(linkEnd(peer, std::move(near)));
    }
    mesh = std::make_unique<Mesh>(0, size, kGeneration, std::move(ends), cancel, limits);
  }

  void begin(uint64_t seq, Millis limit = Millis{20'000}) {
    seq_ = seq;
    mesh->begin(stampOf(seq), Deadline::in(limit));
  }
  // Returns when everything that lower ranks have written so far has been read: a message of the last rank is
  // written after it, and one poll reports both.
  void settle() {
    const int last = static_cast<int>(raw.size()) - 1;
    raw.back().write(dataHeader(seq_, kTickSlot, 0));
    BufferState tick;
    mesh->recv(tick, std::array{last}, kTickSlot, nullptr, 0);
    if (mesh->waitRecv(tick) != last) throw Error(ErrorCode::kInternal, "the tick came from somebody else");
  }
  Bytes receive(int from, uint64_t slot, size_t bytes) {
    Bytes into(bytes);
    BufferState state;
    mesh->recv(state, std::array{from}, slot, into.data(), into.size());
    mesh->waitRecv(state);
    return into;
  }

  static constexpr uint64_t kTickSlot = 0xFFFF'0000;
  Cancel cancel;
  std::vector<Raw> raw;  // by rank
  std::unique_ptr<Mesh> mesh;

 private:
  uint64_t seq_ = 0;
};

// All ranks of a group in this process. The meshes live until the end, so that no rank learns of a failure by
// an end of file when it should have been told.
class Ranks {
 public:
  explicit Ranks(int size, Wire wire = Wire::kUnix, MeshLimits limits = {}) {
    const auto n = static_cast<size_t>(size);
    std::vector<std::vector<LinkEnd>> ends(n);
    for (int low = 0; low < size; ++low) {
      for (int high = low + 1; high < size; ++high) {
        auto [a, b] = wirePair(wire);
        ends[static_cast<size_t>(low)].push_back(linkEnd(high, std::move(a)));
        ends[static_cast<size_t>(high)].push_back(linkEnd(low, std::move(b)));
      }
    }
    for (size_t rank = 0; rank < n; ++rank) {
      cancels.push_back(std::make_unique<Cancel>());
      meshes.push_back(std::make_unique<Mesh>(static_cast<int>(rank), size, kGeneration,
                                              std::move(ends[rank]), *cancels[rank], limits));
    }
  }

  // Runs body(mesh) on one thread a rank; `meanwhile` on this one. What each rank's body threw, by rank.
  template <typename Body, typename Meanwhile>
  std::vector<std::optional<Error>> run(Body body, Meanwhile meanwhile) {
    std::vector<std::optional<Error>> errors(meshes.size());
    {
      std::vector<NamedThread> threads;
      for (size_t rank = 0; rank < meshes.size(); ++rank) {
        threads.emplace_back("rank", [this, rank, &errors, &body] {
          try {
            body(*meshes[rank]);
          } catch (const Error& error) {
            errors[rank] = error;
          }
        });
      }
      meanwhile();
    }
    return errors;
  }
  template <typename Body>
  std::vector<std::optional<Error>> run(Body body) {
    return run(body, [] {});
  }

  std::vector<std::unique_ptr<Cancel>> cancels;
  std::vector<std::unique_ptr<Mesh>> meshes;
};

class Wake {
 public:
  Wake() : fd_(::eventfd(0, EFD_CLOEXEC)) {}
  int fd() const { return fd_.get(); }
  void raise() { ::eventfd_write(fd_.get(), 1); }

 private:
  UniqueFd fd_;
};

// CPU time of this thread, to find waits that spin.
inline Millis cpuTime() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return Millis{now.tv_sec * 1000 + now.tv_nsec / 1'000'000};
}

template <typename Body>
std::optional<Error> errorOf(Body body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace nc::transport::test
