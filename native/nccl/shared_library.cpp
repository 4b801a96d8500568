#include "nccl/shared_library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "nccl/elf_check.h"

namespace nc::nccl {

namespace {

// Files that fit the pattern, the highest version first ("python3.12" before "python3.9").
std::vector<std::string> matching(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> out;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    out.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  ::globfree(&found);
  std::sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return ::strverscmp(a.c_str(), b.c_str()) > 0;
  });
  return out;
}

// The loader begins with the path it was given, which the attempt has already.
std::string loaderError(const std::string& path) {
  const char* const said = ::dlerror();
  std::string text = said != nullptr ? said : "the loader gave no reason";
  const std::string prefix = path + ": ";
  if (text.starts_with(prefix)) text.erase(0, prefix.size());
  return text;
}

// The handle, or nullptr with a reason.
void* open(const std::string& path, const std::string& symbol, std::string& reason) {
  if (path.find('/') != std::string::npos) {
    reason = whyNotLoadable(path);
    if (!reason.empty()) return nullptr;
  }
  ::dlerror();
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    reason = loaderError(path);
    return nullptr;
  }
  if (!symbol.empty() && ::dlsym(handle, symbol.c_str()) == nullptr) {
    reason = "another library: it has no " + symbol + "()";
    return nullptr;
  }
  return handle;
}

std::vector<LoadAttempt> plan(const LibraryQuery& query) {
  if (!query.explicitPath.empty()) return {{"option", query.explicitPath, {}}};
  for (const std::string& variable : query.variables) {
    const char* const value = std::getenv(variable.c_str());
    if (value != nullptr && *value != '\0') return {{variable, value, {}}};
  }
  std::vector<LoadAttempt> out;
  for (const std::string& name : query.names) out.push_back({"loader", name, {}});
  for (const std::string& pattern : query.files) {
    const std::vector<std::string> files = matching(pattern);
    for (const std::string& file : files) out.push_back({"usual places", file, {}});
    if (files.empty()) out.push_back({"usual places", pattern, "no such file"});
  }
  return out;
}

Error unavailable(const LibraryQuery& query, const std::vector<LoadAttempt>& attempts) {
  std::string text = query.what + " could not be loaded; tried";
  for (const LoadAttempt& attempt : attempts) {
    text += "\n  " + attempt.path + " (" + attempt.source + "): " + attempt.reason;
  }
  if (!query.variables.empty()) text += "\nTo name the file, set " + query.variables.front() + ".";
  return {ErrorCode::kBackendUnavailable, text};
}

}  // namespace

std::shared_ptr<SharedLibrary> SharedLibrary::load(const LibraryQuery& query,
                                                   std::vector<LoadAttempt>* attempts) {
  // dlinfo's map is the loader's own, which it fills under a lock that no other code, and no sanitizer, sees.
  static std::mutex loading;
  const std::lock_guard lock(loading);
  std::vector<LoadAttempt> done;
  for (LoadAttempt& attempt : plan(query)) {
    void* const handle = attempt.reason.empty() ? open(attempt.path, query.symbol, attempt.reason) : nullptr;
    done.push_back(std::move(attempt));
    if (handle == nullptr) continue;
    std::shared_ptr<SharedLibrary> library(new SharedLibrary);
    library->handle_ = handle;
    library->source_ = done.back().source;
    library->path_ = done.back().path;
    link_map* map = nullptr;
    if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name[0] != '\0') library->path_ = map->l_name;
    if (attempts != nullptr) *attempts = std::move(done);
    return library;
  }
  const Error error = unavailable(query, done);
  if (attempts != nullptr) *attempts = std::move(done);
  throw error;
}

void* SharedLibrary::find(const char* symbol) const {
  return ::dlsym(handle_, symbol);
}

}  // namespace nc::nccl
