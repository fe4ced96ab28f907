#include "codelets/hashing/hashing_simd.h"
