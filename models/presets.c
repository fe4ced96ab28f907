#include "models/presets.h"

#include "core/config/config.h"

#include <stdio.h>
#include <string.h>

/* The preprocessor puts the quotes and escapes of a C string around the JSON. */
#define JSON(...) #__VA_ARGS__

/* As published, but for the keys that change neither shape nor arithmetic and for the end tokens.
 */
/* clang-format off */
static const struct preset {
    const char *name;
    const char *config;
} PRESETS[] = {
    {"llama-3.1-8b", JSON({
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false})},
    {"llama-3.1-70b", JSON({
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false})},
    {"llama-3.1-405b", JSON({
        "model_type": "llama",
        "hidden_size": 16384,
        "intermediate_size": 53248,
        "num_hidden_layers": 126,
        "num_attention_heads": 128,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false})},
    {"llama-3.2-1b", JSON({
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true})},
    {"llama-3.2-3b", JSON({
        "model_type": "llama",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true})},
    {"mistral-7b", JSON({ /* v0.3 */
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": null,
        "tie_word_embeddings": false})},
    {"qwen2.5-7b", JSON({ /* the base model: the instructed one says 32768 positions */
        "model_type": "qwen2",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "use_sliding_window": false,
        "tie_word_embeddings": false})},
    {"qwen3-8b", JSON({
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000,
        "use_sliding_window": false,
        "attention_bias": false,
        "tie_word_embeddings": false})},
};
/* clang-format on */

enum { NUM_PRESETS = sizeof PRESETS / sizeof PRESETS[0] };

/* The known name nearest to a misspelt one, if it is near enough to be meant: NULL otherwise. */
static const char *nearest(const char *name)
{
    const char *best = NULL;
    size_t best_distance = mp_farthest_meant(name);
    for (int i = 0; i < NUM_PRESETS; i++) {
        size_t distance = mp_edit_distance(name, PRESETS[i].name);
        if (distance < best_distance) {
            best_distance = distance;
            best = PRESETS[i].name;
        }
    }
    return best;
}

const char *mp_preset_names(void)
{
    static char names[256];
    size_t used = 0;
    for (int i = 0; i < NUM_PRESETS && used < sizeof names; i++) {
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ",
                                 PRESETS[i].name);
    }
    return names;
}

static int fail_unknown(const char *name, struct mp_error *err)
{
    const char *meant = nearest(name);
    return mp_fail(err, MP_ERR_USAGE, "unknown shape \"%.100s\"%s%s%s; known shapes: %s", name,
                   meant != NULL ? " (nearest: " : "", meant != NULL ? meant : "",
                   meant != NULL ? ")" : "", mp_preset_names());
}

int mp_preset_find(const char *name, const char **config, struct mp_error *err)
{
    for (int i = 0; i < NUM_PRESETS; i++) {
        if (strcmp(name, PRESETS[i].name) == 0) {
            *config = PRESETS[i].config;
            return 0;
        }
    }
    return fail_unknown(name, err);
}
