// The verdict of a group that did not come about: a failure, as text under kVerdictKey.
#pragma once

#include <string>

#include "core/error.h"

namespace nc::rendezvous {

std::string encodeVerdict(const Error& cause);
// As the error of `rank`: a consequence, unless it was the one that saw the failure.
Error verdictError(const std::string& verdict, int rank);

}  // namespace nc::rendezvous
