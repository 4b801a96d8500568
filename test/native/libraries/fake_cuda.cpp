// A CUDA driver with two devices and few functions. FAKE_CUDA_INIT is what cuInit() answers.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
int contexts = 0;
int current = -1;
int next = 0;  // what the event and memory functions answer
}  // namespace

EXPORT int fakeCudaContexts() {
  return contexts;
}
EXPORT int fakeCudaCurrent() {
  return current;
}
EXPORT void fakeCudaAnswer(int result) {
  next = result;
}

EXPORT int cuInit(unsigned) {
  const char* const answer = std::getenv("FAKE_CUDA_INIT");
  return answer != nullptr ? std::atoi(answer) : 0;
}
EXPORT int cuDriverGetVersion(int* version) {
  *version = 12040;
  return 0;
}
EXPORT int cuGetErrorName(int result, const char** name) {
  *name = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : result == 100 ? "CUDA_ERROR_NO_DEVICE" : nullptr;
  return *name != nullptr ? 0 : 1;
}
EXPORT int cuGetErrorString(int result, const char** text) {
  *text = result == 2 ? "out of memory" : result == 100 ? "no CUDA-capable device is detected" : nullptr;
  return *text != nullptr ? 0 : 1;
}
EXPORT int cuDeviceGetCount(int* count) {
  *count = 2;
  return 0;
}
EXPORT int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal + 40;  // a handle need not be the number
  return 0;
}
EXPORT int cuDeviceGetName(char* name, int bytes, int device) {
  std::snprintf(name, static_cast<size_t>(bytes), "Fake %d", device);
  return 0;
}
EXPORT int cuDeviceGetUuid(char* uuid, int device) {
  std::memset(uuid, 0xab, 16);
  uuid[15] = static_cast<char>(device);
  return 0;
}
EXPORT int cuDeviceGetUuid_v2(char* uuid, int device) {
  cuDeviceGetUuid(uuid, device);
  if (device == 41) uuid[0] = 0x01;  // the second is part of a device
  return 0;
}
EXPORT int cuDeviceGetPCIBusId(char* id, int bytes, int device) {
  std::snprintf(id, static_cast<size_t>(bytes), "0000:%02X:00.0", device);
  return 0;
}
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = size_t{80} << 30;
  return 0;
}
EXPORT int cuDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device < peer ? 1 : 0;
  return 0;
}
EXPORT int cuDevicePrimaryCtxRetain(void** context, int device) {
  ++contexts;
  *context = reinterpret_cast<void*>(static_cast<size_t>(device));
  return 0;
}
EXPORT int cuCtxSetCurrent(void* context) {
  current = static_cast<int>(reinterpret_cast<size_t>(context));
  return 0;
}
EXPORT int cuMemAlloc_v2(unsigned long long* memory, size_t) {
  *memory = 0x1000;
  return next;
}
EXPORT int cuEventQuery(void*) {
  return next;
}
EXPORT int cuPointerGetAttribute(void* value, int attribute, unsigned long long memory) {
  if (memory < 0x1000 || memory >= 0x2000) return 1;
  const unsigned long long start = 0x1000;
  const size_t size = 0x1000;
  const int ordinal = 1;
  const unsigned kind = 2;
  switch (attribute) {
    case 2:
      std::memcpy(value, &kind, sizeof(kind));
      return 0;
    case 9:
      std::memcpy(value, &ordinal, sizeof(ordinal));
      return 0;
    case 11:
      std::memcpy(value, &start, sizeof(start));
      return 0;
    case 12:
      std::memcpy(value, &size, sizeof(size));
      return 0;
    default:
      return 1;
  }
}
