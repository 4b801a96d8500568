#include "nccl/elf_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"

namespace nc::nccl {

namespace {

#if defined(__x86_64__)
constexpr unsigned kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kMachine = EM_AARCH64;
#else
constexpr unsigned kMachine = EM_NONE;  // not compared
#endif

bool readAt(int fd, off_t offset, void* to, size_t bytes) {
  return ::pread(fd, to, bytes, offset) == static_cast<ssize_t>(bytes);
}

std::string cutShort(off_t has, uint64_t needs) {
  return "the file was cut short: it has " + std::to_string(has) + " bytes, its headers speak of " +
         std::to_string(needs);
}

}  // namespace

std::string whyNotLoadable(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errnoText(errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return errnoText(errno);
  if (S_ISDIR(status.st_mode)) return "a folder, not a file";
  if (!S_ISREG(status.st_mode)) return "not a regular file";
  if (status.st_size == 0) return "the file is empty";
  Elf64_Ehdr header{};
  if (!readAt(fd.get(), 0, &header, sizeof(header)) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return "not a shared library (no ELF header)";
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return "not a 64-bit library";
  if (kMachine != EM_NONE && header.e_machine != kMachine) {
    return "built for another processor (ELF machine " + std::to_string(header.e_machine) + ", this is " +
           std::to_string(kMachine) + ")";
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return "not a shared library (odd program headers)";
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  const size_t bytes = segments.size() * sizeof(Elf64_Phdr);
  if (!readAt(fd.get(), static_cast<off_t>(header.e_phoff), segments.data(), bytes)) {
    return cutShort(status.st_size, header.e_phoff + bytes);
  }
  for (const Elf64_Phdr& segment : segments) {
    const uint64_t end = segment.p_offset + segment.p_filesz;
    if (segment.p_type == PT_LOAD && end > static_cast<uint64_t>(status.st_size))
      return cutShort(status.st_size, end);
  }
  return {};
}

}  // namespace nc::nccl
