#include "codelets/sampling_error/sampling_error_simd.h"
