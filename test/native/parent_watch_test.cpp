// Dying with the parent. Each case is a family: this program, a parent that it forks, and that one's child,
// which watches. When the parent is gone the child is this program's (a subreaper), which waits for its end.
#include "core/parent_watch.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "core/error.h"
#include "core/unique_fd.h"

namespace nc {
namespace {

// A pipe on which the two below say what they have done, one byte each.
struct Words {
  UniqueFd in;
  UniqueFd out;
  Words() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    in = UniqueFd(ends[0]);
    out = UniqueFd(ends[1]);
  }
  void say(char word) const { REQUIRE(::write(out.get(), &word, 1) == 1); }
  char hear() const {
    char word = 0;
    REQUIRE(::read(in.get(), &word, 1) == 1);
    return word;
  }
};

[[noreturn]] void stay() {
  for (;;) ::pause();
}

class Family {
 public:
  // `child` runs in the child; what it does not end by itself stays until it is killed.
  explicit Family(const std::function<void(const Words& words, pid_t parent)>& child) {
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    parent_ = ::fork();
    REQUIRE(parent_ >= 0);
    if (parent_ > 0) {
      child_ = read();
      return;
    }
    const pid_t parent = ::getpid();
    const pid_t me = ::fork();
    if (me == 0) {
      // doctest's, which would take a child's end for a failure of its own.
      for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, SIG_DFL);
      child(words_, parent);
      stay();
    }
    if (::write(pids_.out.get(), &me, sizeof(me)) != sizeof(me)) ::_exit(1);
    stay();
  }

  ~Family() {
    for (const pid_t pid : {parent_, child_}) {
      if (pid <= 0) continue;
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  const Words& words() const { return words_; }
  pid_t parent() const { return parent_; }
  pid_t child() const { return child_; }

  void killParent() {
    ::kill(parent_, SIGKILL);
    REQUIRE(::waitpid(parent_, nullptr, 0) == parent_);
    parent_ = 0;
  }
  // How the child ended, once the parent is gone.
  int childsEnd() {
    int status = 0;
    REQUIRE(::waitpid(child_, &status, 0) == child_);
    child_ = 0;
    return status;
  }

 private:
  pid_t read() const {
    pid_t pid = 0;
    REQUIRE(::read(pids_.in.get(), &pid, sizeof(pid)) == sizeof(pid));
    return pid;
  }

  Words words_;
  Words pids_;
  pid_t parent_ = 0;
  pid_t child_ = 0;
};

bool killedBy(int status, int signal) {
  return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

ParentWatch watchBy(int signal, Millis grace = Millis{0}) {
  ParentWatch watch;
  watch.signal = signal;
  watch.grace = grace;
  return watch;
}

TEST_CASE("the child ends when its parent is killed, by descriptor and by number") {
  for (const bool byNumber : {false, true}) {
    Family family([&](const Words& words, pid_t parent) {
      ParentWatch watch = watchBy(SIGKILL);
      watch.byNumber = byNumber;
      words.say(watchParent(watch) == parent && watchedParent() == parent ? 'y' : 'n');
    });
    CHECK(family.words().hear() == 'y');
    CHECK(::waitpid(family.parent(), nullptr, WNOHANG) == 0);
    family.killParent();
    CHECK(killedBy(family.childsEnd(), SIGKILL));
  }
}

TEST_CASE("a stopped child is reached as well") {
  Family family([](const Words& words, pid_t) {
    watchParent(watchBy(SIGKILL));
    words.say('w');
  });
  CHECK(family.words().hear() == 'w');
  ::kill(family.child(), SIGSTOP);
  family.killParent();
  CHECK(killedBy(family.childsEnd(), SIGKILL));
}

TEST_CASE("a parent that has gone before, and was named: the end comes with the call") {
  for (const int signal : {SIGKILL, SIGTERM}) {
    Family family([&](const Words& words, pid_t parent) {
      words.say('b');
      while (::getppid() == parent) ::poll(nullptr, 0, 1);
      ParentWatch watch = watchBy(signal);
      watch.parent = parent;
      watchParent(watch);
      words.say('x');
    });
    CHECK(family.words().hear() == 'b');
    family.killParent();
    CHECK(killedBy(family.childsEnd(), signal));
    // It said nothing more.
    pollfd more{family.words().in.get(), POLLIN, 0};
    CHECK(::poll(&more, 1, 0) == 0);
  }
}

TEST_CASE("one that has gone before and was not named is not missed: the new parent is watched") {
  Family family([](const Words& words, pid_t parent) {
    words.say('b');
    while (::getppid() == parent) ::poll(nullptr, 0, 1);
    words.say(watchParent(watchBy(SIGKILL)) == ::getppid() ? 'y' : 'n');
  });
  CHECK(family.words().hear() == 'b');
  family.killParent();
  CHECK(family.words().hear() == 'y');
}

TEST_CASE(
    "a signal that is answered is followed by SIGKILL after the grace time, one that is not by nothing") {
  static const Words* heard = nullptr;
  Family patient([](const Words& words, pid_t) {
    heard = &words;
    std::signal(SIGTERM, [](int) { heard->say('t'); });
    watchParent(watchBy(SIGTERM, Millis{30}));
    words.say('w');
  });
  CHECK(patient.words().hear() == 'w');
  patient.killParent();
  CHECK(patient.words().hear() == 't');
  CHECK(killedBy(patient.childsEnd(), SIGKILL));

  Family plain([](const Words& words, pid_t) {
    watchParent(watchBy(SIGTERM, std::chrono::hours(1)));
    words.say('w');
  });
  CHECK(plain.words().hear() == 'w');
  plain.killParent();
  CHECK(killedBy(plain.childsEnd(), SIGTERM));
}

TEST_CASE("asked twice: the same is fine, another end is refused, another parent is none") {
  Family family([](const Words& words, pid_t parent) {
    ParentWatch watch = watchBy(SIGKILL);
    watchParent(watch);
    words.say(watchParent(watch) == parent ? 'y' : 'n');
    watch.parent = parent;
    words.say(watchParent(watch) == parent ? 'y' : 'n');
    try {
      watchParent(watchBy(SIGTERM));
      words.say('n');
    } catch (const Error& error) {
      words.say(error.code == ErrorCode::kInvalidArgument ? 'y' : 'n');
    }
    watch.parent = ::getpid();
    watchParent(watch);
  });
  for (int i = 0; i < 3; ++i) CHECK(family.words().hear() == 'y');
  // It has ended although its parent lives.
  family.killParent();
  CHECK(killedBy(family.childsEnd(), SIGKILL));
}

TEST_CASE("a child that ends by itself just ends") {
  Family family([](const Words&, pid_t) {
    watchParent(watchBy(SIGKILL));
    std::fclose(stdout);  // doctest's report at the end
    std::exit(7);
  });
  // Not this program's child yet, so its end is seen through the parent's: it has to be a zombie by then.
  while (::kill(family.child(), 0) == 0) {
    std::string stat = "/proc/" + std::to_string(family.child()) + "/stat";
    FILE* const file = std::fopen(stat.c_str(), "r");
    char state = 'X';
    if (file != nullptr) {
      if (std::fscanf(file, "%*d %*s %c", &state) != 1) state = 'X';
      std::fclose(file);
    }
    if (state == 'Z' || state == 'X') break;
    ::poll(nullptr, 0, 1);
  }
  family.killParent();
  const int status = family.childsEnd();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

}  // namespace
}  // namespace nc
