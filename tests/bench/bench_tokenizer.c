/* Times mp_tokenizer_encode on a few scripts, in MB of text a second.
 *
 *     bench_tokenizer tokenizer.json
 *
 * The shortest of several times counts.
 */
#include "core/base/clock.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { REPEATS = 15, TEXT_BYTES = 4000000 };

static const struct sample {
    const char *name;
    const char *text;
} samples[] = {
    {"ASCII", "The quick brown fox jumps over the lazy dog, and it's 1234 times as fast. "},
    {"German", "Die Straßenbahn fährt über die Brücke; größere Änderungen gibt's ab 2025. "},
    {"Hindi", "भारत एक विशाल देश है और यहाँ की संस्कृति बहुत प्राचीन है। हिन्दी यहाँ की राजभाषा है। "},
    {"Arabic", "السلام عليكم ورحمة الله وبركاته، كيف حالك اليوم؟ "},
    {"Chinese", "中国是一个历史悠久的国家，拥有丰富的文化遗产。今天的天气很好，我们去公园散步吧！"},
    {"Korean", "대한민국은 민주공화국이다. 모든 국민은 인간으로서의 존엄과 가치를 가진다. "},
    {"emoji", "😀 🎉👍🏽 🚀🚀 ✨ 🐋🌍 "},
    {"code", "    for (size_t i = 0; i < n; i++) {\n        out[i] = a->x[i] + 0x1f;\n    }\n"},
};

static int measure(const struct mp_tokenizer *t, const struct sample *s, struct mp_error *err)
{
    struct mp_bytes text = {0};
    while (text.length < TEXT_BYTES) {
        mp_bytes_append(&text, s->text, strlen(s->text));
    }
    double best = INFINITY;
    int code = 0;
    for (int i = 0; i < REPEATS && code == 0; i++) {
        struct mp_ids ids = {0};
        double start = mp_clock_seconds();
        code = mp_tokenizer_encode(t, text.data, text.length, false, &ids, err);
        best = fmin(best, mp_clock_seconds() - start);
        mp_ids_free(&ids);
    }
    printf("%-8s %6.1f MB/s\n", s->name, (double)text.length / best * 1e-6);
    mp_bytes_free(&text);
    return code;
}

int main(int argc, char **argv)
{
    struct mp_error err;
    struct mp_tokenizer *t = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: bench_tokenizer tokenizer.json\n");
        return 2;
    }
    int code = mp_tokenizer_load(argv[1], &t, &err);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0] && code == 0; i++) {
        code = measure(t, &samples[i], &err);
    }
    mp_tokenizer_free(t);
    if (code != 0) {
        fprintf(stderr, "bench_tokenizer: %s\n", err.message);
    }
    return code != 0;
}
