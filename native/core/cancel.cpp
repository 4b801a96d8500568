#include "core/cancel.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <utility>

namespace nc {

Cancel::Cancel() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw systemError("eventfd", errno);
}

void Cancel::cancel(Error cause) {
  {
    const std::lock_guard lock(mutex_);
    if (cause_) return;
    cause_.emplace(std::move(cause));
  }
  flag_.store(true, std::memory_order_release);
  ::eventfd_write(fd_.get(), 1);
}

void Cancel::check() const {
  if (!cancelled()) return;
  const std::lock_guard lock(mutex_);
  throw Error(*cause_);
}

std::optional<Error> Cancel::cause() const {
  const std::lock_guard lock(mutex_);
  return cause_;
}

}  // namespace nc
