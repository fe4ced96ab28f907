/* How fast the ops run here: the rates behind the estimated time of a task, measured from recorded
 * spans and kept in a file from one run to the next. Where nothing was measured nominal rates of a
 * worker serve: policies that compare workers need ratios, not absolutes. */
#ifndef MP_CORE_CALIBRATION_H
#define MP_CORE_CALIBRATION_H

#include "core/trace/trace.h"

#include <stddef.h>

/* What a worker achieves. */
struct mp_rates {
    double flops; /* floating-point operations a second */
    double bytes; /* through memory, a second */
};

/* What the rates depend on: with another setup they are others. */
struct mp_setup {
    int cpu_workers;
    int threads;      /* of all CPU workers together */
    char kernels[32]; /* variant on the CPU, as people are told: "avx512 with AMX" */
    char gpu[256];    /* its name; "": none */
};

/* What one span tells. */
struct mp_rate_sample {
    double rate; /* work a second */
    double work; /* floating-point operations, or bytes */
};

/* What the last spans of an op tell that were bound alike. */
enum { MP_RATE_SAMPLES = 256 };
struct mp_rate_samples {
    struct mp_rate_sample *last; /* [MP_RATE_SAMPLES], the oldest overwritten first; NULL: none */
    size_t count;                /* of all */
};

/* One op on one kind of worker. */
struct mp_calibrated_op {
    char *name;
    enum mp_track_kind kind;
    struct mp_rates rates;        /* of runs before; 0: not measured */
    struct mp_rate_samples flops; /* of this run, from spans bound by arithmetic */
    struct mp_rate_samples bytes; /* from spans bound by memory */
};

struct mp_calibration {
    struct mp_setup setup;
    struct mp_rates nominal[MP_TRACK_KINDS];
    struct mp_calibrated_op *ops; /* [num_ops] */
    size_t num_ops;
};

/* Nominal rates alone. */
void mp_calibration_init(struct mp_calibration *c, const struct mp_setup *setup);
void mp_calibration_free(struct mp_calibration *c);

/* The entry of an op, a new one if there was none. Pointers to entries hold until the next call. */
struct mp_calibrated_op *mp_calibration_op(struct mp_calibration *c, const char *name,
                                           enum mp_track_kind kind);

/* Seconds that a task of this work takes: the slower of arithmetic and memory. */
double mp_calibration_estimate(const struct mp_calibration *c, const char *op,
                               enum mp_track_kind kind, double flops, double bytes);

/* Adds this process's spans on workers that began at or after since_ns of mp_clock_ns. The
 * estimates stay as they are. Only while no task is in flight: new entries move the others. */
void mp_calibration_measure(struct mp_calibration *c, uint64_t since_ns);

/* Takes what was measured over into the rates. False if that was nothing. */
bool mp_calibration_update(struct mp_calibration *c);

/* ---- the file ---- */

/* The machine's file, $XDG_CACHE_HOME/magicpig-pipe/calibration-<host name>.json, or in
 * $HOME/.cache; NULL if neither variable has an absolute path. The caller's. */
char *mp_calibration_default_path(void);

/* Creates the folder of the machine's file: all that is missing below $XDG_CACHE_HOME or $HOME.
 * MP_ERR_IO. */
int mp_calibration_make_folder(const char *default_path, struct mp_error *err);

/* Adds the rates in the file: none if there is no such file or it is of another setup. MP_ERR_IO:
 * it cannot be read; MP_ERR_FORMAT: it is damaged; *c then has nominal rates alone. */
int mp_calibration_read(struct mp_calibration *c, const char *path, struct mp_error *err);

/* Replaces the file, whatever it has, by these rates. Whoever reads it meanwhile finds it whole.
 * MP_ERR_IO, also if the folder does not exist. */
int mp_calibration_write(const struct mp_calibration *c, const char *path, struct mp_error *err);

#endif
