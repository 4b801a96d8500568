// The verdict of a group that did not come about: a failure, as text under kVerdictKey.
#pragma once

#include <string>

#include "core/error.h"
#include "store/client.h"

namespace nc::rendezvous {

std::string encodeVerdict(const Error& cause);
// By `rank`, which gives up, unless another verdict stands; which one does now. Rank 0 need not wait for that
// rank to read it, registered or not.
std::string tellVerdict(store::Client& client, int rank, const Error& cause, const Deadline& limit,
                        Cancel* cancel = nullptr);
// As the error of `rank`: a consequence, unless it was the one that saw the failure.
Error verdictError(const std::string& verdict, int rank);

}  // namespace nc::rendezvous
