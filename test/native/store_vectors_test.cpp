// The recorded byte vectors: against our server, and our client against a script.
#include <functional>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include "store_support.h"
#include "store_transcripts.h"

using namespace store_test;

namespace {

struct Line {
  char kind;   // '!', '#', '>', '<'
  int client;  // of '>' and '<'
  std::string text;
};

std::vector<Line> parsed() {
  std::vector<Line> lines;
  std::istringstream in(kTranscripts);
  for (std::string text; std::getline(in, text);) {
    if (text.size() < 3) continue;
    Line line{text[0], 0, text.substr(2)};
    if ((line.kind == '>' || line.kind == '<') && line.text.size() > 1 && line.text[1] == ' ') {
      line.client = line.text[0] - '0';
      line.text = line.text.substr(2);
    }
    lines.push_back(line);
  }
  return lines;
}

void replay(bool byteWise) {
  const auto server = started();
  std::map<int, std::unique_ptr<Raw>> clients;
  const std::vector<Line> lines = parsed();
  std::string name;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Line& line = lines[i];
    if (line.kind == '!') clients.clear();
    if (line.kind == '!' || line.kind == '#') {
      name = line.text;
      continue;
    }
    CAPTURE(name);
    CAPTURE(line.text);
    auto& client = clients[line.client];
    if (!client) client = std::make_unique<Raw>(server->address());
    if (line.kind == '>') {
      std::string bytes = unhex(line.text);
      while (i + 1 < lines.size() && lines[i + 1].kind == '>' && lines[i + 1].client == line.client) {
        bytes += unhex(lines[++i].text);
      }
      for (size_t at = 0; at < bytes.size(); at += byteWise ? 1 : bytes.size()) {
        client->send(std::string_view(bytes).substr(at, byteWise ? 1 : bytes.size()));
      }
      const bool answered =
          i + 1 < lines.size() && lines[i + 1].kind == '<' && lines[i + 1].client == line.client;
      if (!answered) client->settle();
    } else if (line.text == "(closed)") {
      REQUIRE(client->closed());
    } else if (line.text == "(nothing)") {
      client->settle();
    } else {
      const std::string want = unhex(line.text);
      REQUIRE(hex(client->read(want.size())) == hex(want));
    }
  }
}

// Plays the server's side of the transcript up to the first entry of another connection; ends the script at
// `last` entries. Compares every byte that the client sends.
void script(Raw& peer, const std::vector<std::pair<std::string, std::string>>& steps) {
  for (const auto& [request, reply] : steps) {
    const std::string want = unhex(request);
    const std::string got = peer.read(want.size());
    if (got != want) {
      FAIL_CHECK("client sent " << hex(got) << ", the note has " << hex(want));
      return;
    }
    peer.send(unhex(reply));
  }
}

struct ClientCase {
  const char* entry;
  std::function<void(Client&)> call;
};

}  // namespace

TEST_CASE("the server answers every recorded exchange") {
  replay(false);
}

TEST_CASE("the same, one byte to a segment") {
  replay(true);
}

TEST_CASE("the client sends what PyTorch's sends and understands the answers") {
  using Keys = std::vector<std::string>;
  const auto timesOut = [](const std::function<void()>& body) {
    CHECK(failureOf(body).code == ErrorCode::kTimeout);
  };
  const auto brief = [] { return soon(20); };
  const std::vector<ClientCase> cases{
      {"set", [](Client& c) { c.set("k", "hello", soon()); }},
      {"set with an empty value", [](Client& c) { c.set("e", "", soon()); }},
      {"set with bytes over 127", [](Client& c) { c.set("b", unhex("00ff80"), soon()); }},
      {"set with an empty key", [](Client& c) { c.set("", "x", soon()); }},
      {"get of a key that is there (WAIT, then GET)",
       [](Client& c) { CHECK(c.get("k", soon()) == "hello"); }},
      {"get of an empty value", [](Client& c) { CHECK(c.get("e", soon()).empty()); }},
      {"add to a new key", [](Client& c) { CHECK(c.add("n", 5, soon()) == 5); }},
      {"add to a key that is there", [](Client& c) { CHECK(c.add("n", 37, soon()) == 42); }},
      {"add of a negative number", [](Client& c) { CHECK(c.add("n", -100, soon()) == -58); }},
      {"get of a counter (decimal text)", [](Client& c) { CHECK(c.get("n", soon()) == "-58"); }},
      {"check, all there",
       [](Client& c) {
         CHECK(c.check(Keys{"k", "n"}, soon()));
       }},
      {"check, one missing",
       [](Client& c) {
         CHECK_FALSE(c.check(Keys{"k", "nope"}, soon()));
       }},
      {"check of no keys", [](Client& c) { CHECK(c.check(Keys{}, soon())); }},
      {"wait, all there",
       [](Client& c) {
         c.wait(Keys{"k", "n"}, soon());
       }},
      {"wait that times out (WAIT, CANCEL_WAIT)",
       [&](Client& c) { timesOut([&] { c.wait(Keys{"nope"}, brief()); }); }},
      {"compare_set, key absent, expected empty",
       [](Client& c) { CHECK(c.compareSet("c", "", "v1", soon()) == "v1"); }},
      {"compare_set, expected value matches",
       [](Client& c) { CHECK(c.compareSet("c", "v1", "v2", soon()) == "v2"); }},
      {"compare_set, expected value differs",
       [](Client& c) { CHECK(c.compareSet("c", "zz", "v3", soon()) == "v2"); }},
      {"compare_set, key absent, expected not empty",
       [](Client& c) { CHECK(c.compareSet("d", "zz", "v3", soon()) == "zz"); }},
      {"check that the last one did not make the key",
       [](Client& c) { CHECK_FALSE(c.check(Keys{"d"}, soon())); }},
      {"append to a key that is there", [](Client& c) { c.append("k", " world", soon()); }},
      {"get after append", [](Client& c) { CHECK(c.get("k", soon()) == "hello world"); }},
      {"append to a new key", [](Client& c) { c.append("ap", "x", soon()); }},
      {"multi_set",
       [](Client& c) {
         c.multiSet(Keys{"m1", "m2"}, Keys{"one", "two2"}, soon());
       }},
      {"multi_get (WAIT, then MULTI_GET)",
       [](Client& c) {
         CHECK(c.multiGet(Keys{"m1", "m2"}, soon()) == Keys{"one", "two2"});
       }},
      {"num_keys", [](Client& c) { CHECK(c.numKeys(soon()) == 9); }},
      {"delete_key of a key that is there", [](Client& c) { CHECK(c.deleteKey("m1", soon())); }},
      {"delete_key of a missing key", [](Client& c) { CHECK_FALSE(c.deleteKey("m1", soon())); }},
      {"num_keys after", [](Client& c) { CHECK(c.numKeys(soon()) == 8); }},
      {"get of a missing key, timing out", [&](Client& c) { timesOut([&] { c.get("missing", brief()); }); }},
      {"the connection is usable after a time-out",
       [](Client& c) { CHECK(c.get("k", soon()) == "hello world"); }},
      {"multi_get with one missing, timing out",
       [&](Client& c) { timesOut([&] {
                          c.multiGet(Keys{"k", "missing"}, brief());
                        }); }},
  };
  const std::vector<Line> lines = parsed();
  for (const ClientCase& test : cases) {
    CAPTURE(test.entry);
    std::vector<std::pair<std::string, std::string>> steps;
    bool inEntry = false;
    for (const Line& line : lines) {
      if (line.kind == '#' || line.kind == '!') inEntry = line.text == test.entry;
      if (inEntry && line.kind == '>') steps.emplace_back(line.text, "");
      if (inEntry && line.kind == '<') steps.back().second = line.text;
    }
    REQUIRE(!steps.empty());
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    Raw peer{UniqueFd(fds[1])};
    Client client{UniqueFd(fds[0]), SocketAddress{}, "/"};
    std::thread server([&] { script(peer, steps); });
    test.call(client);
    server.join();
    CHECK(client.usable());
  }
}

TEST_CASE("a prefix store's keys") {
  const auto server = started();
  Client client = Client::connect(server->address(), soon(), nullptr, "/p/q/");
  client.set("k", "v", soon());
  CHECK(client.add("n", 1, soon()) == 1);
  CHECK(server->get("/p/q/k") == "v");
  CHECK(server->get("/p/q/n") == "1");
}
