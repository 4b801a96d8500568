// What TCP itself is told about peers that do not answer any more.
#pragma once

#include "core/deadline.h"

namespace nc::transport {

bool isTcp(int fd);

// Probes an idle connection, and ends it when what was sent is not acknowledged for `deadAfter`.
void keepAlive(int fd, Millis deadAfter);

// The kernel counts that time also while a living peer's window is closed because it does not read, and would
// end the link of a rank that merely holds this one back. So the limit is lifted while that is so: to be
// called several times in `deadAfter`, with what it returned the last time (true at first).
bool limitUnlessHeldBack(int fd, Millis deadAfter, bool limited);

}  // namespace nc::transport
