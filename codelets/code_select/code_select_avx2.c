#include "codelets/code_select/code_select_simd.h"
