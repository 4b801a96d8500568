// Other makers' libraries and the end of the process. exit() runs their ends, while threads that nobody
// joined go on: a library falls over when a thread still is in it then (seen with NCCL 2.28 aborting a
// communicator), or comes into it later. So where one does, exit() is _exit() with the same status, and the
// libraries' ends are left out.
#pragma once

#include <functional>

#include "core/deadline.h"

namespace nc {

// While one of these lives, threads may be in such a library. None is left once an environment has ended in
// order; process.exit() ends none.
class LibraryInUse {
 public:
  LibraryInUse();
  ~LibraryInUse();
  LibraryInUse(const LibraryInUse&) = delete;
  LibraryInUse& operator=(const LibraryInUse&) = delete;
};

// A thread was left to itself: exit() waits for it, for 3 s at most. `ended` waits until the thread is
// through, or that time, and says which; it is called by whatever thread ends the process.
void awaitAtExit(std::function<bool(const Deadline&)> ended);

// Code that is needed after the last environment: Node unloads an addon with the last worker that has loaded
// it.
void pinThisModule() noexcept;

// What is decided here comes before the ends of all libraries that are loaded by now. To be called after one
// was loaded, and when an environment ends.
void decideFirstAtExit() noexcept;

}  // namespace nc
