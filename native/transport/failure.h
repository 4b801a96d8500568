// The body of a failure frame: why a group has failed, so that every rank can name the same cause.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/error.h"

namespace nc::transport {

std::vector<std::byte> encodeFailure(const Error& cause);

// What `from` told. Never throws: a body that cannot be read still is a failure told by that rank.
Error decodeFailure(std::span<const std::byte> body, int from) noexcept;

}  // namespace nc::transport
