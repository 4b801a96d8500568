// The two 16-bit floating-point formats, held in their bits. Conversions are exact towards float and round to
// nearest even back, subnormals and infinities included; every NaN becomes the format's one canonical NaN.
// Branch-free and inlined by force, so that loops over them vectorise (ten times the speed), and no step
// needs a subnormal float32 for a result that is not one: a process that flushes subnormals gets the same
// float16.
#pragma once

#include <bit>
#include <cstdint>

namespace nc {

// IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits.
struct Float16 {
  static constexpr uint16_t kInfinity = 0x7c00;
  static constexpr uint16_t kNan = 0x7e00;
  uint16_t bits;

  [[gnu::always_inline]] float value() const noexcept {
    const int32_t magnitude = (bits & 0x7fff) << 13;
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    // The exponent's bias grows by 112; infinity and NaN by 112 more, to the top of float32's range.
    const int32_t top = mask(magnitude >= (0x7c00 << 13)) & (112 << 23);
    // A subnormal's fraction put behind the leading one of 2^-14, less that one, is its value.
    const float small = std::bit_cast<float>(magnitude + (113 << 23)) - 0x1p-14f;
    const int32_t body =
        pick(magnitude < (0x0400 << 13), std::bit_cast<int32_t>(small), magnitude + (112 << 23) + top);
    return std::bit_cast<float>(static_cast<uint32_t>(body) | sign);
  }

  [[gnu::always_inline]] static Float16 from(float number) noexcept {
    const int32_t all = std::bit_cast<int32_t>(number);
    const int32_t magnitude = all & 0x7fff'ffff;
    const int32_t sign = (all >> 16) & 0x8000;
    // Adding just under half a unit, or half where the kept fraction is odd, rounds to nearest even; a carry
    // runs into the exponent, which is what is wanted, up to infinity.
    const int32_t normal = ((magnitude - (112 << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13);
    // Below 2^-14 the addition itself rounds: 0.5's unit in the last place is 2^-24, float16's smallest.
    const float shifted = std::bit_cast<float>(mask(magnitude < (113 << 23)) & magnitude) + 0.5f;
    const int32_t small = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(0.5f);
    int32_t body = pick(magnitude < (113 << 23), small, normal);
    body = pick(magnitude >= (143 << 23), kInfinity, body);  // 65536 and more
    body = pick(magnitude > 0x7f80'0000, kNan, body | sign);
    return {static_cast<uint16_t>(body)};
  }

 private:
  // Masks, not ?:, of which the compiler makes jumps that do not vectorise. Signed, as SSE2 compares.
  static int32_t mask(bool condition) noexcept { return -static_cast<int32_t>(condition); }
  static int32_t pick(bool condition, int32_t yes, int32_t no) noexcept {
    return (mask(condition) & yes) | (~mask(condition) & no);
  }
};

// bfloat16: the upper half of a float32.
struct BFloat16 {
  static constexpr uint16_t kInfinity = 0x7f80;
  static constexpr uint16_t kNan = 0x7fc0;
  uint16_t bits;

  [[gnu::always_inline]] float value() const noexcept {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }

  [[gnu::always_inline]] static BFloat16 from(float number) noexcept {
    const uint32_t all = std::bit_cast<uint32_t>(number);
    const uint32_t rounded = (all + 0x7fff + ((all >> 16) & 1)) >> 16;
    const bool nan = (all & 0x7fff'ffff) > 0x7f80'0000;
    return {static_cast<uint16_t>(nan ? uint32_t{kNan} : rounded)};
  }
};

}  // namespace nc
