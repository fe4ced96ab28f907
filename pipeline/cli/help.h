/* The help texts: of the program and of each verb, without the configuration's flags. */
#ifndef MP_PIPELINE_HELP_H
#define MP_PIPELINE_HELP_H

extern const char mp_help_overview[];
extern const char mp_help_generate[];
extern const char mp_help_logits[];
extern const char mp_help_tokenize[];
extern const char mp_help_detokenize[];
extern const char mp_help_plan[];
extern const char mp_help_bench_decode[];
extern const char mp_help_bench_prefill[];
extern const char mp_help_bench_ops[];
extern const char mp_help_tune[];
extern const char mp_help_serve[];
extern const char mp_help_make_data[];
extern const char mp_help_eval[];
extern const char mp_help_eval_attention[];

#endif
