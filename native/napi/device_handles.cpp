#include "napi/device_handles.h"

#include <string>
#include <utility>

namespace nc::napi {

namespace {

constexpr napi_type_tag kMemoryTag{0x4E434D454D4F5259, 0x9a1f3c5e7b2d4860};
constexpr napi_type_tag kStreamTag{0x4E4353545245414D, 0x1c8e5a7f30b94d26};
constexpr napi_type_tag kEventTag{0x4E434556454E5400, 0xd27b60f4815ae39c};

template <typename Handle>
Napi::Value wrap(Napi::Env env, std::unique_ptr<Handle> handle, const napi_type_tag& tag) {
  auto external = Napi::External<Handle>::New(
      env, handle.get(), [](Napi::Env, Handle* held) { const std::unique_ptr<Handle> last(held); });
  static_cast<void>(handle.release());
  external.TypeTag(&tag);
  return external;
}

template <typename Handle>
Handle* find(Napi::Value value, const napi_type_tag& tag) {
  if (!value.IsExternal()) return nullptr;
  const auto external = value.As<Napi::External<Handle>>();
  return external.CheckTypeTag(&tag) ? external.Data() : nullptr;
}

Error wrong(const char* op, const char* what) {
  ErrorFacts facts;
  facts.op = op;
  return Error(ErrorCode::kInvalidArgument, std::string(op) + ": that is no " + what, facts);
}

Error disposed(const char* op, const char* what) {
  ErrorFacts facts;
  facts.op = op;
  return Error(ErrorCode::kClosed, std::string(op) + ": the " + what + " has been disposed of", facts);
}

template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Environment::of(env).thrown(error);
  }
}

void dispose(const Napi::CallbackInfo& info) {
  if (MemoryHandle* const memory = find<MemoryHandle>(info[0], kMemoryTag)) memory->memory.reset();
  if (StreamHandle* const stream = find<StreamHandle>(info[0], kStreamTag)) stream->stream.reset();
  if (EventHandle* const event = find<EventHandle>(info[0], kEventTag)) event->event.reset();
}

Napi::Value record(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto stream = streamOf(info[0], "record");
    auto handle = std::make_unique<EventHandle>();
    handle->event = std::make_shared<nccl::DeviceEvent>(*stream);
    return wrap(info.Env(), std::move(handle), kEventTag);
  });
}

void wait(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const auto stream = streamOf(info[0], "wait");
    const auto event = eventOf(info[1], "wait");
    stream->runtime()->wait(stream->device(), stream->handle(), event->handle());
  });
}

Napi::Value done(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Napi::Boolean::New(info.Env(), eventOf(info[0], "query")->done());
  });
}

}  // namespace

Napi::Value wrapMemory(Napi::Env env, std::shared_ptr<nccl::DeviceMemory> memory,
                       std::shared_ptr<LiveMemory> live) {
  auto handle = std::make_unique<MemoryHandle>(std::move(live));
  handle->memory = std::move(memory);
  return wrap(env, std::move(handle), kMemoryTag);
}

Napi::Value wrapStream(Napi::Env env, std::shared_ptr<nccl::DeviceStream> stream) {
  auto handle = std::make_unique<StreamHandle>();
  handle->stream = std::move(stream);
  return wrap(env, std::move(handle), kStreamTag);
}

std::shared_ptr<nccl::DeviceMemory> memoryOf(Napi::Value value, const char* op) {
  const MemoryHandle* const handle = find<MemoryHandle>(value, kMemoryTag);
  if (handle == nullptr) throw wrong(op, "DeviceBuffer");
  if (!handle->memory) throw disposed(op, "DeviceBuffer");
  return handle->memory;
}

std::shared_ptr<nccl::DeviceStream> streamOf(Napi::Value value, const char* op) {
  const StreamHandle* const handle = find<StreamHandle>(value, kStreamTag);
  if (handle == nullptr) throw wrong(op, "Stream");
  if (!handle->stream) throw disposed(op, "Stream");
  return handle->stream;
}

std::shared_ptr<nccl::DeviceEvent> eventOf(Napi::Value value, const char* op) {
  const EventHandle* const handle = find<EventHandle>(value, kEventTag);
  if (handle == nullptr) throw wrong(op, "Event");
  if (!handle->event) throw disposed(op, "Event");
  return handle->event;
}

nccl::DevicePtr partOf(const nccl::DeviceMemory& memory, double offset, double bytes, const char* op) {
  const auto size = static_cast<double>(memory.bytes());
  if (!(offset >= 0) || !(bytes >= 0) || offset > size || bytes > size - offset) {
    ErrorFacts facts;
    facts.op = op;
    throw Error(ErrorCode::kInvalidArgument, std::string(op) + ": that is not within the buffer's memory",
                facts);
  }
  return memory.address() + static_cast<size_t>(offset);
}

void registerDeviceHandles(Napi::Env env, Napi::Object exports) {
  exports["disposeHandle"] = Napi::Function::New(env, dispose);
  exports["recordEvent"] = Napi::Function::New(env, record);
  exports["waitEvent"] = Napi::Function::New(env, wait);
  exports["eventDone"] = Napi::Function::New(env, done);
}

}  // namespace nc::napi
