/* Records what is submitted instead of running it: no StarPU, no device. The functions below
 * replace those of codelets/common/task/task.c in a test's program.
 *
 * A task is written as one line, "op@device[+][!priority] mode:buffer ...": + if it counts as done
 * once it is enqueued in its stream; modes R, W, RW, and R^ and W^ in any GPU's memory; buffers by
 * the names that the test gives.
 */
#ifndef MP_TESTS_RECORDED_H
#define MP_TESTS_RECORDED_H

#include "codelets/common/task/codelet.h"
#include "codelets/common/task/task.h"
#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_RECORDED = 64, MAX_NAMES = 256, MAX_LINE = 512 };

static char recorded[MAX_RECORDED][MAX_LINE];
static struct mp_work recorded_work[MAX_RECORDED];
static struct mp_span_info recorded_about[MAX_RECORDED];
static int num_recorded;

static struct {
    const struct mp_buffer *buffer;
    char name[32];
} names[MAX_NAMES];
static int num_names;

static void forget_all(void)
{
    num_recorded = 0;
    num_names = 0;
}

__attribute__((format(printf, 2, 3))) static void name_buffer(const struct mp_buffer *b,
                                                              const char *format, ...)
{
    va_list args;
    assert_true(num_names < MAX_NAMES);
    va_start(args, format);
    vsnprintf(names[num_names].name, sizeof names[0].name, format, args);
    va_end(args);
    names[num_names++].buffer = b;
}

static const char *name_of(const struct mp_buffer *b)
{
    for (int i = 0; i < num_names; i++) {
        if (names[i].buffer == b) {
            return names[i].name;
        }
    }
    return "?";
}

static void assert_recorded(const char *const *expected)
{
    int i = 0;
    for (; expected[i] != NULL; i++) {
        assert_string_equal(i < num_recorded ? recorded[i] : "(nothing)", expected[i]);
    }
    assert_string_equal(i < num_recorded ? recorded[i] : "(nothing)", "(nothing)");
}

/* ---- in place of task.c ---- */

struct mp_task {
    struct mp_submit *sub;
    struct starpu_codelet *codelet;
    void *argument;
    int max_buffers;
    int num_buffers;
    char buffers[MAX_LINE / 2];
};

struct mp_task *mp_task_new(struct mp_submit *sub, struct starpu_codelet *codelet, int max_buffers)
{
    struct mp_task *t = mp_xcalloc(1, sizeof *t);
    *t = (struct mp_task){.sub = sub, .codelet = codelet, .max_buffers = max_buffers};
    return t;
}

void *mp_task_argument(struct mp_task *t, size_t bytes)
{
    return t->argument = mp_xcalloc(1, bytes);
}

static void add(struct mp_task *t, const struct mp_buffer *b, const char *mode)
{
    size_t used = strlen(t->buffers);
    snprintf(t->buffers + used, sizeof t->buffers - used, " %s:%s", mode, name_of(b));
    t->num_buffers++;
}

void mp_task_reads(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, "R");
}

void mp_task_writes(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, "W");
}

void mp_task_updates(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, "RW");
}

void mp_task_reads_on_peer(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, "R^");
}

void mp_task_writes_on_peer(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, "W^");
}

void mp_task_submit(struct mp_task *t)
{
    const struct mp_submit *sub = t->sub;
    char device[16];
    assert_true(num_recorded < MAX_RECORDED);
    assert_true(t->num_buffers <= t->max_buffers);
    snprintf(device, sizeof device, sub->device.index < 0 ? "%s" : "%s%d",
             sub->device.kind == MP_GPU ? "gpu" : "cpu", sub->device.index);
    snprintf(recorded[num_recorded], MAX_LINE, "%s@%s%s!%d%s", t->codelet->name, device,
             sub->device.kind == MP_GPU && sub->in_stream ? "+" : "", sub->priority, t->buffers);
    recorded_work[num_recorded] = mp_codelet_work(t->codelet, t->argument);
    recorded_about[num_recorded++] = sub->about;
    free(t->argument);
    free(t);
}

#endif
