/* Plays a machine that has as many processor cores as PLAYED_CORES says.

   Loaded with LD_PRELOAD, it answers for the C library when a program asks for the number of
   cores, or which of them it may run on. OpenMP, OpenBLAS, Arrow and Python all ask there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cores(void) {
    const char *text = getenv("PLAYED_CORES");
    return text ? atoi(text) : 1;
}

static int fill(size_t size, cpu_set_t *set) {
    memset(set, 0, size);
    for (int core = 0; core < cores(); core++) CPU_SET_S(core, size, set);
    return 0;
}

long sysconf(int name) {
    static long (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "sysconf");
    return name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF ? cores() : real(name);
}

int get_nprocs(void) { return cores(); }

int get_nprocs_conf(void) { return cores(); }

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
    (void)process;
    return fill(size, set);
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set) {
    (void)thread;
    return fill(size, set);
}
