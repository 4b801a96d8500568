// Ranks that fall silent, stop, or die while somebody else holds their socket open; and those that must not
// be taken for dead.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <functional>

#include "core/process.h"
#include "mesh_support.h"
#include "transport/keepalive.h"
#include "transport/silence.h"

using namespace nc;
using namespace nc::transport;
using namespace nc::transport::test;

namespace {

constexpr Millis kEvery{20};
constexpr Millis kDeadAfter{300};

MeshLimits beating() {
  MeshLimits limits;
  limits.earlyFrames = 8;
  limits.heartbeat = {kEvery, kDeadAfter};
  return limits;
}

// Writes a pulse to each raw link of a Solo now and then, until it ends.
class Beats {
 public:
  Beats(Solo& solo, std::vector<size_t> peers)
      : thread_("beats", [this, &solo, peers] {
          uint64_t number = 0;
          std::unique_lock lock(mutex_);
          while (!over_.wait_for(lock, kEvery, [this] { return done_; })) {
            FrameHeader pulse = controlHeader(FrameKind::kPulse, 0);
            pulse.number = number++;
            for (const size_t peer : peers) {
              const Bytes bytes = frameBytes(pulse);
              static_cast<void>(::send(solo.raw[peer].fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
            }
          }
        }) {}
  ~Beats() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    over_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  NamedThread thread_;
};

// Raises `wake` after `time`, on a thread of its own.
class Later {
 public:
  Later(Wake& wake, Millis time)
      : thread_("later", [&wake, time] {
          ::poll(nullptr, 0, static_cast<int>(time.count()));
          wake.raise();
        }) {}

 private:
  NamedThread thread_;
};

// Forked ranks end with the test.
struct Child {
  explicit Child(const std::function<void()>& body) : pid(::fork()) {
    if (pid != 0) return;
    body();
    ::_exit(0);
  }
  ~Child() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  pid_t pid;
};

}  // namespace

TEST_CASE("a link is never silent for long, whatever the group's thread does") {
  const Watchdog watchdog("never silent");
  for (const Wire wire : kWires) {
    Solo solo(2, wire, beating());
    for (uint64_t number = 0; number < 10; ++number) {
      const auto began = Clock::now();
      const auto next = solo.raw[1].frame();
      REQUIRE(next);
      CHECK(next->first.kind == FrameKind::kPulse);
      CHECK(next->first.number == number);
      CHECK(Clock::now() - began < kDeadAfter);
    }
  }
}

TEST_CASE("the rest of a message goes out although the group's thread is busy elsewhere") {
  const Watchdog watchdog("the rest of a message");
  for (const Wire wire : kWires) {
    Solo solo(2, wire, beating());
    const Bytes large = pattern(8'000'000, 3);
    BufferState state;
    solo.begin(1);
    solo.mesh->send(state, 1, 1, large.data(), large.size());
    // It does not fit the socket's buffers, and nobody waits for it.
    CHECK(state.sent.empty());
    auto next = solo.raw[1].frame();
    REQUIRE(next);
    while (next->first.kind == FrameKind::kPulse) next = solo.raw[1].frame();
    CHECK(next->second == large);
    // The pulses go on, and only the group's own thread notes what is complete.
    next = solo.raw[1].frame();
    REQUIRE(next);
    CHECK(next->first.kind == FrameKind::kPulse);
    CHECK(state.sent.empty());
    CHECK(solo.mesh->waitSend(state) == 1);
  }
}

TEST_CASE("a rank that falls silent is lost by name, and the others are told") {
  const Watchdog watchdog("falls silent");
  for (const Wire wire : kWires) {
    for (const bool idle : {false, true}) {
      Solo solo(3, wire, beating());
      const Beats beats(solo, {2});
      const auto began = Clock::now();
      const Wake never;
      BufferState state;
      const auto error = errorOf([&] {
        if (idle) solo.mesh->serve(never.fd());
        solo.begin(1);
        solo.mesh->recv(state, std::array{2}, 1, nullptr, 0);
        solo.mesh->waitRecv(state);
      });
      const auto took = Clock::now() - began;
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kRankLost);
      CHECK(error->facts.peer == 1);
      CHECK(error->facts.detectedBy == 0);
      CHECK(error->facts.op == (idle ? "" : "allReduce"));
      CHECK(std::string(error->what()).find("nothing has come from it for 300 ms") != std::string::npos);
      CHECK(took >= kDeadAfter - Millis{5});
      CHECK(took < kDeadAfter + Millis{500});
      const auto told = solo.raw[2].failure();
      REQUIRE(told);
      CHECK(told->facts.peer == 1);
      CHECK(told->facts.consequence);
    }
  }
}

TEST_CASE("ranks that are merely idle stay") {
  const Watchdog watchdog("merely idle");
  Ranks ranks(3, Wire::kTcp, beating());
  std::vector<std::unique_ptr<Wake>> wakes;
  for (int rank = 0; rank < 3; ++rank) wakes.push_back(std::make_unique<Wake>());
  const auto errors =
      ranks.run([&](Mesh& mesh) { mesh.serve(wakes[static_cast<size_t>(mesh.rank())]->fd()); },
                [&] {
                  // The time itself is what is tested.
                  ::poll(nullptr, 0, static_cast<int>(3 * kDeadAfter.count()));
                  for (const auto& wake : wakes) wake->raise();
                });
  for (const auto& error : errors) CHECK_FALSE(error);
}

TEST_CASE("only time in which this rank was watching counts") {
  Silence silence(Millis{1200}, 2);
  auto now = Clock::now();
  const auto sample = [&](Millis later, uint64_t reads) {
    now += later;
    REQUIRE(silence.sample(now));
    return silence.tooLong(1, reads);
  };
  CHECK_FALSE(silence.sample(now));
  // Gone for an hour, again and again: each time that is but one interval and a half.
  for (int i = 0; i < 7; ++i) CHECK_FALSE(sample(Millis{3'600'000}, 0));
  CHECK_FALSE(sample(Millis{3'600'000}, 1));
  // From here on it watches.
  for (int i = 0; i < 11; ++i) CHECK_FALSE(sample(Millis{100}, 1));
  CHECK_FALSE(silence.sample(now + Millis{50}));
  CHECK(sample(Millis{100}, 1));
  silence.excuse(1);
  CHECK_FALSE(sample(Millis{100}, 1));

  Silence never(Millis{0}, 2);
  CHECK(never.due() == Clock::time_point::max());
  CHECK_FALSE(never.sample(now + Millis{3'600'000}));
}

TEST_CASE("a rank that this one holds back is not lost, until it is let in and says nothing") {
  const Watchdog watchdog("holds back");
  for (const Wire wire : kWires) {
    Solo solo(2, wire, beating());
    // More than is kept aside: the link is not read on.
    for (uint64_t seq = 1; seq <= 20; ++seq) {
      FrameHeader header = dataHeader(seq, 1, 0);
      header.number = seq - 1;
      solo.raw[1].write(header);
    }
    Wake wake;
    {
      const Later later(wake, 3 * kDeadAfter);
      CHECK_FALSE(errorOf([&] { solo.mesh->serve(wake.fd()); }));
    }
    CHECK(solo.mesh->earlyFrames() == 8);
    for (uint64_t seq = 1; seq <= 20; ++seq) {
      solo.begin(seq);
      CHECK(solo.receive(1, 1, 0).empty());
      solo.mesh->end();
    }
    const auto began = Clock::now();
    const Wake never;
    const auto error = errorOf([&] { solo.mesh->serve(never.fd()); });
    REQUIRE(error);
    CHECK(error->facts.peer == 1);
    CHECK(Clock::now() - began < kDeadAfter + Millis{500});
  }
}

TEST_CASE("a living peer that does not read keeps its TCP link") {
  const Watchdog watchdog("does not read");
  Solo solo(2, Wire::kTcp, beating());
  const Bytes large = pattern(16'000'000, 4);
  solo.begin(1);
  BufferState state;
  solo.mesh->send(state, 1, 1, large.data(), large.size());
  CHECK(state.sent.empty());
  // It has much to say, but takes nothing for far longer than TCP_USER_TIMEOUT.
  {
    const Beats beats(solo, {1});
    const auto error = errorOf([&] { solo.mesh->waitSend(state, Deadline::in(6 * kDeadAfter)); });
    REQUIRE(error);
    CHECK_MESSAGE(error->code == ErrorCode::kTimeout, error->what());
  }
  auto got = solo.raw[1].frame();
  while (got && got->first.kind == FrameKind::kPulse) got = solo.raw[1].frame();
  REQUIRE(got);
  CHECK(got->second == large);
  solo.mesh->release(state);
}

TEST_CASE("a dead process is a lost rank, although a child of it holds the socket open") {
  const Watchdog watchdog("dead process");
  for (const bool leaves : {false, true}) {
    auto [near, far] = wirePair(Wire::kUnix);
    std::array<int, 2> pipe{};
    must(::pipe2(pipe.data(), O_CLOEXEC) == 0, "pipe2");
    const UniqueFd readEnd(pipe[0]);
    UniqueFd writeEnd(pipe[1]);
    const int farFd = far.get();
    const Child rank([&] {
      const pid_t holder = ::fork();
      if (holder == 0) {
        for (;;) ::pause();
      }
      const Bytes goodbye = frameBytes(controlHeader(FrameKind::kGoodbye, 0));
      if (leaves && ::write(farFd, goodbye.data(), goodbye.size()) < 0) ::_exit(1);
      if (::write(pipe[1], &holder, sizeof(holder)) < 0) ::_exit(1);
      for (;;) ::pause();
    });
    far.reset();
    writeEnd.reset();
    pid_t holder = 0;
    REQUIRE(::read(readEnd.get(), &holder, sizeof(holder)) == sizeof(holder));
    Cancel cancel;
    std::vector<LinkEnd> ends;
    ends.push_back(linkEnd(1, std::move(near)));
    ends.back().process = openProcess(rank.pid);
    REQUIRE(ends.back().process);
    Mesh mesh(0, 2, kGeneration, std::move(ends), cancel);
    Wake wake;
    const auto began = Clock::now();
    ::kill(rank.pid, SIGKILL);
    std::optional<Error> error;
    {
      std::optional<Later> later;
      if (leaves) later.emplace(wake, Millis{100});
      error = errorOf([&] { mesh.serve(wake.fd()); });
    }
    ::kill(holder, SIGKILL);
    if (leaves) {
      CHECK_FALSE(error);
      continue;
    }
    REQUIRE(error);
    CHECK(error->code == ErrorCode::kRankLost);
    CHECK(error->facts.peer == 1);
    CHECK(std::string(error->what()).find("its process has ended") != std::string::npos);
    CHECK(Clock::now() - began < Millis{1000});
  }
}

TEST_CASE("a mesh that is closed holds no descriptor of a process") {
  auto [near, far] = wirePair(Wire::kUnix);
  Cancel cancel;
  std::vector<LinkEnd> ends;
  ends.push_back(linkEnd(1, std::move(near)));
  ends.back().process = openProcess(::getpid());
  const int descriptor = ends.back().process.get();
  Mesh mesh(0, 2, kGeneration, std::move(ends), cancel);
  if (descriptor < 0) {
    MESSAGE("skipped: no pidfd_open here");
    return;
  }
  CHECK(::fcntl(descriptor, F_GETFD) != -1);
  far.reset();
  mesh.close(Deadline::in(Millis{1000}));
  CHECK(::fcntl(descriptor, F_GETFD) == -1);
}

TEST_CASE("who leaves because of a loss is not named in its place") {
  const Watchdog watchdog("not named in its place");
  for (const Wire wire : kWires) {
    for (const bool heldBack : {false, true}) {
      Solo solo(4, wire, beating());
      uint64_t number = 0;
      if (heldBack) {
        for (uint64_t seq = 1; seq <= 20; ++seq) {
          FrameHeader header = dataHeader(seq, 1, 0);
          header.number = number++;
          solo.raw[1].write(header);
        }
      }
      // Rank 3 dies. Rank 1 sees it, says so, and is gone as well before this rank looks.
      solo.raw[3].fd.reset();
      ErrorFacts facts;
      facts.rank = 1;
      facts.detectedBy = 1;
      facts.peer = 3;
      const Bytes body = encodeFailure(Error(ErrorCode::kRankLost, "rank 3 was lost", facts));
      FrameHeader failure = controlHeader(FrameKind::kFailure, 0);
      failure.length = body.size();
      failure.number = number;
      solo.raw[1].write(failure, body);
      solo.raw[1].fd.reset();
      const Wake never;
      const auto error = errorOf([&] { solo.mesh->serve(never.fd()); });
      REQUIRE(error);
      CHECK(error->code == ErrorCode::kRankLost);
      CHECK(error->facts.peer == 3);
      CHECK(error->facts.detectedBy == 1);
      CHECK(error->facts.consequence);
    }
  }
}

TEST_CASE("TCP is told to give up, unless the peer only holds back") {
  auto [near, far] = wirePair(Wire::kTcp);
  CHECK(isTcp(near.get()));
  const auto [a, b] = wirePair(Wire::kUnix);
  CHECK_FALSE(isTcp(a.get()));
  const auto limit = [&] {
    int value = -1;
    socklen_t length = sizeof(value);
    must(::getsockopt(near.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &length) == 0, "getsockopt");
    return value;
  };
  keepAlive(near.get(), Millis{3000});
  CHECK(limit() == 3000);
  CHECK(limitUnlessHeldBack(near.get(), Millis{3000}, true));
  CHECK(limit() == 3000);
  const Bytes large(65'536);
  while (::send(near.get(), large.data(), large.size(), MSG_DONTWAIT) > 0) continue;
  // The last of it is under way for a moment.
  bool limited = true;
  for (const Deadline late = Deadline::in(Millis{10'000}); limited && !late.passed(); ::sched_yield())
    limited = limitUnlessHeldBack(near.get(), Millis{3000}, limited);
  CHECK_FALSE(limited);
  CHECK(limit() == 0);
  Bytes into(1 << 20);
  while (!limited) {
    static_cast<void>(::recv(far.get(), into.data(), into.size(), MSG_DONTWAIT));
    limited = limitUnlessHeldBack(near.get(), Millis{3000}, limited);
  }
  CHECK(limit() == 3000);
}
