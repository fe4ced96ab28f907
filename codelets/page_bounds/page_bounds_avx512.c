#include "codelets/page_bounds/page_bounds_simd.h"
