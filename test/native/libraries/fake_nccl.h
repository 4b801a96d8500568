// What fake_nccl.cpp was asked last, and what it is to answer next; found by dlsym.
#pragma once

#include <cstddef>

struct FakeNcclCall {
  const char* name;
  int result;
  size_t count;
  int type;
  int op;
  size_t configBytes;
  unsigned char config[128];
};

struct FakeNcclNext {
  int result = 0;  // of every call
  int state = 0;   // that ncclCommGetAsyncError() tells
  const char* lastError = "";
};

using fakeNcclNextFunction = FakeNcclNext&();
using fakeNcclLastFunction = const FakeNcclCall&();
extern "C" FakeNcclNext& fakeNcclNext();
extern "C" const FakeNcclCall& fakeNcclLast();
