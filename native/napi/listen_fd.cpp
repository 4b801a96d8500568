#include "napi/listen_fd.h"

#include <sys/socket.h>

#include <string>
#include <utility>

#include "core/error.h"

namespace nc::napi {

namespace {

int optionOf(int fd, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

}  // namespace

void checkListenFd(int fd, const char* op) {
  const int domain = optionOf(fd, SO_DOMAIN);
  const bool inet = domain == AF_INET || domain == AF_INET6;
  if (inet && optionOf(fd, SO_TYPE) == SOCK_STREAM && optionOf(fd, SO_ACCEPTCONN) == 1) return;
  ErrorFacts facts;
  facts.op = op;
  throw Error(ErrorCode::kInvalidArgument,
              std::string(op) + ": listenFd must be a listening TCP socket, but descriptor " +
                  std::to_string(fd) + " is none",
              std::move(facts));
}

}  // namespace nc::napi
