// One function of a library that was loaded at run time. A library too old to have it leaves it empty; that
// is an error where it is called, not where the library is loaded.
#pragma once

#include "nccl/shared_library.h"

namespace nc::nccl {

template <typename Signature>
struct Symbol {
  const char* name;
  Signature* address;

  Symbol(const SharedLibrary& library, const char* symbol)
      : name(symbol), address(reinterpret_cast<Signature*>(library.find(symbol))) {}
  explicit operator bool() const { return address != nullptr; }
};

}  // namespace nc::nccl
