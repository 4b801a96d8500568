// A shared library found and loaded at run time, with every attempt written down: nothing of CUDA, NCCL, HIP
// or RCCL is needed to build or to load the addon.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace nc::nccl {

// Where to look, in this order. The first file that loads is taken.
struct LibraryQuery {
  std::string what;                    // for messages: "NCCL", "the CUDA driver"
  std::string explicitPath;            // an option of the caller's; if set, nothing else is tried
  std::vector<std::string> variables;  // environment variables that name a file; the first that is set
                                       // counts, and then nothing else is tried
  std::vector<std::string> names;      // for the loader's own search: "libnccl.so.2"
  std::vector<std::string> files;  // full paths or patterns (glob) to try after that, e.g. of pip's packages
  std::string symbol;              // a function it must have: a file without is another library
};

struct LoadAttempt {
  std::string source;  // "option", "NODE_COLLECTIVES_NCCL_PATH", "loader", "usual places"
  std::string path;    // what was given to dlopen, or a pattern that no file fits
  std::string reason;  // the loader's words; empty for the one that was taken
};

// Stays loaded for the life of the process (these libraries do not survive dlclose). Any thread.
class SharedLibrary {
 public:
  // Throws Error(kBackendUnavailable) that lists every attempt with its reason. `attempts` (if given)
  // receives them in either case, the one that was taken, if any, last.
  static std::shared_ptr<SharedLibrary> load(const LibraryQuery& query,
                                             std::vector<LoadAttempt>* attempts = nullptr);
  // The file that was loaded, as the loader says (dlinfo), not as it was asked for.
  const std::string& path() const { return path_; }
  const std::string& source() const { return source_; }  // as in LoadAttempt
  // nullptr if it has no such function.
  void* find(const char* symbol) const;

 private:
  SharedLibrary() = default;
  void* handle_ = nullptr;
  std::string path_;
  std::string source_;
};

}  // namespace nc::nccl
