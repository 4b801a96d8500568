// What a file says of itself before the loader maps it: dlopen() of a file that was cut short dies of SIGBUS,
// and of one for another processor it only says that there is no such file.
#pragma once

#include <string>

namespace nc::nccl {

// Why `path` cannot be a shared library for this process, or empty if nothing speaks against it.
std::string whyNotLoadable(const std::string& path);

}  // namespace nc::nccl
