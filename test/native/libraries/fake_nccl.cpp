// A library that answers like NCCL of the version it is compiled for and does nothing: it has the functions
// that version has, and remembers how it was called.
#include "fake_nccl.h"

#include <cstddef>
#include <cstdio>
#include <cstring>

namespace {

FakeNcclCall last{};

int remember(const char* name) {
  last = {};
  last.name = name;
  return last.result = fakeNcclNext().result;
}

int remember(const char* name, size_t count, int type, int op) {
  const int result = remember(name);
  last.count = count;
  last.type = type;
  last.op = op;
  return result;
}

}  // namespace

struct Id {
  char bytes[128];
};

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT FakeNcclNext& fakeNcclNext() {
  static FakeNcclNext next;
  return next;
}
EXPORT const FakeNcclCall& fakeNcclLast() {
  return last;
}

EXPORT int ncclGetVersion(int* version) {
  *version = NC_FAKE_VERSION;
  return 0;
}
EXPORT int ncclGetUniqueId(Id* id) {
  for (int i = 0; i < 128; ++i) id->bytes[i] = static_cast<char>(i);
  return remember("ncclGetUniqueId");
}
EXPORT const char* ncclGetErrorString(int result) {
  return result == 2 ? "unhandled system error" : "some error";
}
EXPORT int ncclCommInitRank(void** comm, int size, Id id, int rank) {
  const int result = remember("ncclCommInitRank", static_cast<size_t>(size), id.bytes[127], rank);
  *comm = &last;
  return result;
}
EXPORT int ncclCommDestroy(void*) {
  return remember("ncclCommDestroy");
}
EXPORT int ncclCommAbort(void*) {
  return remember("ncclCommAbort");
}
EXPORT int ncclCommGetAsyncError(void*, int* state) {
  *state = fakeNcclNext().state;
  return remember("ncclCommGetAsyncError");
}
EXPORT int ncclGroupStart() {
  return remember("ncclGroupStart");
}
EXPORT int ncclGroupEnd() {
  return remember("ncclGroupEnd");
}
EXPORT int ncclAllReduce(const void*, void*, size_t count, int type, int op, void*, void*) {
  return remember("ncclAllReduce", count, type, op);
}
EXPORT int ncclReduce(const void*, void*, size_t count, int type, int op, int, void*, void*) {
  return remember("ncclReduce", count, type, op);
}
EXPORT int ncclReduceScatter(const void*, void*, size_t count, int type, int op, void*, void*) {
  return remember("ncclReduceScatter", count, type, op);
}
EXPORT int ncclBroadcast(const void*, void*, size_t count, int type, int root, void*, void*) {
  return remember("ncclBroadcast", count, type, root);
}
EXPORT int ncclAllGather(const void*, void*, size_t count, int type, void*, void*) {
  return remember("ncclAllGather", count, type, -1);
}

#if NC_FAKE_VERSION >= 2700
EXPORT int ncclSend(const void*, size_t count, int type, int peer, void*, void*) {
  return remember("ncclSend", count, type, peer);
}
EXPORT int ncclRecv(void*, size_t count, int type, int peer, void*, void*) {
  return remember("ncclRecv", count, type, peer);
}
#endif

#if NC_FAKE_VERSION >= 21300
EXPORT const char* ncclGetLastError(void*) {
  return fakeNcclNext().lastError;
}
#endif

#if NC_FAKE_VERSION >= 21400
EXPORT int ncclCommFinalize(void*) {
  return remember("ncclCommFinalize");
}
EXPORT int ncclCommInitRankConfig(void** comm, int size, Id id, int rank, void* config) {
  const int result = remember("ncclCommInitRankConfig", static_cast<size_t>(size), id.bytes[127], rank);
  size_t bytes = 0;
  std::memcpy(&bytes, config, sizeof(bytes));
  last.configBytes = bytes;
  std::memcpy(last.config, config, bytes < sizeof(last.config) ? bytes : sizeof(last.config));
  *comm = &last;
  return result;
}
#endif
