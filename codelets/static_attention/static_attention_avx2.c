#include "codelets/static_attention/static_attention_simd.h"
