#include "core/machine/core_map.h"

#include "core/base/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int check_request(const struct mp_topology *t, int workers, int threads,
                         struct mp_error *err)
{
    if (workers < 0 || threads < 0) {
        return mp_fail(err, MP_ERR_USAGE, "%d CPU workers with %d threads: expected 0 or more",
                       workers, threads);
    }
    if (threads > mp_topology_cores(t)) {
        return mp_fail(err, MP_ERR_USAGE, "%d threads: this process may use %d cores", threads,
                       mp_topology_cores(t));
    }
    if (workers > (threads == 0 ? mp_topology_cores(t) : threads)) {
        return mp_fail(err, MP_ERR_USAGE, "%d CPU workers: more than the %d threads to share out",
                       workers, threads == 0 ? mp_topology_cores(t) : threads);
    }
    return MP_OK;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Cores that GPUs want of so many. */
static int wanted_aside(const struct mp_core_request *request, int cores)
{
    int most = cores >= 4 ? cores / 4 : cores == 3;
    return request->gpus == 0 ? 0 : min_int(request->gpus + 1, most);
}

/* As many threads as there are cores that nobody else needs. */
static int default_threads(const struct mp_topology *t, const struct mp_core_request *request)
{
    int cores = mp_topology_cores_granted(t);
    cores -= wanted_aside(request, cores);
    return request->workers > cores ? request->workers : cores;
}

/* The last `count` cores of a node (-1: of all), ascending. False if it has fewer. */
static bool last_cores(const struct mp_topology *t, int node, int count, int *cores)
{
    for (int core = mp_topology_cores(t) - 1; core >= 0 && count > 0; core--) {
        if (node < 0 || mp_topology_node_of(t, core) == node) {
            cores[--count] = core;
        }
    }
    return count == 0;
}

static void set_aside(const struct mp_topology *t, const struct mp_core_request *request,
                      int threads, struct mp_core_map *map)
{
    int wanted = request->gpus > 0 ? request->gpus + 1 : 0;
    map->num_gpus = request->gpus;
    map->num_aside = min_int(wanted, mp_topology_cores(t) - threads);
    if (!last_cores(t, request->gpu_node, map->num_aside, map->aside)) {
        last_cores(t, -1, map->num_aside, map->aside);
    }
}

/* The cores that teams are made of. */
struct core_pool {
    int *cores; /* [num_cores] ascending */
    int num_cores;
    int *node_start; /* [num_nodes + 1] where in `cores` each NUMA node begins; then num_cores */
    int num_nodes;   /* that have any of them */
};

static bool is_aside(const struct mp_core_map *map, int core)
{
    for (int i = 0; i < map->num_aside; i++) {
        if (map->aside[i] == core) {
            return true;
        }
    }
    return false;
}

static void pool_fill(const struct mp_topology *t, const struct mp_core_map *map,
                      struct core_pool *pool)
{
    *pool = (struct core_pool){
        .cores = mp_xcalloc((size_t)mp_topology_cores(t), sizeof *pool->cores),
        .node_start = mp_xcalloc((size_t)mp_topology_cores(t) + 1, sizeof *pool->node_start),
    };
    for (int core = 0; core < mp_topology_cores(t); core++) {
        if (is_aside(map, core)) {
            continue;
        }
        int at = pool->num_cores++;
        pool->cores[at] = core;
        if (at == 0 ||
            mp_topology_node_of(t, core) != mp_topology_node_of(t, pool->cores[at - 1])) {
            pool->node_start[pool->num_nodes++] = at;
        }
    }
    pool->node_start[pool->num_nodes] = pool->num_cores;
}

static void pool_free(struct core_pool *pool)
{
    free(pool->cores);
    free(pool->node_start);
}

/* Where in the pool the first of the nodes that fall to team w of `teams` begins. */
static int home_of(const struct core_pool *pool, int w, int teams)
{
    return pool->node_start[(int)((int64_t)w * pool->num_nodes / teams)];
}

/* Even sizes. Where each team has the same number of whole nodes, though, none is larger than its
 * own, which may have fewer cores than others: rather uneven than spread. */
static void size_teams(const struct core_pool *pool, int threads, struct mp_core_map *map)
{
    int n = map->num_teams;
    bool whole_nodes = pool->num_nodes % n == 0;
    for (int w = 0; threads > 0; w = (w + 1) % n) {
        int most = whole_nodes ? home_of(pool, w + 1, n) - home_of(pool, w, n) : pool->num_cores;
        if (map->teams[w].num_threads < most) {
            map->teams[w].num_threads++;
            threads--;
        }
    }
}

static void place_teams(const struct core_pool *pool, int threads, struct mp_core_map *map)
{
    int next = 0; /* place in the pool of the first core not given away */
    for (int w = 0; w < map->num_teams; w++) {
        struct mp_team *team = &map->teams[w];
        team->cores = mp_xcalloc((size_t)team->num_threads, sizeof *team->cores);
        /* Teams spread over the nodes: each starts on its own one, unless the cores behind that
         * would not be enough for this team and those after it. */
        int home = home_of(pool, w, map->num_teams);
        if (next < home) {
            next = min_int(home, pool->num_cores - threads);
        }
        for (int i = 0; i < team->num_threads; i++) {
            team->cores[i] = pool->cores[next++];
        }
        threads -= team->num_threads;
    }
}

int mp_core_map_plan(const struct mp_topology *t, const struct mp_core_request *request,
                     struct mp_core_map *out, struct mp_error *err)
{
    int code = check_request(t, request->workers, request->threads, err);
    if (code != MP_OK) {
        return code;
    }
    int threads = request->threads > 0 ? request->threads : default_threads(t, request);
    struct mp_core_map map;
    struct core_pool pool;
    set_aside(t, request, threads, &map);
    pool_fill(t, &map, &pool);
    map.num_teams = request->workers > 0 ? request->workers : min_int(pool.num_nodes, threads);
    map.teams = mp_xcalloc((size_t)map.num_teams, sizeof *map.teams);
    size_teams(&pool, threads, &map);
    place_teams(&pool, threads, &map);
    pool_free(&pool);
    *out = map;
    return MP_OK;
}

void mp_core_map_free(struct mp_core_map *map)
{
    for (int i = 0; i < map->num_teams; i++) {
        free(map->teams[i].cores);
    }
    free(map->teams);
}

/* "cores 0-5,8" */
static void print_cores(FILE *out, const int *cores, int count)
{
    fputs(count == 1 ? "core " : "cores ", out);
    for (int first = 0, last; first < count; first = last + 1) {
        for (last = first; last + 1 < count && cores[last + 1] == cores[last] + 1; last++) {
        }
        fprintf(out, "%s%d", first > 0 ? "," : "", cores[first]);
        if (last > first) {
            fprintf(out, "-%d", cores[last]);
        }
    }
}

static void print_aside(FILE *out, const struct mp_core_map *map)
{
    if (map->num_aside == 0) {
        return;
    }
    fprintf(out, "; GPU driver%s", map->num_gpus > 1 ? "s" : "");
    if (map->num_aside <= map->num_gpus) {
        fputs(" and submitting thread: ", out);
        print_cores(out, map->aside, map->num_aside);
    } else {
        fputs(": ", out);
        print_cores(out, map->aside, map->num_gpus);
        fprintf(out, "; submitting thread: core %d", mp_submit_core(map));
    }
}

char *mp_core_map_describe(const struct mp_core_map *map, bool bound)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = mp_xstream_open(&text, &size);
    for (int w = 0; w < map->num_teams; w++) {
        const struct mp_team *team = &map->teams[w];
        fprintf(out, "%scpu worker %d: ", w > 0 ? "; " : "", w);
        if (bound) {
            print_cores(out, team->cores, team->num_threads);
        } else {
            fprintf(out, "%d thread%s", team->num_threads, team->num_threads == 1 ? "" : "s");
        }
    }
    if (bound) {
        print_aside(out, map);
    } else {
        fputs("; no thread is bound", out);
    }
    mp_xstream_close(out);
    return text;
}
