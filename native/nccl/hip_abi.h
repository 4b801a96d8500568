// The part of HIP's interface that we call, declared by us, as cuda_abi.h does for CUDA. Structures whose
// layout changed between HIP 5 and 6 (hipDeviceProp_t) are not used.
#pragma once

#include <cstddef>

namespace nc::nccl::hip {

using Result = int;     // hipError_t
using Device = int;     // hipDevice_t
using Pointer = void*;  // hipDeviceptr_t
using Stream = struct ihipStream_t*;
using Event = struct ihipEvent_t*;
using Attribute = int;  // hipPointer_attribute

struct Uuid {  // hipUUID
  char bytes[16];
};

inline constexpr Result kSuccess = 0;                    // hipSuccess
inline constexpr Result kOutOfMemory = 2;                // hipErrorOutOfMemory
inline constexpr Result kInsufficientDriver = 35;        // hipErrorInsufficientDriver
inline constexpr Result kNoDevice = 100;                 // hipErrorNoDevice
inline constexpr Result kInvalidDevice = 101;            // hipErrorInvalidDevice
inline constexpr Result kNotReady = 600;                 // hipErrorNotReady
inline constexpr Result kIllegalAddress = 700;           // hipErrorIllegalAddress
inline constexpr unsigned kStreamNonBlocking = 1;        // hipStreamNonBlocking
inline constexpr unsigned kEventDisableTiming = 2;       // hipEventDisableTiming
inline constexpr unsigned kHostPortable = 1;             // hipHostMallocPortable
inline constexpr Attribute kAttributeMemoryType = 2;     // HIP_POINTER_ATTRIBUTE_MEMORY_TYPE
inline constexpr Attribute kAttributeDeviceOrdinal = 9;  // HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL
inline constexpr unsigned kMemoryDevice5 = 1;            // hipMemoryTypeDevice until 5
inline constexpr unsigned kMemoryDevice6 = 2;            // hipMemoryTypeDevice since 6

// Functions.
namespace fn {
using hipInit = Result(unsigned flags);
using hipRuntimeGetVersion = Result(int* version);
using hipGetErrorName = const char*(Result error);
using hipGetErrorString = const char*(Result error);
using hipGetLastError = Result();
using hipGetDeviceCount = Result(int* count);
using hipDeviceGet = Result(Device* device, int ordinal);
using hipDeviceGetName = Result(char* name, int bytes, Device device);
using hipDeviceGetUuid = Result(Uuid* uuid, Device device);
using hipDeviceGetPCIBusId = Result(char* busId, int bytes, int device);
using hipDeviceTotalMem = Result(size_t* bytes, Device device);
using hipDeviceCanAccessPeer = Result(int* can, int device, int peer);
using hipSetDevice = Result(int device);
using hipMalloc = Result(void** memory, size_t bytes);
using hipFree = Result(void* memory);
using hipHostMalloc = Result(void** memory, size_t bytes, unsigned flags);
using hipHostFree = Result(void* memory);
using hipPointerGetAttribute = Result(void* value, Attribute attribute, Pointer memory);
using hipMemGetAddressRange = Result(Pointer* start, size_t* bytes, Pointer memory);
using hipStreamCreateWithFlags = Result(Stream* stream, unsigned flags);
using hipStreamDestroy = Result(Stream stream);
using hipStreamQuery = Result(Stream stream);
using hipStreamWaitEvent = Result(Stream stream, Event event, unsigned flags);
using hipEventCreateWithFlags = Result(Event* event, unsigned flags);
using hipEventDestroy = Result(Event event);
using hipEventRecord = Result(Event event, Stream stream);
using hipEventQuery = Result(Event event);
// Until HIP 6 `from` was not const; it is read all the same.
using hipMemcpyHtoDAsync = Result(Pointer to, const void* from, size_t bytes, Stream stream);
using hipMemcpyDtoHAsync = Result(void* to, Pointer from, size_t bytes, Stream stream);
using hipMemcpyDtoDAsync = Result(Pointer to, Pointer from, size_t bytes, Stream stream);
}  // namespace fn

}  // namespace nc::nccl::hip
