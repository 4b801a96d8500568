// Where the libraries lie that no loader path names: pip's packages, Conda, /opt/rocm, WSL.
#pragma once

#include <string>
#include <vector>

namespace nc::nccl {

// Patterns for SharedLibrary. The environment's VIRTUAL_ENV, CONDA_PREFIX and HOME are looked at.
std::vector<std::string> ncclPlaces();
std::vector<std::string> rcclPlaces();
std::vector<std::string> cudaPlaces();
std::vector<std::string> hipPlaces();

}  // namespace nc::nccl
