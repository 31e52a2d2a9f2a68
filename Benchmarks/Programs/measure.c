/* Runs a command and appends one line to a file:
 *
 *   seconds maximum-RSS-KiB arena-RSS-KiB exit-status
 *
 * seconds: wall clock. maximum RSS: what wait4 reports. arena RSS: the resident part of the
 * command's largest writable private mapping, which in Penumbra is the modelled machine's memory,
 * as /proc/PID/smaps last showed it; looked at twice a second.
 *
 * Usage: measure FILE COMMAND [ARGUMENT…]
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* The resident KiB of the largest mapping, or -1 where it cannot be told. */
static long arena(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    long size = 0, largest = 0, value, resident = -1;
    int writable = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long from, to;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) == 3)
            writable = strcmp(rights, "rw-p") == 0;
        else if (sscanf(line, "Size: %ld", &value) == 1)
            size = value;
        else if (writable && size > largest && sscanf(line, "Rss: %ld", &value) == 1) {
            largest = size;
            resident = value;
        }
    }
    fclose(file);
    return resident;
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: measure FILE COMMAND [ARGUMENT...]\n");
        return 64;
    }
    double start = now();
    pid_t pid = fork();
    if (pid < 0) {
        perror("measure");
        return 1;
    }
    if (pid == 0) {
        execvp(arguments[2], arguments + 2);
        perror(arguments[2]);
        _exit(127);
    }
    struct rusage usage;
    int status;
    long resident = 0;
    double looked = start;
    while (wait4(pid, &status, WNOHANG, &usage) == 0) {
        usleep(5000);
        if (now() - looked < 0.5) continue;
        looked = now();
        long found = arena(pid);
        if (found > resident) resident = found;
    }
    double seconds = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *file = fopen(arguments[1], "a");
    if (!file) {
        perror(arguments[1]);
        return 1;
    }
    fprintf(file, "%.3f %ld %ld %d\n", seconds, usage.ru_maxrss, resident, code);
    fclose(file);
    return code;
}
