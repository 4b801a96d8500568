#include "napi/device_task.h"

#include <memory>
#include <string>

#include "napi/device_handles.h"
#include "nccl/communicator.h"

namespace nc::napi {

namespace {

Error wrong(const group::Task& task, const std::string& what) {
  ErrorFacts facts;
  facts.op = name(task.stamp.kind);
  return Error(ErrorCode::kInvalidArgument, facts.op + ": " + what, facts);
}

// What an operation keeps until the device has done with it.
struct Kept {
  std::shared_ptr<nccl::DeviceMemory> in;
  std::shared_ptr<nccl::DeviceMemory> out;
  std::shared_ptr<nccl::DeviceStream> stream;
};

}  // namespace

void readDevicePart(const Napi::CallbackInfo& info, group::Task& task, int rank, int size, int device) {
  const char* const op = name(task.stamp.kind);
  if (device < 0) throw wrong(task, "this group has no device; form it with backend 'nccl'");
  const nccl::Extent extent = nccl::extentOf(task.stamp, rank, size);
  auto kept = std::make_shared<Kept>();
  group::DevicePart part;
  const auto read = [&](size_t at, size_t bytes, std::shared_ptr<nccl::DeviceMemory>& memory) {
    if (info[at].IsNull()) {
      if (bytes > 0) throw wrong(task, "it needs a DeviceBuffer on this rank");
      return nccl::DevicePtr{0};
    }
    memory = memoryOf(info[at], op);
    if (memory->device() != device) {
      throw wrong(task, "the buffer is on device " + std::to_string(memory->device()) +
                            ", the group's is device " + std::to_string(device));
    }
    return partOf(*memory, info[at + 1].As<Napi::Number>().DoubleValue(), static_cast<double>(bytes), op);
  };
  part.in = read(5, extent.in, kept->in);
  part.out = read(7, extent.out, kept->out);
  if (!info[9].IsNull()) {
    kept->stream = streamOf(info[9], op);
    if (kept->stream->device() != device) {
      throw wrong(task, "the stream is on device " + std::to_string(kept->stream->device()) +
                            ", the group's is device " + std::to_string(device));
    }
    part.ownStream = false;
    part.stream = kept->stream->handle();
  }
  part.untilEnqueued = info[10].As<Napi::Boolean>().Value();
  part.keep = std::move(kept);
  task.device = std::move(part);
}

void stage(group::Task& task) {
  task.stamp.device = true;
  task.device.emplace();
  task.device->staged = true;
}

}  // namespace nc::napi
