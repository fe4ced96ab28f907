/* Unicode normalization form C. Private to core/tokenizer. */
#ifndef MP_CORE_TOKENIZER_NFC_H
#define MP_CORE_TOKENIZER_NFC_H

#include "core/tokenizer/tokenizer_internal.h"

/* Appends text[0..length), valid UTF-8, in form C to out; O(n log n). MP_ERR_INTERRUPTED. */
int mp_nfc_append(const char *text, size_t length, struct mp_bytes *out, struct mp_work *w);

#endif
