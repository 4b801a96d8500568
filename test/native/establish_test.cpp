// The making of a mesh where it is crowded or short of descriptors. Everything goes over loopback.
#include "transport/establish.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <future>

#include "mesh_support.h"

namespace nc::transport {
namespace {

using test::Watchdog;

// What `size` ranks of this process know of each other; only those in `listeners` have one.
EstablishOptions optionsOf(int rank, int size, const std::vector<const Listener*>& listeners) {
  EstablishOptions options;
  options.rank = rank;
  options.token.fill(std::byte{7});
  for (int peer = 0; peer < size; ++peer) {
    Endpoint endpoint;
    endpoint.rank = peer;
    endpoint.host = "here";
    endpoint.pid = 1;
    endpoint.identity = hostIdentity();
    if (const Listener* const at = listeners[static_cast<size_t>(peer)]; at != nullptr) {
      endpoint.localName = at->localName;
      endpoint.address = at->address.host();
      endpoint.port = at->address.port();
    }
    options.endpoints.push_back(endpoint);
  }
  return options;
}

UniqueFd dial(const Listener& listener) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  REQUIRE(::connect(fd.get(), listener.address.get(), listener.address.length) == 0);
  return fd;
}

Hello helloOf(const EstablishOptions& options, int from) {
  Hello hello;
  hello.token = options.token;
  hello.from = from;
  hello.to = options.rank;
  hello.size = static_cast<int32_t>(options.endpoints.size());
  return hello;
}

int openDescriptors() {
  int open = 0;
  for (int fd = 0; fd < 4096; ++fd) open += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return open;
}

}  // namespace

TEST_CASE("every rank is linked with every other") {
  const Watchdog watchdog("full mesh");
  constexpr int kSize = 9;
  std::vector<Listener> listeners;
  std::vector<const Listener*> known;
  for (int rank = 0; rank < kSize; ++rank) {
    listeners.push_back(openListener(SocketAddress::parse("127.0.0.1", 0)));
  }
  for (const Listener& listener : listeners) known.push_back(&listener);
  std::vector<std::future<std::vector<LinkEnd>>> ranks;
  for (int rank = 0; rank < kSize; ++rank) {
    ranks.push_back(std::async(std::launch::async, [&, rank] {
      Cancel cancel;
      return establish(listeners[static_cast<size_t>(rank)], optionsOf(rank, kSize, known),
                       Deadline::in(Millis{30'000}), cancel);
    }));
  }
  for (int rank = 0; rank < kSize; ++rank) {
    const std::vector<LinkEnd> ends = ranks[static_cast<size_t>(rank)].get();
    std::vector<int> peers;
    for (const LinkEnd& end : ends) {
      peers.push_back(end.member.rank);
      CHECK(end.member.address == "unix");
    }
    std::sort(peers.begin(), peers.end());
    std::vector<int> expected;
    for (int peer = 0; peer < kSize; ++peer) {
      if (peer != rank) expected.push_back(peer);
    }
    CHECK(peers == expected);
  }
}

TEST_CASE("more ranks than strangers are allowed may dial at once and introduce themselves late") {
  const Watchdog watchdog("crowd");
  constexpr int kSize = 321;
  const Listener listener = openListener(SocketAddress::parse("127.0.0.1", 0));
  std::vector<const Listener*> known(kSize, nullptr);
  known.back() = &listener;
  const EstablishOptions options = optionsOf(kSize - 1, kSize, known);
  std::vector<UniqueFd> dials;
  for (int rank = 0; rank < kSize - 1; ++rank) dials.push_back(dial(listener));
  Cancel cancel;
  auto ends = std::async(std::launch::async,
                         [&] { return establish(listener, options, Deadline::in(Millis{30'000}), cancel); });
  // The last one's answer shows that all have been accepted.
  for (int rank = kSize - 2; rank >= 0; --rank) {
    const int fd = dials[static_cast<size_t>(rank)].get();
    const auto bytes = encode(helloOf(options, rank));
    REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    std::array<std::byte, kHelloBytes> reply;
    CHECK(::recv(fd, reply.data(), reply.size(), MSG_WAITALL) == static_cast<ssize_t>(reply.size()));
  }
  cancel.cancel(Error(ErrorCode::kAborted, "some were turned away"));
  CHECK_NOTHROW(ends.get());
}

TEST_CASE("without descriptors for its links a rank fails at once and says so") {
  const Watchdog watchdog("no descriptors");
  const Listener listener = openListener(SocketAddress::parse("127.0.0.1", 0));
  const EstablishOptions options = optionsOf(1, 2, {nullptr, &listener});
  const UniqueFd dialled = dial(listener);
  Cancel cancel;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::vector<UniqueFd> filled;
  const rlimit little{static_cast<rlim_t>(openDescriptors()) + 8, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &little) == 0);
  for (;;) {
    UniqueFd fd(::fcntl(dialled.get(), F_DUPFD_CLOEXEC, 0));
    if (!fd) break;
    filled.push_back(std::move(fd));
  }
  std::optional<Error> error;
  try {
    establish(listener, options, Deadline::in(Millis{10'000}), cancel);
  } catch (const Error& caught) {
    error = caught;
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kResource);
  CHECK(error->facts.errnum == EMFILE);
}

}  // namespace nc::transport
