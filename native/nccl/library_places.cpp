#include "nccl/library_places.h"

#include <cstdlib>
#include <initializer_list>

namespace nc::nccl {

namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

// `file` below every folder that Python packages are installed to.
std::vector<std::string> inPythonPackages(const std::string& file) {
  std::vector<std::string> out;
  for (const char* const name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const std::string root = variable(name);
    if (!root.empty()) out.push_back(root + "/lib/python3*/site-packages/" + file);
  }
  const std::string home = variable("HOME");
  if (!home.empty()) out.push_back(home + "/.local/lib/python3*/site-packages/" + file);
  for (const char* const folder :
       {"/usr/local/lib/python3*/dist-packages/", "/usr/local/lib/python3*/site-packages/",
        "/usr/lib/python3*/dist-packages/", "/usr/lib/python3*/site-packages/"}) {
    out.push_back(folder + file);
  }
  return out;
}

void addConda(std::vector<std::string>& places, const std::string& file) {
  const std::string root = variable("CONDA_PREFIX");
  if (!root.empty()) places.push_back(root + "/lib/" + file);
}

}  // namespace

std::vector<std::string> ncclPlaces() {
  std::vector<std::string> out = inPythonPackages("nvidia/nccl/lib/libnccl.so.2");
  addConda(out, "libnccl.so.2");
  return out;
}

std::vector<std::string> rcclPlaces() {
  std::vector<std::string> out{"/opt/rocm/lib/librccl.so.1"};
  // PyTorch's wheels for ROCm carry it, without the version in the name.
  for (std::string& place : inPythonPackages("torch/lib/librccl.so*")) out.push_back(std::move(place));
  return out;
}

std::vector<std::string> cudaPlaces() {
  return {"/usr/lib/wsl/lib/libcuda.so.1"};
}

std::vector<std::string> hipPlaces() {
  std::vector<std::string> out{"/opt/rocm/lib/libamdhip64.so.*"};
  for (std::string& place : inPythonPackages("torch/lib/libamdhip64.so*")) out.push_back(std::move(place));
  return out;
}

}  // namespace nc::nccl
