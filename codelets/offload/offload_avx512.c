#include "codelets/offload/offload_simd.h"
