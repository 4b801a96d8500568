// `nccl_here nccl|rccl FILE`: what a real library answers on this machine, one line each, for
// scripts/check-nccl.mjs. No test program: it needs a library that not every machine has.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "core/deadline.h"
#include "core/error.h"
#include "nccl/device_runtime.h"
#include "nccl/nccl_api.h"

using namespace nc;
using namespace nc::nccl;

namespace {

void tell(const char* what, const std::string& text) {
  std::printf("%s: %s\n", what, text.c_str());
  std::fflush(stdout);
}

// Forms a communicator of one rank, to its end or until the library says why not.
void form(NcclApi& api) {
  const UniqueId id = api.uniqueId();
  const CommHandle comm = api.init(1, id, 0);
  const Deadline deadline = Deadline::in(Millis{60'000});
  while (!api.ready(comm)) {
    if (deadline.passed()) throw Error(ErrorCode::kTimeout, "the communicator was not made in 60 s");
    std::this_thread::sleep_for(Millis{10});
  }
  api.destroy(comm);
}

template <typename Body>
void attempt(const char* what, const Body& body) {
  try {
    body();
    tell(what, "ok");
  } catch (const Error& error) {
    tell(what, std::string(codeName(error.code)) + " " + error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const Flavour flavour = std::strcmp(argv[1], "rccl") == 0 ? Flavour::kRccl : Flavour::kNccl;
  attempt("driver", [&] {
    const auto runtime = flavour == Flavour::kNccl ? loadCuda({}) : loadHip({});
    tell("devices", std::to_string(runtime->deviceCount()));
  });
  try {
    const auto api = loadNccl(flavour, {argv[2]});
    tell("library", std::string(name(flavour)) + " " + api->versionText() + " " + api->library().path());
    tell("init", api->initBlocks() ? "blocks" : "does not block");
    attempt("unique ids", [&] {
      const UniqueId one = api->uniqueId();
      if (one == UniqueId{}) throw Error(ErrorCode::kInternal, "empty");
      if (one == api->uniqueId()) throw Error(ErrorCode::kInternal, "two are equal");
    });
    attempt("communicator", [&] { form(*api); });
  } catch (const Error& error) {
    tell("library", std::string(codeName(error.code)) + " " + error.what());
  }
  tell("end", "reached");
  return 0;
}
