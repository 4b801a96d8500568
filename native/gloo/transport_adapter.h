// Gloo's transport interface over our links. With transport_adapter.cpp and compat.h the only code that knows
// Gloo's pure virtuals.
//
// Gloo's collectives ask a context for unbound buffers, send and receive by rank and slot, and wait; all of
// it on the calling thread, which is the group's, and all of it goes to the Mesh. Pairs only have to exist.
// An nc::Error thrown by the Mesh passes through Gloo's frames; buffers destroyed on its way are taken off
// the Mesh first.
#pragma once

#include <gloo/context.h>

#include <memory>

#include "transport/mesh.h"

namespace nc::gloo {

// A gloo::Context for Gloo's collectives. `mesh` has to outlive it and everything made from it. A time limit
// of Gloo's options that is left at transport::kUnsetTimeout means the deadline of the operation
// (Mesh::begin).
std::shared_ptr<::gloo::Context> makeContext(transport::Mesh& mesh);

}  // namespace nc::gloo
