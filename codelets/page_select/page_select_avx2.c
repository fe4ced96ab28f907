#include "codelets/page_select/page_select_simd.h"
