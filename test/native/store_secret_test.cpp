// The store with a secret: who is let in, who hears what, and what strangers cost.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/thread.h"
#include "store_support.h"

using namespace store_test;

namespace {

const auto kSecret = std::make_shared<const SecretKey>("a secret of the tests");
const auto kOther = std::make_shared<const SecretKey>("another secret of the tests");

Credentials with(std::shared_ptr<const SecretKey> key, int from = -1, uint32_t generation = 0) {
  return {std::move(key), {Purpose::kStore, from, -1, scopeOf("g", "", generation)}};
}

std::unique_ptr<Server> secretServer(size_t maxUnvalidated = 256, Millis limit = Millis{10'000}) {
  Server::Options options;
  options.credentials = with(kSecret);
  options.maxUnvalidated = maxUnvalidated;
  options.validateLimit = limit;
  return started(std::move(options));
}

Client connect(const Server& server, const Credentials& credentials, int ms = 20'000) {
  return Client::connect(server.address(), soon(ms), nullptr, "", credentials);
}

std::string textOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Answer answerOf(Raw& raw) {
  const std::string text = raw.read(kAnswerBytes);
  REQUIRE(text.size() == kAnswerBytes);
  Answer answer;
  std::copy_n(std::as_bytes(std::span(text)).begin(), answer.size(), answer.begin());
  return answer;
}

}  // namespace

TEST_CASE("client and server with the same secret work as without one") {
  const auto server = secretServer();
  Client client = connect(*server, with(kSecret));
  client.set("k", "v", soon());
  CHECK(client.get("k", soon()) == "v");
  CHECK(client.add("n", 3, soon()) == 3);
  CHECK(server->get("k") == "v");
}

TEST_CASE("each side hears at once that the secrets differ, or that only one of them has one") {
  const auto secret = secretServer();
  const auto open = started();
  const auto check = [](const Server& server, const Credentials& credentials, const char* words) {
    const auto start = Clock::now();
    const Error error = failureOf([&] { connect(server, credentials); });
    CHECK(error.code == ErrorCode::kAuthentication);
    CHECK(error.facts.address == server.address().text());
    CHECK(error.facts.op == "store.connect");
    CHECK_MESSAGE(std::string(error.what()).find(words) != std::string::npos, error.what());
    CHECK(Clock::now() - start < Millis{2'000});
  };
  check(*secret, with(kOther), "another secret");
  check(*secret, {}, "asks for a secret");
  check(*open, with(kSecret), "has no secret");
  check(*secret, with(kSecret, -1, 5), "another group");
  CHECK(secret->numKeys() == 0);
  CHECK_NOTHROW(connect(*secret, with(kSecret)));
  CHECK_NOTHROW(connect(*open, {}));
}

TEST_CASE("a store of another kind hangs up when it is to prove the secret, and that is said soon") {
  // PyTorch's closes a connection that does not begin with VALIDATE, without a word.
  const UniqueFd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  SocketAddress address = SocketAddress::parse("127.0.0.1", 0);
  REQUIRE(::bind(listening.get(), address.get(), address.length) == 0);
  REQUIRE(::listen(listening.get(), 16) == 0);
  address = SocketAddress::local(listening.get());
  std::atomic<bool> over{false};
  NamedThread other("other", [&] {
    while (!over) {
      const UniqueFd fd(::accept(listening.get(), nullptr, nullptr));
      char byte = 0;
      if (fd) (void)::recv(fd.get(), &byte, 1, 0);
    }
  });
  const Error error = failureOf([&] { Client::connect(address, soon(), nullptr, "", with(kSecret)); });
  CHECK(error.code == ErrorCode::kAuthentication);
  over = true;
  const Raw last(address);  // wakes the thread
}

TEST_CASE("nothing of the store's protocol is served before the secret is proven") {
  const auto server = secretServer();
  const std::string set = unhex("01 0100000000000000 6B 0100000000000000 76");  // SET k v
  const auto refused = [&](const std::string& bytes, std::string_view expected) {
    Raw raw(server->address());
    raw.send(bytes);
    CHECK(raw.read(64) == expected);
    CHECK(raw.closed());
  };
  const std::string needed = textOf(refusalBytes(Refusal::kSecretNeeded));
  refused(unhex("00CEF7853C") + set, needed);
  refused(set, "");
  refused("GET / HTTP/1.1\r\n\r\n", "");
  {  // behind a greeting, in place of the proof
    Raw raw(server->address());
    const Caller caller(with(kSecret));
    raw.send(textOf(caller.greeting()));
    answerOf(raw);
    raw.send(unhex("00CEF7853C") + set + std::string(64, 'x'));
    CHECK(raw.closed());
  }
  CHECK(server->numKeys() == 0);
}

TEST_CASE("a handshake in single bytes is taken, and its replay is not") {
  const auto server = secretServer();
  const std::string validate = unhex("00CEF7853C");
  Caller caller(with(kSecret));
  Raw first(server->address());
  for (const char c : textOf(caller.greeting())) first.send(std::string(1, c));
  REQUIRE(caller.check(answerOf(first)) == Caller::Outcome::kProven);
  const std::string proof = textOf(caller.proof());
  for (const char c : proof + validate) first.send(std::string(1, c));
  first.settle();

  Raw replay(server->address());
  replay.send(textOf(caller.greeting()));
  answerOf(replay);
  replay.send(proof + validate);
  CHECK(replay.closed());
  Raw atOnce(server->address());
  atOnce.send(textOf(caller.greeting()) + proof + validate + unhex("0D FEEDBEEF"));
  CHECK(atOnce.read(kAnswerBytes + 4).size() == kAnswerBytes);
  CHECK(atOnce.closed());
  first.settle();
}

TEST_CASE("those who say nothing, or stop half way, are few and do not stay; a member gets through") {
  const auto server = secretServer(8, Millis{600});
  // A member that is slow to prove: it has greeted before the others come.
  Caller caller(with(kSecret));
  Raw slow(server->address());
  slow.send(textOf(caller.greeting()));
  REQUIRE(caller.check(answerOf(slow)) == Caller::Outcome::kProven);
  std::vector<std::unique_ptr<Raw>> strangers;
  for (int i = 0; i < 300; ++i) strangers.push_back(std::make_unique<Raw>(server->address()));
  CHECK_NOTHROW(connect(*server, with(kSecret)));
  slow.send(textOf(caller.proof()) + unhex("00CEF7853C"));
  slow.settle();
  CHECK(server->connections() <= 8 + 8 + 3);
  for (int i = 0; i < 50; ++i) {  // who greet as they should, and know nothing
    const Caller stranger(with(kOther));
    strangers.push_back(std::make_unique<Raw>(server->address()));
    strangers.back()->send(textOf(stranger.greeting()));
  }
  CHECK_NOTHROW(connect(*server, with(kSecret)));
  for (auto& stranger : strangers) {
    stranger->read(kAnswerBytes, 5'000);
    CHECK(stranger->closed());
  }
  slow.settle();
  CHECK(server->connections() == 1);
}
