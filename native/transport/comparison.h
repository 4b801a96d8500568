// Whether ranks compare their calls. They always do, but for the build that `npm run bench -- mismatch`
// measures against: it shows what comparing costs.
#pragma once

namespace nc::transport {

#ifdef NC_WITHOUT_COMPARISON
inline constexpr bool kComparesCalls = false;
#else
inline constexpr bool kComparesCalls = true;
#endif

}  // namespace nc::transport
