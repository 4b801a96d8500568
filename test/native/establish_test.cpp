// The making of a mesh where it is crowded or short of descriptors. Everything goes over loopback.
#include "transport/establish.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
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

const auto kSecret = std::make_shared<const SecretKey>("a secret of the tests");

// The same in a group with a secret.
EstablishOptions withSecret(EstablishOptions options) {
  options.credentials = {kSecret,
                         {Purpose::kLink, options.rank, -1, scopeOf("g", "job", options.generation)}};
  return options;
}

UniqueFd dial(const Listener& listener) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  REQUIRE(::connect(fd.get(), listener.address.get(), listener.address.length) == 0);
  return fd;
}

// The same over the UNIX socket of ranks of this host.
UniqueFd dialLocal(const std::string& localName) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(&name.sun_path[1], localName.data(), localName.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + localName.size());
  REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), length) == 0);
  return fd;
}

// Runs in a process of another user; what it returns is its exit status.
template <typename Body>
pid_t asAnotherUser(Body body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  constexpr uid_t kNobody = 65534;
  int status = 99;
  try {
    if (::setgid(kNobody) == 0 && ::setuid(kNobody) == 0) status = body();
  } catch (...) {
    // A failed REQUIRE: nothing of the tests goes on in this process.
  }
  ::_exit(status);
}

int statusOf(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
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

TEST_CASE("every rank is linked with every other, with and without a secret") {
  const Watchdog watchdog("full mesh");
  constexpr int kSize = 9;
  bool secret = false;
  SUBCASE("without") {}
  SUBCASE("with") {
    secret = true;
  }
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
      const EstablishOptions options = optionsOf(rank, kSize, known);
      return establish(listeners[static_cast<size_t>(rank)], secret ? withSecret(options) : options,
                       Deadline::in(Millis{30'000}), cancel);
    }));
  }
  for (int rank = 0; rank < kSize; ++rank) {
    const std::vector<LinkEnd> ends = ranks[static_cast<size_t>(rank)].get();
    std::vector<int> peers;
    for (const LinkEnd& end : ends) {
      peers.push_back(end.member.rank);
      CHECK(end.member.address == "unix");
      CHECK(end.keys.has_value() == secret);
    }
    std::sort(peers.begin(), peers.end());
    std::vector<int> expected;
    for (int peer = 0; peer < kSize; ++peer) {
      if (peer != rank) expected.push_back(peer);
    }
    CHECK(peers == expected);
  }
}

TEST_CASE("with a secret, whoever does not prove it is dropped, and what was recorded once is of no use") {
  const Watchdog watchdog("strangers");
  bool local = false;
  SUBCASE("over TCP") {}
  SUBCASE("over the UNIX socket") {
    local = true;
  }
  const Listener listener = openListener(SocketAddress::parse("127.0.0.1", 0));
  const auto call = [&] { return local ? dialLocal(listener.localName) : dial(listener); };
  const EstablishOptions options = withSecret(optionsOf(2, 3, {nullptr, nullptr, &listener}));
  Cancel cancel;
  auto ends = std::async(std::launch::async,
                         [&] { return establish(listener, options, Deadline::in(Millis{30'000}), cancel); });
  const auto say = [](int fd, std::span<const std::byte> bytes) {
    REQUIRE(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  };
  const auto hungUp = [](int fd) {
    std::array<std::byte, 200> more;
    return ::recv(fd, more.data(), more.size(), MSG_WAITALL) <= 0;
  };
  const auto answerTo = [&](int fd, const Caller& caller) {
    say(fd, caller.greeting());
    Answer answer;
    REQUIRE(::recv(fd, answer.data(), answer.size(), MSG_WAITALL) == static_cast<ssize_t>(answer.size()));
    return answer;
  };
  const auto claim = [&](int from, int to) {
    return Credentials{kSecret, {Purpose::kLink, from, to, options.credentials.claim.scope}};
  };

  {  // the hello alone, as in a group without a secret
    const UniqueFd fd = call();
    say(fd.get(), encode(helloOf(options, 0)));
    CHECK(hungUp(fd.get()));
  }
  for (const auto& [from, to] : std::vector<std::pair<int, int>>{{2, 2}, {-1, 2}, {3, 2}, {0, 1}, {0, -1}}) {
    const UniqueFd fd = call();
    const Caller caller(claim(from, to));
    say(fd.get(), caller.greeting());
    CHECK(hungUp(fd.get()));
  }
  {  // another generation
    const UniqueFd fd = call();
    const Caller caller({kSecret, {Purpose::kLink, 0, 2, scopeOf("g", "job", 99)}});
    say(fd.get(), caller.greeting());
    CHECK(hungUp(fd.get()));
  }
  {  // another secret; the answer shows the caller that it is wrong here, its proof shows the listener
    const UniqueFd fd = call();
    Credentials other = claim(0, 2);
    other.key = std::make_shared<const SecretKey>("another secret of the tests");
    Caller caller(other);
    CHECK(caller.check(answerTo(fd.get(), caller)) == Caller::Outcome::kUnproven);
    say(fd.get(), caller.proof());
    CHECK(hungUp(fd.get()));
  }
  {  // proven as rank 0, introduced as rank 1
    const UniqueFd fd = call();
    Caller caller(claim(0, 2));
    CHECK(caller.check(answerTo(fd.get(), caller)) == Caller::Outcome::kProven);
    say(fd.get(), caller.proof());
    say(fd.get(), encode(helloOf(options, 1)));
    CHECK(hungUp(fd.get()));
  }
  // A true one, byte by byte, and recorded.
  const UniqueFd good = call();
  Caller caller(claim(0, 2));
  for (const std::byte& b : caller.greeting()) say(good.get(), std::span(&b, 1));
  Answer answer;
  REQUIRE(::recv(good.get(), answer.data(), answer.size(), MSG_WAITALL) ==
          static_cast<ssize_t>(answer.size()));
  REQUIRE(caller.check(answer) == Caller::Outcome::kProven);
  const Proof proof = caller.proof();
  const auto hello = encode(helloOf(options, 0));
  {  // its replay, before the true one has ended
    const UniqueFd fd = call();
    answerTo(fd.get(), caller);
    say(fd.get(), proof);
    CHECK(hungUp(fd.get()));
  }
  for (const std::byte& b : proof) say(good.get(), std::span(&b, 1));
  for (const std::byte& b : hello) say(good.get(), std::span(&b, 1));
  std::array<std::byte, kHelloBytes> reply;
  CHECK(::recv(good.get(), reply.data(), reply.size(), MSG_WAITALL) == static_cast<ssize_t>(reply.size()));
  CHECK(decodeHello(reply)->from == 2);
  {  // and after it
    const UniqueFd fd = call();
    say(fd.get(), caller.greeting());
    CHECK(hungUp(fd.get()));
  }
  cancel.cancel(Error(ErrorCode::kAborted, "rank 1 is not to come"));
  CHECK_THROWS_AS(ends.get(), Error);
}

TEST_CASE(
    "another user is hung up on at the UNIX socket, whatever it says, and the rank that is meant is linked") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: becoming another user needs root");
    return;
  }
  const Watchdog watchdog("another user");
  const Listener listener = openListener(SocketAddress::parse("127.0.0.1", 0));
  const EstablishOptions options = optionsOf(1, 2, {nullptr, &listener});
  // A member's own words, token and all.
  const auto words = encode(helloOf(options, 0));
  const pid_t other = asAnotherUser([&] {
    const UniqueFd fd = dialLocal(listener.localName);
    ::send(fd.get(), words.data(), words.size(), MSG_NOSIGNAL);
    std::array<std::byte, kHelloBytes> reply;
    return ::recv(fd.get(), reply.data(), reply.size(), MSG_WAITALL) <= 0 ? 0 : 1;
  });
  Cancel cancel;
  auto ends = std::async(std::launch::async,
                         [&] { return establish(listener, options, Deadline::in(Millis{30'000}), cancel); });
  CHECK(statusOf(other) == 0);
  const UniqueFd good = dialLocal(listener.localName);
  REQUIRE(::send(good.get(), words.data(), words.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(words.size()));
  CHECK(ends.get().size() == 1);
}

TEST_CASE(
    "a UNIX socket of another user under a rank's name is not talked to; the rank is reached over TCP") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: becoming another user needs root");
    return;
  }
  const Watchdog watchdog("another user's socket");
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const UniqueFd ready(pipe[0]);
  UniqueFd told(pipe[1]);
  const pid_t other = asAnotherUser([&] {
    const Listener impostor = openListener(SocketAddress::parse("127.0.0.1", 0));
    const auto length = static_cast<ssize_t>(impostor.localName.size());
    if (::write(told.get(), impostor.localName.data(), static_cast<size_t>(length)) != length) return 2;
    pollfd called{impostor.local.get(), POLLIN, 0};
    ::poll(&called, 1, -1);
    const UniqueFd caller(::accept(impostor.local.get(), nullptr, nullptr));
    std::byte word{};
    return ::recv(caller.get(), &word, 1, 0) == 0 ? 0 : 1;  // called, and not a word said
  });
  told.reset();
  std::array<char, 200> name{};
  const ssize_t bytes = ::read(ready.get(), name.data(), name.size());
  REQUIRE(bytes > 0);
  const Listener zero = openListener(SocketAddress::parse("127.0.0.1", 0));
  const Listener one = openListener(SocketAddress::parse("127.0.0.1", 0));
  EstablishOptions options = optionsOf(0, 2, {&zero, &one});
  options.endpoints[1].localName.assign(name.data(), static_cast<size_t>(bytes));
  const EstablishOptions there = optionsOf(1, 2, {&zero, &one});
  Cancel cancel;
  auto answer = std::async(std::launch::async,
                           [&] { return establish(one, there, Deadline::in(Millis{30'000}), cancel); });
  const std::vector<LinkEnd> ends = establish(zero, options, Deadline::in(Millis{30'000}), cancel);
  REQUIRE(ends.size() == 1);
  CHECK(ends.front().member.address.find("127.0.0.1:") == 0);
  CHECK(answer.get().size() == 1);
  CHECK(statusOf(other) == 0);
}

TEST_CASE("a rank that answers and is gone at once is linked; its end is for whoever reads the link") {
  const Watchdog watchdog("gone at once");
  Cancel cancel;
  for (int i = 0; i < 200; ++i) {
    const Listener zero = openListener(SocketAddress::parse("127.0.0.1", 0));
    const Listener one = openListener(SocketAddress::parse("127.0.0.1", 0));
    EstablishOptions options = optionsOf(0, 2, {&zero, &one});
    options.endpoints[1].identity = "another host";
    const NamedThread gone("gone", [&] {
      pollfd called{one.tcp.get(), POLLIN, 0};
      ::poll(&called, 1, -1);
      const UniqueFd fd(::accept4(one.tcp.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::array<std::byte, kHelloBytes> hello;
      ::recv(fd.get(), hello.data(), hello.size(), MSG_WAITALL);
      Hello reply = *decodeHello(hello);
      std::swap(reply.from, reply.to);
      reply.reply = true;
      const linger now{1, 0};  // a reset, as by a process that dies with something unread
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
      const auto bytes = encode(reply);
      ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    });
    const std::vector<LinkEnd> ends = establish(zero, options, Deadline::in(Millis{10'000}), cancel);
    REQUIRE(ends.size() == 1);
    CHECK(ends.front().member.address.find("127.0.0.1:") == 0);
  }
}

TEST_CASE("thousands who say nothing do not push a rank out that is introducing itself") {
  const Watchdog watchdog("silent crowd");
  bool secret = false;
  SUBCASE("without a secret") {}
  SUBCASE("with one") {
    secret = true;
  }
  const Listener listener = openListener(SocketAddress::parse("127.0.0.1", 0));
  EstablishOptions options = optionsOf(1, 2, {nullptr, &listener});
  if (secret) options = withSecret(options);
  // What a slow member has said before they come.
  const UniqueFd slow = dial(listener);
  std::optional<Caller> caller;
  if (secret) caller.emplace(Credentials{kSecret, {Purpose::kLink, 0, 1, options.credentials.claim.scope}});
  const auto hello = encode(helloOf(options, 0));
  const std::span<const std::byte> first =
      secret ? std::span<const std::byte>(caller->greeting()) : std::span(hello).first(8);
  REQUIRE(::send(slow.get(), first.data(), first.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(first.size()));
  Cancel cancel;
  auto ends = std::async(std::launch::async,
                         [&] { return establish(listener, options, Deadline::in(Millis{30'000}), cancel); });
  if (secret) {
    Answer answer;
    REQUIRE(::recv(slow.get(), answer.data(), answer.size(), MSG_WAITALL) ==
            static_cast<ssize_t>(answer.size()));
    REQUIRE(caller->check(answer) == Caller::Outcome::kProven);
  }
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 2000; ++i) {
    silent.push_back(dial(listener));
    if (silent.size() > 400) silent.erase(silent.begin());
  }
  if (secret) {
    const Proof proof = caller->proof();
    REQUIRE(::send(slow.get(), proof.data(), proof.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(proof.size()));
  }
  const auto rest = secret ? std::span<const std::byte>(hello) : std::span(hello).subspan(8);
  REQUIRE(::send(slow.get(), rest.data(), rest.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(rest.size()));
  CHECK(ends.get().size() == 1);
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
