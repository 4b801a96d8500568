// The server: where it listens, who is woken, hooks, strangers, clients that do not read.
#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "store_support.h"

using namespace store_test;
using namespace nc::store;

namespace {

// Local addresses of this process's listening sockets on `port`, as /proc has them.
std::multiset<std::string> listeners(const char* file, uint16_t port) {
  std::ifstream in(file);
  std::multiset<std::string> found;
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    std::string slot, local, remote, state;
    fields >> slot >> local >> remote >> state;
    const size_t colon = local.find(':');
    if (state == "0A" && std::stoul(local.substr(colon + 1), nullptr, 16) == port) {
      found.insert(local.substr(0, colon));
    }
  }
  return found;
}

std::string request(Op op, std::string_view key) {
  std::string out;
  putOp(out, op), putString(out, key);
  return out;
}

std::string setRequest(std::string_view key, std::string_view value) {
  std::string out = request(Op::kSet, key);
  putString(out, value);
  return out;
}

std::string waitRequest(std::initializer_list<std::string> keys) {
  std::string out;
  putOp(out, Op::kWait), putU64(out, keys.size());
  for (const auto& key : keys) putString(out, key);
  return out;
}

std::unique_ptr<Raw> validated(const Server& server) {
  auto raw = std::make_unique<Raw>(server.address());
  raw->validate();
  raw->settle();
  return raw;
}

}  // namespace

TEST_CASE("it listens on exactly the address given") {
  {
    const auto server = Server::listen(SocketAddress::parse("127.0.0.1", 0));
    CHECK(server->port() != 0);
    CHECK(listeners("/proc/self/net/tcp", server->port()) == std::multiset<std::string>{"0100007F"});
    CHECK(listeners("/proc/self/net/tcp6", server->port()).empty());
  }
  {
    const auto server = Server::listen(SocketAddress::parse("127.0.0.2", 0));
    CHECK(listeners("/proc/self/net/tcp", server->port()) == std::multiset<std::string>{"0200007F"});
  }
  try {
    const auto server = Server::listen(SocketAddress::parse("::1", 0));
    server->start();
    CHECK(listeners("/proc/self/net/tcp", server->port()).empty());
    CHECK(listeners("/proc/self/net/tcp6", server->port()) ==
          std::multiset<std::string>{"00000000000000000000000001000000"});
    Client client = Client::connect(server->address(), soon());
    CHECK(client.add("n", 1, soon()) == 1);
    // IPv6 any does not take the IPv4 port as well.
    const auto any = Server::listen(SocketAddress::parse("::", 0));
    const auto four = Server::listen(SocketAddress::parse("127.0.0.1", any->port()));
    CHECK(four->port() == any->port());
  } catch (const Error& error) {
    if (error.facts.errnum != EAFNOSUPPORT && error.facts.errnum != EADDRNOTAVAIL) throw;
    MESSAGE("no IPv6 here");
  }
}

TEST_CASE("a taken port and a foreign address have codes of their own") {
  const auto server = Server::listen(SocketAddress::parse("127.0.0.1", 0));
  const Error taken = failureOf([&] { Server::listen(server->address()); });
  CHECK(taken.code == ErrorCode::kAddressInUse);
  CHECK(taken.facts.errnum == EADDRINUSE);
  CHECK(taken.facts.address == server->address().text());
  const Error foreign = failureOf([] { Server::listen(SocketAddress::parse("192.0.2.1", 0)); });
  CHECK(foreign.code == ErrorCode::kAddressUnavailable);
}

TEST_CASE("a port can be listened on again at once") {
  auto server = started();
  const SocketAddress address = server->address();
  Client client = Client::connect(address, soon());
  client.set("k", "v", soon());
  client.sync(soon());
  server.reset();  // the server closes first: its side is left in TIME_WAIT
  server = Server::listen(address);
  CHECK(server->port() == address.port());
}

TEST_CASE("it takes over a listening descriptor, and nothing else") {
  const SocketAddress any = SocketAddress::parse("127.0.0.1", 0);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(::bind(fd.get(), any.get(), any.length) == 0);
  {
    const Error notListening = failureOf([&] { Server::adopt(UniqueFd(::dup(fd.get()))); });
    CHECK(notListening.code == ErrorCode::kInvalidArgument);
  }
  REQUIRE(::listen(fd.get(), 16) == 0);
  Raw early{SocketAddress::local(fd.get())};  // in the queue before the server exists
  const SocketAddress address = SocketAddress::local(fd.get());
  const auto server = Server::adopt(std::move(fd));
  CHECK(server->address().text() == address.text());
  server->set("preset", "1");
  server->start();
  early.validate();
  early.send(request(Op::kGet, "preset"));
  CHECK(hex(early.read(9)) == "010000000000000031");
  CHECK(failureOf([] { Server::adopt(UniqueFd(::open("/dev/null", O_RDONLY))); }).code ==
        ErrorCode::kInvalidArgument);
}

TEST_CASE("keys preset before start are there for the first client") {
  const auto server = Server::listen(SocketAddress::parse("127.0.0.1", 0));
  Raw early{server->address()};
  early.validate();
  early.send(request(Op::kGet, "identity"));
  server->set("identity", "me");
  server->start();
  CHECK(early.read(10) == std::string("\2\0\0\0\0\0\0\0me", 10));
}

TEST_CASE("as the libuv server, not the legacy one") {
  const auto server = started();
  const auto a = validated(*server);
  const auto b = validated(*server);
  SUBCASE("GET and MULTI_GET of a missing key are empty blobs") {
    a->send(request(Op::kGet, "none"));
    CHECK(hex(a->read(8)) == "0000000000000000");
    std::string many;
    putOp(many, Op::kMultiGet), putU64(many, 2), putString(many, "x"), putString(many, "y");
    a->send(many);
    CHECK(hex(a->read(16)) == std::string(32, '0'));
  }
  SUBCASE("COMPARE_SET wakes") {
    a->send(waitRequest({"late5"}));
    a->settle();
    std::string exchange = request(Op::kCompareSet, "late5");
    putString(exchange, ""), putString(exchange, "x");
    b->send(exchange);
    CHECK(hex(a->read(1)) == "00");
  }
  SUBCASE("keys up to 8 KiB, values up to 8 MiB; one byte more closes") {
    a->send(setRequest(std::string(kMaxKey, 'k'), std::string(kMaxValue, 'v')));
    a->settle();
    CHECK(server->get(std::string(kMaxKey, 'k'))->size() == kMaxValue);
    b->send(request(Op::kGet, std::string(kMaxKey + 1, 'k')));
    CHECK(b->closed());
    const auto c = validated(*server);
    c->send(setRequest("k", std::string(kMaxValue + 1, 'v')));
    CHECK(c->closed());
    a->settle();
  }
  SUBCASE("half a request holds up nobody") {
    const std::string whole = setRequest("half", "value");
    a->send(whole.substr(0, whole.size() - 2));
    b->settle();
    CHECK_FALSE(server->get("half"));
    a->send(whole.substr(whole.size() - 2));
    a->settle();
    CHECK(server->get("half") == "value");
  }
}

TEST_CASE("what has no reply closes that connection only") {
  const auto server = started();
  const auto a = validated(*server);
  server->set("text", "abc");
  server->set("full", std::to_string(INT64_MAX));
  server->set("long", std::string(kMaxValue, 'v'));
  const auto closes = [&](const std::string& bytes) {
    const auto one = validated(*server);
    one->send(bytes);
    CHECK(one->closed());
    a->settle();
  };
  std::string add = request(Op::kAdd, "text");
  putI64(add, 1);
  closes(add);
  add = request(Op::kAdd, "full");
  putI64(add, 1);
  closes(add);
  std::string append = request(Op::kAppend, "long");
  putString(append, "x");
  closes(append);
  CHECK(server->get("text") == "abc");
  CHECK(server->get("full") == std::to_string(INT64_MAX));
  CHECK(server->get("long")->size() == kMaxValue);
}

TEST_CASE("waits: second one, cancelled one, one whose client left, one ended from inside the process") {
  const auto server = started();
  const auto a = validated(*server);
  a->send(waitRequest({"first"}));
  a->send(waitRequest({"second"}));
  a->settle();
  server->set("first", "");
  a->settle();  // no longer waited for
  server->set("second", "");
  CHECK(hex(a->read(1)) == "00");

  a->send(waitRequest({"third"}) + unhex("0C"));
  CHECK(hex(a->read(1)) == "01");
  server->set("third", "");
  a->settle();

  {
    const auto b = validated(*server);
    b->send(waitRequest({"fourth"}));
    b->settle();
  }
  server->set("fourth", "");
  CHECK(server->compareSet("fifth", "", "x") == "x");
  CHECK(server->add("sixth", 2) == 2);
  a->send(waitRequest({"fourth", "fifth", "sixth"}));
  CHECK(hex(a->read(1)) == "00");
}

TEST_CASE("a wait is answered once, whoever ends it") {
  // 00 and then 01, or 01 alone; never 00 after 01. The set comes from another thread at any moment.
  const auto server = started();
  const auto a = validated(*server);
  std::mutex mutex;
  std::condition_variable changed;
  int round = 0;
  constexpr int kRounds = 300;
  std::thread setter([&] {
    for (int i = 1; i <= kRounds; ++i) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return round >= i; });
      }
      server->set("race" + std::to_string(i), "");
    }
  });
  int fulfilled = 0;
  for (int i = 1; i <= kRounds; ++i) {
    const std::string key = "race" + std::to_string(i);
    a->send(waitRequest({key}));
    {
      const std::lock_guard lock(mutex);
      round = i;
    }
    changed.notify_one();
    a->send(unhex("0C"));
    std::string answer = a->read(1);
    if (answer == std::string(1, '\0')) {
      ++fulfilled;
      answer = a->read(1);
    }
    REQUIRE(hex(answer) == "01");
    a->settle();
  }
  setter.join();
  MESSAGE(fulfilled << " of " << kRounds << " waits were fulfilled before they were cancelled");
}

TEST_CASE("hooks see keys and ends of connections, and may change the table") {
  std::unique_ptr<Server> server;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> seen;
  const auto note = [&](const std::string& what) {
    const std::lock_guard lock(mutex);
    seen.push_back(what);
    changed.notify_all();
  };
  Server::Options options;
  options.hooks.onKeySet = [&](Server::ConnectionId id, const std::string& key, const std::string& value) {
    note(std::to_string(id) + " " + key + "=" + value);
    if (key == "claim") server->compareSet("owner", "", value);
    if (key == "bad") throw std::runtime_error("hook");
  };
  options.hooks.onClose = [&](Server::ConnectionId id) {
    server->set("gone", std::to_string(id));
    note(std::to_string(id) + " closed");
  };
  server = Server::listen(SocketAddress::parse("127.0.0.1", 0), std::move(options));
  server->start();
  Client waiter = Client::connect(server->address(), soon());  // connection 1
  Client client = Client::connect(server->address(), soon());  // connection 2
  client.set("claim", "me", soon());
  CHECK(client.tryGet("owner", soon()) == "me");
  CHECK(client.add("n", 4, soon()) == 4);
  client.append("claim", "2", soon());
  CHECK(client.compareSet("c", "other", "x", soon()) == "other");  // did not take place: no hook
  client.multiSet({"m1", "m2"}, {"a", "b"}, soon());
  client.sync(soon());
  server->set("own", "not reported");
  { const Raw stranger{server->address()}; }  // connection 3, never validated: not reported
  client.close();
  CHECK(waiter.get("gone", soon()) == "2");
  waiter.set("bad", "", soon());
  CHECK(failureOf([&] { waiter.sync(soon()); }).code == ErrorCode::kNetwork);
  std::unique_lock lock(mutex);
  const std::vector<std::string> want{"2 claim=me", "2 n=4",    "2 claim=me2", "2 m1=a",
                                      "2 m2=b",     "2 closed", "1 bad=",      "1 closed"};
  CHECK(changed.wait_for(lock, std::chrono::seconds(20), [&] { return seen.size() >= want.size(); }));
  CHECK(seen == want);
}

TEST_CASE("strangers cost nobody else anything") {
  Server::Options options;
  options.maxUnvalidated = 64;
  const auto server = started(std::move(options));
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  std::thread honest([&] {
    Client client = Client::connect(server->address(), soon());
    while (!stop) {
      client.add("n", 1, soon());
      Client other = Client::connect(server->address(), soon());
      other.set("k", "v", soon());
      other.sync(soon());
      ++rounds;
    }
  });
  std::vector<std::unique_ptr<Raw>> kept;
  for (int i = 0; i < 1000; ++i) {
    auto raw = std::make_unique<Raw>(server->address());
    switch (i % 4) {
      case 0:
        raw->send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        break;
      case 1:
        raw->send(unhex("00 CE"));  // begins well, then nothing
        break;
      case 2:
        raw->send(std::string(3000, '\xff'));
        break;
      case 3:
        break;  // half open: never says a word
    }
    kept.push_back(std::move(raw));
  }
  const int before = rounds;
  while (rounds < before + 20) std::this_thread::yield();
  stop = true;
  honest.join();
  for (size_t i = 0; i < kept.size(); i += 2) CHECK(kept[i]->closed());  // talked nonsense: dropped at once
  CHECK(server->connections() <= 64);
}

TEST_CASE("who has not validated in time is dropped, one byte at a time or silent") {
  Server::Options options;
  options.validateLimit = Millis(200);
  const auto server = started(std::move(options));
  const auto fine = validated(*server);
  Raw silent{server->address()};
  Raw slow{server->address()};
  const auto began = Clock::now();
  const std::string hello = unhex("00CEF7853C");
  for (size_t i = 0; i < 4; ++i) {
    slow.send(hello.substr(i, 1));
    CHECK(slow.read(1, 45).empty());
  }
  CHECK(slow.closed());
  CHECK(silent.closed());
  CHECK(Clock::now() - began >= Millis(190));
  fine->settle();
  CHECK(server->connections() == 1);
}

TEST_CASE("a client that does not read its replies is held to a bound") {
  const auto server = started();
  const auto lazy = validated(*server);
  const auto fine = validated(*server);
  lazy->send(setRequest("big", std::string(1024 * 1024, 'b')));
  lazy->settle();
  const int flags = ::fcntl(lazy->fd(), F_GETFL);
  ::fcntl(lazy->fd(), F_SETFL, flags | O_NONBLOCK);
  const std::string get = request(Op::kGet, "big");
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  // Asks for 20 GB. Sends until the server has stopped reading and the kernel's buffers are full.
  size_t asked = 0;
  size_t partial = 0;
  for (int idle = 0; asked < 20'000 && idle < 20;) {
    const ssize_t count = ::send(lazy->fd(), get.data() + partial, get.size() - partial, MSG_NOSIGNAL);
    if (count <= 0) {
      fine->settle();
      ++idle;
      continue;
    }
    idle = 0;
    partial += static_cast<size_t>(count);
    if (partial == get.size()) partial = 0, ++asked;
  }
  fine->settle();
  rusage after{};
  ::getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 100 * 1024);  // KiB
  // It is not cut off either: all it asked for comes once it reads.
  ::fcntl(lazy->fd(), F_SETFL, flags);
  const size_t want = std::min<size_t>(asked, 50);
  for (size_t i = 0; i < want; ++i) {
    const std::string blob = lazy->read(8 + 1024 * 1024);
    REQUIRE(blob.size() == 8 + 1024 * 1024);
    REQUIRE(blob.back() == 'b');
  }
}

TEST_CASE("a MULTI_GET above the bound of a reply closes") {
  const auto server = started();
  server->set("big", std::string(kMaxValue, 'v'));
  const auto a = validated(*server);
  std::string many;
  putOp(many, Op::kMultiGet), putU64(many, 9);
  for (int i = 0; i < 9; ++i) putString(many, "big");
  a->send(many);
  CHECK(a->closed());
}

TEST_CASE("out of descriptors it neither spins nor stops for good") {
  const auto server = started();
  const auto fine = validated(*server);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 8; ++i) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(fd);
    clients.push_back(std::move(fd));
  }
  std::vector<UniqueFd> fill;
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  const rlimit small{static_cast<rlim_t>(clients.back().get() + 3), old.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &small) == 0);
  while (true) {
    UniqueFd fd(::dup(0));
    if (!fd) break;
    fill.push_back(std::move(fd));
  }
  for (auto& fd : clients) {
    CHECK(::connect(fd.get(), server->address().get(), server->address().length) == 0);
  }
  const auto cpu = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
  };
  const auto before = cpu();
  Raw quiet{UniqueFd(std::move(clients.back()))};
  clients.pop_back();
  CHECK(quiet.read(1, 300).empty());  // three tenths of a second in which nothing can be accepted
  CHECK(cpu() - before < 150);
  fine->settle();
  fill.clear();
  quiet.validate();
  quiet.settle();
  ::setrlimit(RLIMIT_NOFILE, &old);
}

TEST_CASE("many clients pipelining at once, and a quick stop") {
  const auto server = started();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      Client client = Client::connect(server->address(), soon());
      for (int i = 0; i < 200; ++i) client.append("text", "x", soon());
      for (int i = 0; i < 200; ++i) client.add("sum", 1, soon());
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(server->get("text")->size() == 1600);
  CHECK(server->get("sum") == "1600");
  CHECK(server->numKeys() == 2);
  CHECK(server->deleteKey("sum"));
  Raw open{server->address()};
  const auto began = Clock::now();
  server->stop();
  server->stop();
  CHECK(Clock::now() - began < Millis(500));
  CHECK(open.closed());
  CHECK(failureOf([&] { Client::connect(server->address(), soon(50)); }).code == ErrorCode::kTimeout);
}
