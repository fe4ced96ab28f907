#include "codelets/key_select/key_select_simd.h"
