// A process by descriptor, which unlike its number can never come to mean another one.
#pragma once

#include <sys/types.h>

#include "core/unique_fd.h"

namespace nc {

// Readable once that process has ended. None where there is no such process, or the kernel has no such thing.
UniqueFd openProcess(pid_t pid) noexcept;

}  // namespace nc
