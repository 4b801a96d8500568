// Descriptors that callers give as `listenFd`.
#pragma once

namespace nc::napi {

// Throws Error(kInvalidArgument) unless `fd` is a listening TCP socket of this process; leaves it alone. A
// wrong number must not cost the caller an unrelated descriptor (one of the event loop's, say).
void checkListenFd(int fd, const char* op);

}  // namespace nc::napi
