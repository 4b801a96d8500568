// The client: retry, deadlines, cancelling, lost connections, strange servers, limits.
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "store_support.h"

using namespace store_test;
using namespace nc::store;

namespace {

// A listener of the test's own, for servers that misbehave.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const SocketAddress any = SocketAddress::parse("127.0.0.1", 0);
    REQUIRE(::bind(fd_.get(), any.get(), any.length) == 0);
    REQUIRE(::listen(fd_.get(), 64) == 0);
  }
  SocketAddress address() const { return SocketAddress::local(fd_.get()); }
  Raw accept() const { return Raw(UniqueFd(::accept(fd_.get(), nullptr, nullptr))); }
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
};

// A client and the raw other end of its connection.
struct Pair {
  Pair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    client = std::make_unique<Client>(UniqueFd(fds[0]), SocketAddress{});
    peer = std::make_unique<Raw>(UniqueFd(fds[1]));
  }
  std::unique_ptr<Client> client;
  std::unique_ptr<Raw> peer;
};

double msSince(Clock::time_point began) {
  return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

}  // namespace

TEST_CASE("every operation against our server") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon());
  client.set("k", "v", soon());
  client.sync(soon());
  CHECK(client.get("k", soon()) == "v");
  CHECK(client.tryGet("k", soon()) == "v");
  CHECK_FALSE(client.tryGet("none", soon()));
  CHECK(client.add("n", INT64_MAX, soon()) == INT64_MAX);
  CHECK(client.add("n", -INT64_MAX, soon()) == 0);
  CHECK(client.compareSet("c", "", "1", soon()) == "1");
  client.append("k", "w", soon());
  client.multiSet({"a", "b"}, {"1", std::string(kMaxValue, 'b')}, soon());
  CHECK(client.multiGet({"b", "k", "a"}, soon()) ==
        std::vector<std::string>{std::string(kMaxValue, 'b'), "vw", "1"});
  CHECK(client.tryMultiGet({"a", "k"}, soon()) == std::vector<std::string>{"1", "vw"});
  CHECK_FALSE(client.tryMultiGet({"a", "none"}, soon()));
  CHECK(client.multiGet({}, soon()).empty());
  client.multiSet({}, {}, soon());
  CHECK(client.check({"a", "b"}, soon()));
  CHECK(client.numKeys(soon()) == 5);
  CHECK(client.deleteKey("a", soon()));
  CHECK_FALSE(client.deleteKey("a", soon()));
  CHECK(client.usable());
}

TEST_CASE("a wait ends when the key comes, within milliseconds") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon());
  std::thread setter([&] { server->set("late", "1"); });
  CHECK(client.get("late", soon()) == "1");
  setter.join();
}

TEST_CASE("it arrives before its server") {
  Listener reserved;
  const SocketAddress address = reserved.address();
  reserved.close();
  std::unique_ptr<Server> server;
  std::thread later([&] {
    // Nothing to wait for here but time: the client must meet refusals first.
    pollfd none{-1, 0, 0};
    ::poll(&none, 1, 150);
    server = Server::listen(address);
    server->start();
  });
  Client client = Client::connect(address, soon());
  later.join();
  CHECK(client.add("n", 1, soon()) == 1);
}

TEST_CASE("a port where nobody listens") {
  Listener reserved;
  const SocketAddress address = reserved.address();
  reserved.close();
  const auto began = Clock::now();
  const Error error = failureOf([&] { Client::connect(address, soon(100)); });
  CHECK(error.code == ErrorCode::kTimeout);
  CHECK(error.facts.errnum == ECONNREFUSED);
  CHECK(error.facts.op == "store.connect");
  CHECK(error.facts.address == address.text());
  CHECK(msSince(began) >= 99);
}

TEST_CASE("a listener that stays silent is bounded by the deadline") {
  const Listener listener;
  const Error error = failureOf([&] { Client::connect(listener.address(), soon(100)); });
  CHECK(error.code == ErrorCode::kTimeout);
  CHECK(std::string(error.what()).find("PING") != std::string::npos);
}

TEST_CASE("a listener that closes is tried again; one that answers something else is not") {
  const Listener listener;
  std::thread server([&] {
    for (int i = 0; i < 3; ++i) listener.accept();
    Raw fourth = listener.accept();
    fourth.send(fourth.read(10).substr(6, 4));
    fourth.closed();
    Raw fifth = listener.accept();
    fifth.read(10);
    fifth.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    fifth.closed();
  });
  { const Client client = Client::connect(listener.address(), soon()); }
  const Error error = failureOf([&] { Client::connect(listener.address(), soon()); });
  CHECK(error.code == ErrorCode::kProtocol);
  server.join();
}

TEST_CASE("cancel ends connecting and waiting at once") {
  Pair pair;
  const Listener silent;
  Cancel cancel;
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  const auto aborted = [&](const std::function<void()>& body) {
    threads.emplace_back([&ended, body] {
      const Error error = failureOf(body);
      CHECK(error.code == ErrorCode::kAborted);
      ++ended;
    });
  };
  aborted([&] { pair.client->get("k", soon(), &cancel); });
  aborted([&] { Client::connect(silent.address(), soon(), &cancel); });
  const Raw met = silent.accept();  // the second one is under way
  pair.peer->read(8 + 8 + 1 + 1);   // and so is the WAIT of the first
  const auto began = Clock::now();
  cancel.cancel(Error(ErrorCode::kAborted, "enough"));
  for (auto& thread : threads) thread.join();
  CHECK(msSince(began) < 500);  // milliseconds on an idle machine
  CHECK(ended == 2);
  CHECK_FALSE(pair.client->usable());
  CHECK(failureOf([&] { pair.client->numKeys(soon()); }).code == ErrorCode::kNetwork);
}

TEST_CASE("a cancelled call that had not begun leaves the client usable") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon());
  Cancel cancel;
  cancel.cancel(Error(ErrorCode::kAborted, "enough"));
  CHECK(failureOf([&] { client.get("k", soon(), &cancel); }).code == ErrorCode::kAborted);
  CHECK(client.numKeys(soon()) == 0);
}

TEST_CASE("a wait that times out names its keys and leaves the client usable") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon());
  const Error error = failureOf([&] { client.wait({"a", "b\n"}, soon(30)); });
  CHECK(error.code == ErrorCode::kTimeout);
  CHECK(error.facts.op == "store.wait");
  const std::string text = error.what();
  CHECK(text.find("'a' 'b\\x0a'") != std::string::npos);
  CHECK(text.find("30 ms") != std::string::npos);
  CHECK(text.find(server->address().text()) != std::string::npos);
  CHECK(client.add("n", 1, soon()) == 1);
  CHECK(failureOf([&] { client.get("k", soon(0)); }).code == ErrorCode::kTimeout);
  CHECK(client.add("n", 1, soon()) == 2);
}

TEST_CASE("a key that comes together with CANCEL_WAIT") {
  Pair pair;
  std::thread server([&] {
    pair.peer->read(8 + 8 + 1 + 1);  // WAIT of one key 'k'
    CHECK(hex(pair.peer->read(1)) == "0C");
    pair.peer->send(unhex("00 01"));
    pair.peer->read(1 + 8 + 1);  // GET
    pair.peer->send(unhex("0100000000000000 76"));
  });
  CHECK(pair.client->get("k", soon(20)) == "v");
  server.join();
  CHECK(pair.client->usable());
}

TEST_CASE("a time-out inside a reply makes the client useless, and it says why") {
  Pair pair;
  const Error error = failureOf([&] { pair.client->add("counter", 1, soon(20)); });
  CHECK(error.code == ErrorCode::kTimeout);
  CHECK_FALSE(pair.client->usable());
  const Error after = failureOf([&] { pair.client->numKeys(soon()); });
  CHECK(after.code == ErrorCode::kNetwork);
  CHECK(std::string(after.what()).find("store.add of key 'counter'") != std::string::npos);
}

TEST_CASE("a connection lost under each operation") {
  using Body = std::function<void(Client&)>;
  const std::vector<std::pair<const char*, Body>> bodies{
      {"store.get", [](Client& c) { c.get("k", soon()); }},
      {"store.tryGet", [](Client& c) { c.tryGet("k", soon()); }},
      {"store.wait", [](Client& c) { c.wait({"k"}, soon()); }},
      {"store.check", [](Client& c) { c.check({"k"}, soon()); }},
      {"store.add", [](Client& c) { c.add("k", 1, soon()); }},
      {"store.compareSet", [](Client& c) { c.compareSet("k", "", "x", soon()); }},
      {"store.deleteKey", [](Client& c) { c.deleteKey("k", soon()); }},
      {"store.multiGet", [](Client& c) { c.multiGet({"k"}, soon()); }},
  };
  for (const auto& [op, body] : bodies) {
    CAPTURE(op);
    Pair pair;
    std::thread server([&] {
      pair.peer->read(1);
      pair.peer.reset();
    });
    const Error error = failureOf([&, &run = body] { run(*pair.client); });
    CHECK(error.code == ErrorCode::kNetwork);
    CHECK(error.facts.op == op);
    CHECK(std::string(error.what()).find("'k'") != std::string::npos);
    CHECK_FALSE(pair.client->usable());
    server.join();
  }
}

TEST_CASE("replies that the protocol does not have") {
  const auto strange = [](const char* reply, const std::function<void(Client&)>& body) {
    Pair pair;
    pair.peer->send(unhex(reply));
    CHECK(failureOf([&] { body(*pair.client); }).code == ErrorCode::kProtocol);
    CHECK_FALSE(pair.client->usable());
  };
  strange("07", [](Client& c) { c.wait({"k"}, soon()); });
  strange("02", [](Client& c) { c.check({"k"}, soon()); });
  strange("FFFFFFFFFFFFFFFF", [](Client& c) { c.compareSet("k", "", "", soon()); });
  strange("0000000000000001", [](Client& c) { c.compareSet("k", "", "", soon()); });
  strange("00000000000000000000", [](Client& c) {
    c.sync(soon());  // nonce 0: four billion to one
  });
}

TEST_CASE("limits are found before anything is sent") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon(), nullptr, "/");
  const auto refused = [&](const std::function<void()>& body) {
    CHECK(failureOf(body).code == ErrorCode::kInvalidArgument);
  };
  refused([&] { client.get(std::string(kMaxKey, 'k'), soon()); });  // with the prefix one too many
  refused([&] { client.set("k", std::string(kMaxValue + 1, 'v'), soon()); });
  refused([&] { client.check(std::vector<std::string>(kMaxList + 1), soon()); });
  refused([&] { client.multiSet({"k"}, {}, soon()); });
  refused([&] {
    client.multiSet(std::vector<std::string>(8, "k"),
                    std::vector<std::string>(8, std::string(kMaxValue, 'v')), soon());
  });
  client.set(std::string(kMaxKey - 1, 'k'), std::string(kMaxValue, 'v'), soon());
  CHECK(client.check(std::vector<std::string>(kMaxList, std::string(kMaxKey - 1, 'k').substr(0, 300)),
                     soon()) == false);
  client.multiSet(std::vector<std::string>(7, "k"), std::vector<std::string>(7, std::string(kMaxValue, 'v')),
                  soon());
  CHECK(client.numKeys(soon()) == 2);
  client.close();
  CHECK(failureOf([&] { client.numKeys(soon()); }).code == ErrorCode::kClosed);
}

TEST_CASE("the server stops while clients wait") {
  auto server = started();
  std::vector<std::thread> threads;
  std::atomic<int> lost{0};
  std::atomic<int> connected{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      Client client = Client::connect(server->address(), soon());
      ++connected;
      if (failureOf([&] { client.get("never", soon()); }).code == ErrorCode::kNetwork) ++lost;
    });
  }
  while (connected < 8) std::this_thread::yield();
  server->stop();
  for (auto& thread : threads) thread.join();
  CHECK(lost == 8);
}
