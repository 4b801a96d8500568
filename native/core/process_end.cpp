#include "core/process_end.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

namespace nc {

namespace {

constexpr Millis kExitLimit{3000};

std::atomic<int> inUse{0};

using Ended = std::function<bool(const Deadline&)>;

struct Strays {
  std::mutex mutex;
  std::vector<Ended> all;
};

// Never destroyed: it is used while the process ends.
Strays& strays() {
  static Strays* const kept = new Strays;  // NOLINT(cppcoreguidelines-owning-memory)
  return *kept;
}

#if defined(__GLIBC__)
void atExit(int status, void*) {
  bool through = true;
  {
    const Deadline limit = Deadline::in(kExitLimit);
    const std::lock_guard lock(strays().mutex);
    for (const Ended& ended : strays().all) through = ended(limit) && through;
  }
  if (through && inUse.load() == 0) return;
  std::fflush(nullptr);
  ::_exit(status);
}
#endif

}  // namespace

LibraryInUse::LibraryInUse() {
  ++inUse;
}

LibraryInUse::~LibraryInUse() {
  --inUse;
}

void awaitAtExit(Ended ended) {
  {
    const std::lock_guard lock(strays().mutex);
    std::vector<Ended>& all = strays().all;
    const Deadline now = Deadline::in(Millis{0});
    all.erase(std::remove_if(all.begin(), all.end(), [&](const Ended& each) { return each(now); }),
              all.end());
    all.push_back(std::move(ended));
  }
  decideFirstAtExit();
}

void pinThisModule() noexcept {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&pinThisModule), &info) == 0 || info.dli_fname == nullptr) return;
  ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

void decideFirstAtExit() noexcept {
#if defined(__GLIBC__)
  // What is registered last is called first. Without such a library there is nothing to decide.
  const std::lock_guard lock(strays().mutex);
  if (inUse.load() == 0 && strays().all.empty()) return;
  pinThisModule();
  ::on_exit(&atExit, nullptr);
#endif
}

}  // namespace nc
