// How a process ends while threads may be in other makers' libraries: what exit() still runs, and with which
// status.
#include "core/process_end.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "core/lone_thread.h"

namespace {

using nc::Clock;
using nc::Millis;

// A library's end that must not be run shows itself by another status.
constexpr int kLibraryEnded = 9;
constexpr int kStatus = 3;

struct End {
  int status = -1;
  int signal = 0;
  Millis took{0};
};

// Ends a process in which `body` ran after a "library" had registered its end.
End endOf(const std::function<void()>& body) {
  const auto began = Clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::atexit([] { ::_exit(kLibraryEnded); });
    body();
    std::exit(kStatus);  // NOLINT(concurrency-mt-unsafe): that is what is tested
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  End end;
  if (WIFEXITED(status)) end.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  end.took = std::chrono::duration_cast<Millis>(Clock::now() - began);
  return end;
}

// Leaves a thread to itself that needs so long.
void leave(Millis needs) {
  const nc::LoneThread thread("nc-test", [needs] { std::this_thread::sleep_for(needs); });
}

}  // namespace

TEST_CASE("with nothing in use exit() runs all ends") {
  CHECK(endOf([] { nc::decideFirstAtExit(); }).status == kLibraryEnded);
  CHECK(endOf([] {
          {
            const nc::LibraryInUse inUse;
            nc::decideFirstAtExit();
          }
        }).status == kLibraryEnded);
}

TEST_CASE("exit() waits for a thread that was left to itself, and then runs all ends") {
  const End end = endOf([] { leave(Millis{400}); });
  CHECK(end.status == kLibraryEnded);
  CHECK(end.took >= Millis{400});
}

TEST_CASE("a thread that does not come back: the ends are left out after a while, the status is kept") {
  const End end = endOf([] { leave(Millis{60'000}); });
  CHECK(end.status == kStatus);
  CHECK(end.took >= Millis{2900});
  CHECK(end.took < Millis{20'000});
}

TEST_CASE("a library that is in use: the ends are left out at once") {
  const End end = endOf([] {
    static const nc::LibraryInUse inUse;
    nc::decideFirstAtExit();
  });
  CHECK(end.status == kStatus);
  CHECK(end.took < Millis{2900});
}

TEST_CASE("a library that was loaded since: its end is left out as well") {
  const End end = endOf([] {
    static const nc::LibraryInUse inUse;
    nc::decideFirstAtExit();
    std::atexit([] { ::_exit(kLibraryEnded + 1); });
    nc::decideFirstAtExit();
  });
  CHECK(end.status == kStatus);
}

TEST_CASE("a thread that nobody waits for is not waited for") {
  const End end = endOf(
      [] { nc::LoneThread::forgotten("nc-test", [] { std::this_thread::sleep_for(Millis{60'000}); }); });
  CHECK(end.status == kLibraryEnded);
  CHECK(end.took < Millis{2900});
}
