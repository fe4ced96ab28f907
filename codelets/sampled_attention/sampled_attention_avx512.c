#include "codelets/sampled_attention/sampled_attention_simd.h"
