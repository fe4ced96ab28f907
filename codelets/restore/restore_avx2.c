#include "codelets/restore/restore_simd.h"
