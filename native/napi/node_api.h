// The only place that includes node-addon-api, so that its switches (CMakeLists.txt) hold everywhere.
#pragma once

#include <napi.h>
