// How drivers' answers are shown, the same for CUDA and HIP.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

namespace nc::nccl {

// "0000:1b:00.0" out of whatever case the driver answers in.
std::string busIdText(const char* answer);
// "8-4-4-4-12" of 16 bytes; empty if they are all zero.
std::string uuidText(const char (&bytes)[16]);
// "0x7f0012340000".
std::string addressText(uintptr_t address);
// " (CUDA_VISIBLE_DEVICES=1,2)" for those of the variables that are set, else empty.
std::string settingsText(std::initializer_list<const char*> variables);

}  // namespace nc::nccl
