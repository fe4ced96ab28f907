#include "codelets/encode_keys/encode_keys_simd.h"
