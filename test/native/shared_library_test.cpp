// Finding a library at run time: the order, and what is said of files that are none.
#include "nccl/shared_library.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "library_support.h"

using namespace nc;
using namespace nc::nccl;
using namespace nc::nccl::test;

namespace {

namespace fs = std::filesystem;

// A folder of the test's own, removed at its end.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "nc-library-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& name, const std::string& content) const {
    const fs::path path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string bytesOf(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

LibraryQuery query() {
  LibraryQuery out;
  out.what = "the library";
  out.variables = {"NC_TEST_FIRST", "NC_TEST_SECOND"};
  out.symbol = "otherFunction";
  return out;
}

std::string reasonFor(const std::string& path) {
  LibraryQuery asked = query();
  asked.explicitPath = path;
  std::vector<LoadAttempt> attempts;
  const auto error = errorOf([&] { SharedLibrary::load(asked, &attempts); });
  REQUIRE(error);
  CHECK(error->code == ErrorCode::kBackendUnavailable);
  REQUIRE(attempts.size() == 1);
  CHECK(attempts[0].source == "option");
  CHECK(attempts[0].path == path);
  CHECK(says(error, path + " (option): " + attempts[0].reason));
  return attempts[0].reason;
}

}  // namespace

TEST_CASE("an explicit path is the only one tried") {
  const Variable first("NC_TEST_FIRST", "/nowhere/first.so");
  LibraryQuery asked = query();
  asked.explicitPath = libraryPath("other");
  asked.names = {"libc.so.6"};
  std::vector<LoadAttempt> attempts;
  const auto library = SharedLibrary::load(asked, &attempts);
  CHECK(library->path() == libraryPath("other"));
  CHECK(library->source() == "option");
  CHECK(library->find("otherFunction") != nullptr);
  CHECK(library->find("noSuchFunction") == nullptr);
  REQUIRE(attempts.size() == 1);
  CHECK(attempts[0].reason.empty());
}

TEST_CASE("the first variable that is set counts, and nothing behind it") {
  LibraryQuery asked = query();
  asked.files = {libraryPath("other")};
  {
    const Variable empty("NC_TEST_FIRST", "");
    const Variable second("NC_TEST_SECOND", libraryPath("other"));
    CHECK(SharedLibrary::load(asked)->source() == "NC_TEST_SECOND");
  }
  const Variable first("NC_TEST_FIRST", "/nowhere/first.so");
  const Variable second("NC_TEST_SECOND", libraryPath("other"));
  std::vector<LoadAttempt> attempts;
  const auto error = errorOf([&] { SharedLibrary::load(asked, &attempts); });
  CHECK(says(error, "/nowhere/first.so (NC_TEST_FIRST): No such file or directory (ENOENT)"));
  CHECK(attempts.size() == 1);
}

TEST_CASE("names, then files, each with its reason") {
  LibraryQuery asked = query();
  asked.names = {"libnc-test-none.so.1", "libc.so.6"};
  asked.files = {"/nowhere/python3*/x.so", libraryPath("oth?r"), "/never/reached.so"};
  std::vector<LoadAttempt> attempts;
  const auto library = SharedLibrary::load(asked, &attempts);
  CHECK(library->source() == "usual places");
  CHECK(library->path() == libraryPath("other"));
  REQUIRE(attempts.size() == 4);
  CHECK(attempts[0].source == "loader");
  CHECK(attempts[0].reason == "cannot open shared object file: No such file or directory");
  CHECK(attempts[1].reason == "another library: it has no otherFunction()");
  CHECK(attempts[2].path == "/nowhere/python3*/x.so");
  CHECK(attempts[2].reason == "no such file");
  CHECK(attempts[3].path == libraryPath("other"));
  CHECK(attempts[3].reason.empty());
}

TEST_CASE("of several files that fit a pattern the highest version is first") {
  const Folder folder;
  for (const char* const name : {"python3.9", "python3.12", "python3.10"}) folder.file(name, "x");
  LibraryQuery asked = query();
  asked.files = {folder.path("python3*")};
  std::vector<LoadAttempt> attempts;
  CHECK(errorOf([&] { SharedLibrary::load(asked, &attempts); }));
  REQUIRE(attempts.size() == 3);
  CHECK(attempts[0].path == folder.path("python3.12"));
  CHECK(attempts[2].path == folder.path("python3.9"));
}

TEST_CASE("the error lists every attempt and says how to name the file") {
  LibraryQuery asked = query();
  asked.names = {"libnc-test-none.so.1", "libnc-test-none.so"};
  const auto error = errorOf([&] { SharedLibrary::load(asked); });
  CHECK(says(error, "the library could not be loaded; tried\n  libnc-test-none.so.1 (loader): cannot open"));
  CHECK(says(error, "\n  libnc-test-none.so (loader): cannot open"));
  CHECK(says(error, "To name the file, set NC_TEST_FIRST."));
}

TEST_CASE("files that are no library for this process are refused with the reason") {
  const Folder folder;
  const std::string sound = bytesOf(libraryPath("other"));
  REQUIRE(sound.size() > 1000);
  CHECK(reasonFor(folder.file("empty.so", "")) == "the file is empty");
  CHECK(reasonFor(folder.file("text.so", std::string(200, 'x'))) == "not a shared library (no ELF header)");
  CHECK(reasonFor(folder.file("short.so", sound.substr(0, 20))) == "not a shared library (no ELF header)");
  CHECK(reasonFor(folder.path(".")) == "a folder, not a file");
  CHECK(reasonFor("/dev/null") == "not a regular file");
  CHECK(reasonFor("/proc/self/none.so") == "No such file or directory (ENOENT)");
  std::string foreign = sound;
  foreign[18] = 21;  // e_machine: PowerPC
  foreign[19] = 0;
  CHECK(reasonFor(folder.file("foreign.so", foreign))
            .starts_with("built for another processor (ELF machine 21"));
  std::string narrow = sound;
  narrow[4] = 1;
  CHECK(reasonFor(folder.file("narrow.so", narrow)) == "not a 64-bit library");
}

// The loader maps such a file and dies of it.
TEST_CASE("a library cut short anywhere is an error, not the end of the process") {
  const Folder folder;
  const std::string sound = bytesOf(libraryPath("other"));
  size_t refused = 0;
  for (size_t length = 64; length < sound.size(); length += sound.size() / 50) {
    LibraryQuery asked = query();
    asked.explicitPath = folder.file("cut" + std::to_string(length) + ".so", sound.substr(0, length));
    // What is cut off the end may be the section headers alone, which loading does not need.
    if (const auto error = errorOf([&] { SharedLibrary::load(asked); })) {
      CHECK(says(error, "cut short"));
      ++refused;
    }
  }
  CHECK(refused > 10);
}
