// The store's client, and a rank that looks for its store, against a server that answers anything: every call
// ends with a value or with an error of a few kinds, what a true server says is understood, and memory grows
// with what arrives.
#include <fuzzer/FuzzedDataProvider.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rendezvous/probe.h"
#include "store/client.h"

using namespace nc;
using namespace nc::store;

namespace {

constexpr Millis kLimit{2'000};  // nothing waits: the other end is closed behind what it says

void require(bool ok) {
  if (!ok) std::abort();
}

void say(int fd, std::string_view bytes) {
  require(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
          static_cast<ssize_t>(bytes.size()));
}

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
    client = std::make_unique<Client>(UniqueFd(fds[0]), SocketAddress{});
    server = UniqueFd(fds[1]);
  }
  std::unique_ptr<Client> client;
  UniqueFd server;
};

size_t total(const std::vector<std::string>& values) {
  size_t bytes = 0;
  for (const std::string& value : values) bytes += value.size();
  return bytes;
}

// Any call; how many bytes it gave out.
size_t call(Client& client, int which) {
  const Deadline limit = Deadline::in(kLimit);
  switch (which) {
    case 0:
      return client.get("k", limit).size();
    case 1:
      return client.tryGet("k", limit).value_or("").size();
    case 2:
      return total(client.multiGet({"a", "b", "c"}, limit));
    case 3:
      return total(client.tryMultiGet({"a", "b", "c"}, limit).value_or(std::vector<std::string>{}));
    case 4:
      return client.compareSet("k", "old", "new", limit).size();
    case 5:
      client.add("k", 1, limit);
      return 0;
    case 6:
      client.deleteKey("k", limit);
      return 0;
    case 7:
      client.numKeys(limit);
      return 0;
    case 8:
      client.check({"a", "b"}, limit);
      return 0;
    case 9:
      client.wait({"a", "b"}, limit);
      return 0;
    case 10:
      client.set("k", "v", limit);
      return 0;
    default:
      client.sync(limit);
      return 0;
  }
}

void anything(FuzzedDataProvider& fuzz) {
  std::vector<int> calls(fuzz.ConsumeIntegralInRange<size_t>(1, 4));
  for (int& which : calls) which = fuzz.ConsumeIntegralInRange(0, 11);
  Pair pair;
  const std::string replies = fuzz.ConsumeRemainingBytesAsString();
  say(pair.server.get(), replies);
  require(::shutdown(pair.server.get(), SHUT_WR) == 0);
  size_t given = 0;
  for (const int which : calls) {
    const bool usable = pair.client->usable();
    try {
      given += call(*pair.client, which);
      require(usable);
    } catch (const Error& error) {
      require(error.code == ErrorCode::kProtocol || error.code == ErrorCode::kNetwork);
      require(!error.facts.op.empty());
      require(!pair.client->usable());
    }
  }
  require(given <= replies.size());
}

// What a true server would say.
void truth(FuzzedDataProvider& fuzz) {
  Pair pair;
  const std::string value = fuzz.ConsumeRandomLengthString(1'000);
  const std::string other = fuzz.ConsumeRandomLengthString(1'000);
  const auto number = fuzz.ConsumeIntegral<int64_t>();
  std::string replies(1, static_cast<char>(kStopWaiting));
  putString(replies, value);
  replies += static_cast<char>(kStopWaiting);
  for (const std::string& each : {other, value}) putString(replies, each);
  putI64(replies, number);
  putString(replies, other);
  say(pair.server.get(), replies);
  const Deadline limit = Deadline::in(kLimit);
  require(pair.client->get("k", limit) == value);
  require(pair.client->multiGet({"a", "b"}, limit) == std::vector<std::string>{other, value});
  require(pair.client->add("n", 1, limit) == number);
  require(pair.client->compareSet("k", "", "x", limit) == other);
  require(pair.client->usable());
}

const UniqueFd& listener() {
  static const UniqueFd fd = [] {
    UniqueFd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const SocketAddress any = SocketAddress::parse("127.0.0.1", 0);
    require(::bind(made.get(), any.get(), any.length) == 0 && ::listen(made.get(), 16) == 0);
    return made;
  }();
  return fd;
}

// Waits for the other end, which is this thread's own.
bool arrives(int fd, short events) {
  pollfd poll{fd, events, 0};
  return ::poll(&poll, 1, static_cast<int>(kLimit.count())) == 1;
}

// A rank that looks for its store meets it: it is a store, or said to be something else, but never a wait.
void search(FuzzedDataProvider& fuzz) {
  const Credentials none;
  rendezvous::Probe probe({0, SocketAddress::local(listener().get())}, none);
  probe.start();
  require(probe.state() == rendezvous::Probe::State::kConnecting ||
          probe.state() == rendezvous::Probe::State::kGreeting);
  const UniqueFd server(::accept4(listener().get(), nullptr, nullptr, SOCK_CLOEXEC));
  require(server.get() >= 0);
  if (probe.state() == rendezvous::Probe::State::kConnecting) {
    require(arrives(probe.fd(), probe.events()));
    probe.advance(true);
  }
  // A reset at the end, so that no port is left waiting.
  const linger reset{1, 0};
  ::setsockopt(server.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  std::array<uint8_t, 64> asked{};
  require(arrives(server.get(), POLLIN));
  const ssize_t got = ::recv(server.get(), asked.data(), asked.size(), 0);
  require(got >= 4);
  if (fuzz.ConsumeBool()) say(server.get(), {reinterpret_cast<char*>(asked.data()) + got - 4, 4});
  std::string first;
  std::string second;
  const bool honest = fuzz.ConsumeBool();
  if (honest) {
    first = fuzz.ConsumeRandomLengthString(300);
    second = fuzz.ConsumeRandomLengthString(300);
    std::string blobs;
    for (const std::string& each : {first, second}) putString(blobs, each);
    say(server.get(), blobs);
  }
  say(server.get(), fuzz.ConsumeRemainingBytesAsString());
  ::shutdown(server.get(), SHUT_WR);
  while (probe.state() != rendezvous::Probe::State::kStore &&
         probe.state() != rendezvous::Probe::State::kWaiting) {
    require(arrives(probe.fd(), probe.events()));
    probe.advance(true);
  }
  if (probe.state() == rendezvous::Probe::State::kWaiting) {
    require(!probe.finding().empty());
  } else if (honest) {
    require(probe.identity() == first && probe.verdict() == second);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider fuzz(data, size);
  switch (fuzz.ConsumeIntegralInRange(0, 3)) {
    case 0:
      truth(fuzz);
      break;
    case 1:
      search(fuzz);
      break;
    default:
      anything(fuzz);
  }
  return 0;
}
