#include "core/parent_watch.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/lone_thread.h"
#include "core/process.h"
#include "core/unique_fd.h"

namespace nc {

namespace {

constexpr int kLookMs = 50;  // where there is no descriptor

// One for the process: workers share it.
std::mutex asking;
std::optional<ParentWatch> watching;

// Whoever reads this process's stderr may be the one that is gone, or does not read: never waits.
void say(const ParentWatch& watch) noexcept {
  const char* const name = sigabbrev_np(watch.signal);
  const std::string parent = std::to_string(watch.parent);
  const std::string own = std::to_string(::getpid());
  std::string text = "node-collectives: pid " + parent + " is not the parent of pid " + own +
                     " any more, which ends by SIG" + (name != nullptr ? name : "?") + " as was asked for\n";
  const iovec part{text.data(), text.size()};
  [[maybe_unused]] const ssize_t written = ::pwritev2(STDERR_FILENO, &part, 1, -1, RWF_NOWAIT);
}

void end(const ParentWatch& watch) noexcept {
  // SIGKILL reaches this process before the call returns, and says nothing: so first the word.
  say(watch);
  ::kill(::getpid(), watch.signal);
}

void endForGood(const ParentWatch& watch) noexcept {
  const Deadline deadline = Deadline::in(watch.grace);
  while (!deadline.passed()) ::poll(nullptr, 0, deadline.pollTimeout());
  ::kill(::getpid(), SIGKILL);
}

// Whether the parent's main thread started this process, whose end is that of the parent.
bool startedByMainThread(pid_t parent) {
  const std::string number = std::to_string(parent);
  std::ifstream children("/proc/" + number + "/task/" + number + "/children");
  for (pid_t child = 0; children >> child;) {
    if (child == ::getpid()) return true;
  }
  return false;
}

void keepWatch(const ParentWatch& watch, UniqueFd process, std::promise<void>& begun) {
  // Reaches this process even while it is stopped. The kernel sends it when the *thread* that started this
  // process ends, so it will not do for a parent that started it from another one; and it belongs to the
  // thread that asks for it, which is why it is asked for here.
  if (watch.signal == SIGKILL && startedByMainThread(watch.parent)) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  begun.set_value();
  pollfd ended{process.get(), POLLIN, 0};
  // The number is what counts, the descriptor only wakes: should somebody have closed it and its number be
  // another file's, nothing dies of that.
  while (::getppid() == watch.parent) {
    const int found = ::poll(&ended, 1, ended.fd < 0 ? kLookMs : -1);
    if (found > 0 && ::getppid() == watch.parent) {
      process.release();
      ended.fd = -1;
    }
  }
  end(watch);
  endForGood(watch);
}

void start(const ParentWatch& watch, std::function<void()> body) {
  try {
    LoneThread::forgotten("nc-parent", std::move(body));
  } catch (const std::system_error& error) {
    throw Error(ErrorCode::kResource,
                std::string("dieWithParent: no thread could be started: ") + error.what());
  }
  watching = watch;
}

}  // namespace

pid_t watchParent(const ParentWatch& asked) {
  const std::lock_guard lock(asking);
  ParentWatch watch = asked;
  if (watching) {
    if (watching->signal != asked.signal || watching->grace != asked.grace) {
      throw Error(ErrorCode::kInvalidArgument,
                  "dieWithParent: this process has asked already, with another signal or graceMs; ask once");
    }
    // Another parent than the one that is watched cannot be this process's.
    if (asked.parent == 0 || asked.parent == watching->parent) return watching->parent;
  }
  const pid_t before = ::getppid();
  if (asked.parent == 0) watch.parent = before;
  if (watch.parent == 0) {
    throw Error(ErrorCode::kUnsupported,
                "dieWithParent: the parent is in another pid namespace (a container's first process, or one "
                "started from outside), where its end cannot be seen");
  }
  UniqueFd process = asked.byNumber ? UniqueFd() : openProcess(watch.parent);
  // Only a parent can have that number now: one that was given to another process in between is not the
  // parent's any more.
  if (::getppid() != watch.parent) {
    end(watch);
    start(watch, [watch] { endForGood(watch); });
    return watch.parent;
  }
  // Shared, since a function object has to be copyable.
  const auto held = std::make_shared<UniqueFd>(std::move(process));
  const auto begun = std::make_shared<std::promise<void>>();
  start(watch, [watch, held, begun] { keepWatch(watch, std::move(*held), *begun); });
  begun->get_future().wait();  // from here on it holds
  return watch.parent;
}

pid_t watchedParent() {
  const std::lock_guard lock(asking);
  return watching ? watching->parent : 0;
}

}  // namespace nc
