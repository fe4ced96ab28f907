#include "codelets/common/linear_simd.h"
