// This process ends when its parent process does, however that ended. Once begun it lasts until this process
// ends: a thread that nobody joins keeps watch, so that neither a busy JavaScript thread nor the end of the
// worker that asked for it changes anything.
#pragma once

#include <sys/types.h>

#include "core/deadline.h"

namespace nc {

struct ParentWatch {
  // The process that is meant; 0: whichever is the parent now.
  pid_t parent = 0;
  // SIGKILL, or one that this process may answer: SIGKILL follows after `grace`.
  int signal = 0;
  Millis grace{0};
  // Look at the parent's number instead of waiting on a process descriptor, as on kernels without. For tests.
  bool byNumber = false;
};

// The process that is watched. Where the one that is meant is gone, this process ends now. A second call does
// nothing. Throws kInvalidArgument if it asks for another end than the first, kUnsupported if the parent is
// in another pid namespace, kResource without a thread.
pid_t watchParent(const ParentWatch& asked);

// The process that is watched, 0 for none.
pid_t watchedParent();

}  // namespace nc
