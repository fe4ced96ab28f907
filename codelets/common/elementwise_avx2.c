#include "codelets/common/elementwise_simd.h"
