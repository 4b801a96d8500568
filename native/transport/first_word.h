// Whether anybody speaks on links that are not in use yet.
#pragma once

#include <vector>

#include "core/cancel.h"
#include "core/deadline.h"
#include "transport/mesh.h"

namespace nc::transport {

// True as soon as some link has bytes to read, which stay there. False once all have ended, or at the limit.
// Throws the Cancel's cause.
bool anyoneSpeaks(const std::vector<LinkEnd>& ends, const Deadline& limit, Cancel& cancel);

}  // namespace nc::transport
