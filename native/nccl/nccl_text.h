// NCCL's results, types and versions in words.
#pragma once

#include <string>

#include "core/operation.h"
#include "nccl/nccl_abi.h"
#include "nccl/nccl_api.h"

namespace nc::nccl {

// "2.22.3" of 22203; up to 2.8 the number had four digits.
std::string versionText(int version);
// "ncclSystemError"; "result 99" where we know no name.
std::string resultName(abi::Result result);
// What to do about a result, as the end of a sentence; empty where nothing general can be said.
std::string advice(abi::Result result);

// A type or reduction as NCCL numbers it, and the version that brought it.
struct Known {
  int number = -1;  // -1: no version has it
  int since = 0;
};
Known dataType(DType dtype, Flavour flavour);
Known reduction(ReduceOp op);

}  // namespace nc::nccl
