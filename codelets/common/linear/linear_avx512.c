#include "codelets/common/linear/linear_simd.h"
