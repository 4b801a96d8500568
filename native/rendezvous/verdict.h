// The verdict of a group that did not come about: a failure, as text under kVerdictKey.
#pragma once

#include <string>

#include "core/error.h"

namespace nc::rendezvous {

std::string encodeVerdict(const Error& cause);
// As the error of `rank`: a consequence, unless the failure was its own.
Error verdictError(const std::string& verdict, int rank);

}  // namespace nc::rendezvous
