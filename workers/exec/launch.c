/* eventflow-launch: stands between a worker and a command. SPDX-License-Identifier: MIT

   usage: eventflow-launch PARENT [NAME=VALUE]... -- COMMAND [ARGUMENT]...
     chdir=DIRECTORY  user=UID:GID[:GROUP,...]  cpu=SECONDS  memory=BYTES  files=COUNT  nice=N

   Role: starts the command in a process group of its own, within its limits and as its user, waits
   for it, ends what it left behind, and then ends as the command did: with its exit status, or by
   its signal. TERM is passed on to the command's group; USR1 kills everything below at once, and so
   does the death of the worker PARENT: nothing that a worker started outlives it, whatever killed
   it. Killed itself, it takes the command along, and the worker ends the rest.
   Invariants: it is the subreaper of everything that the command starts, so nothing leaves it by a
   daemon's way. It links nothing but the C library: one runs for every command, and starting the
   worker's own program, with all its libraries, costs ten times as much. */
#include "strays.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define GROUPS_MAX    256
#define END_ROUNDS    500 /* of 10 ms: what can't be killed for so long goes to the worker */
#define ROUND_NS      10000000
#define STATUS_FAILED 127 /* as a shell has it: the command can't be run */

typedef struct {
    const char *directory; /* NULL: the worker's */
    const char *user;      /* UID:GID:GROUP,...; NULL: the worker's */
    const char *nice;      /* NULL: the worker's, as those below */
    const char *cpu;       /* seconds */
    const char *memory;    /* bytes of address space */
    const char *files;     /* open at a time */
} plan_t;

static _Noreturn void
s_fail (const char *what) {
    fprintf (stderr, "%s: %s\n", what, strerror (errno));
    _exit (STATUS_FAILED);
}

/* `more`: by how much what kills is above what warns. */
static void
s_limit (int resource, const char *value, rlim_t more) {
    struct rlimit limit;
    if (value == NULL) {
        return;
    }
    if (getrlimit (resource, &limit)) {
        s_fail ("getrlimit");
    }
    rlim_t soft = (rlim_t)strtoull (value, NULL, 10);
    limit.rlim_max = soft + more < limit.rlim_max ? soft + more : limit.rlim_max;
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    if (setrlimit (resource, &limit)) {
        s_fail ("setrlimit");
    }
}

/* Reads the words up to "--"; returns the command behind it. */
static char **
s_read_words (char **words, plan_t *plan) {
    const struct {
        const char *name;
        const char **value;
    } names[] = {{"chdir", &plan->directory}, {"user", &plan->user},     {"nice", &plan->nice},
                 {"cpu", &plan->cpu},         {"memory", &plan->memory}, {"files", &plan->files}};
    for (; *words && strcmp (*words, "--") != 0; words++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            size_t size = strlen (names[i].name);
            if (strncmp (*words, names[i].name, size) == 0 && (*words)[size] == '=') {
                *names[i].value = *words + size + 1;
            }
        }
    }
    return *words ? words + 1 : words;
}

static void
s_become (const char *user) {
    gid_t groups[GROUPS_MAX];
    size_t count = 0;
    char *at;
    uid_t uid = (uid_t)strtoul (user, &at, 10);
    gid_t gid = *at == ':' ? (gid_t)strtoul (at + 1, &at, 10) : (gid_t)-1;
    while ((*at == ':' || *at == ',') && count < GROUPS_MAX) {
        groups[count++] = (gid_t)strtoul (at + 1, &at, 10);
    }
    if (setgroups (count, groups) || setgid (gid) || setuid (uid)) {
        s_fail ("can't change the user");
    }
}

/* In the new process: becomes the command. */
static _Noreturn void
s_run (const plan_t *plan, char **command, pid_t launcher) {
    sigset_t none;
    sigemptyset (&none);
    (void)setpgid (0, 0); /* the launcher does it too: whoever is first */
    if (plan->nice && setpriority (PRIO_PROCESS, 0, atoi (plan->nice))) {
        s_fail ("nice");
    }
    s_limit (RLIMIT_CPU, plan->cpu, 1); /* a second for who heeds SIGXCPU */
    s_limit (RLIMIT_AS, plan->memory, 0);
    s_limit (RLIMIT_NOFILE, plan->files, 0);
    if (plan->user) {
        s_become (plan->user);
    }
    if (plan->directory && chdir (plan->directory)) { /* as far as that user may */
        s_fail (plan->directory);
    }
    /* Behind setuid, which forgets it. */
    if (prctl (PR_SET_PDEATHSIG, SIGKILL) || getppid () != launcher) {
        _exit (STATUS_FAILED); /* the launcher was killed just now */
    }
    (void)sigprocmask (SIG_SETMASK, &none, NULL); /* can't fail with this set */
    execvp (command[0], command);
    s_fail (command[0]);
}

/* Kills everything below and reaps it. */
static void
s_end_all (void) {
    sigset_t child;
    struct timespec round = {0, ROUND_NS};
    sigemptyset (&child);
    sigaddset (&child, SIGCHLD);
    for (unsigned i = 0; i < END_ROUNDS; i++) {
        (void)strays_end (NULL, 0); /* whether one is left, wait says */
        pid_t pid;
        while ((pid = waitpid (-1, NULL, WNOHANG)) > 0) {
        }
        if (pid < 0 && errno == ECHILD) {
            return;
        }
        (void)sigtimedwait (&child, NULL, &round);
    }
}

/* Ends as the command did. */
static _Noreturn void
s_end_as (const siginfo_t *ended) {
    sigset_t all;
    struct rlimit none = {0, 0};
    if (ended->si_code == CLD_EXITED) {
        _exit (ended->si_status);
    }
    (void)setrlimit (RLIMIT_CORE, &none); /* the command may have left its own */
    (void)signal (ended->si_status, SIG_DFL);
    sigfillset (&all);
    (void)raise (ended->si_status);
    (void)sigprocmask (SIG_UNBLOCK, &all, NULL);
    _exit (128 + ended->si_status);
}

/* Reaps what has ended; true: the command is among it, and `ended` says how. */
static bool
s_has_ended (pid_t command, siginfo_t *ended) {
    siginfo_t info;
    for (;;) {
        memset (&info, 0, sizeof info);
        if (waitid (P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid == 0) {
            return false;
        }
        if (info.si_pid == command) {
            (void)kill (-command,
                        SIGKILL); /* not yet reaped, the group's number is still its own */
            *ended = info;
            return true;
        }
        (void)waitpid (info.si_pid, NULL, 0); /* it has ended */
    }
}

static _Noreturn void
s_watch (pid_t command, const sigset_t *signals) {
    siginfo_t ended;
    while (!s_has_ended (command, &ended)) {
        switch (sigwaitinfo (signals, NULL)) {
        case SIGTERM:
            (void)kill (-command, SIGTERM); /* gone already is as good */
            break;
        case SIGUSR1:
            (void)kill (-command, SIGKILL);
            s_end_all ();
            _exit (128 + SIGKILL);
        default: break;
        }
    }
    s_end_all ();
    s_end_as (&ended);
}

int
main (int argc, char **argv) {
    plan_t plan = {0};
    sigset_t signals;
    sigemptyset (&signals);
    sigaddset (&signals, SIGCHLD);
    sigaddset (&signals, SIGTERM);
    sigaddset (&signals, SIGUSR1);
    (void)sigprocmask (SIG_BLOCK, &signals, NULL); /* can't fail with this set */
    char **command = s_read_words (argv + (argc < 2 ? argc : 2), &plan);
    if (*command == NULL) {
        fputs ("usage: eventflow-launch PARENT [NAME=VALUE]... -- COMMAND [ARGUMENT]...\n", stderr);
        return 2;
    }
    if (prctl (PR_SET_PDEATHSIG, SIGUSR1) || prctl (PR_SET_CHILD_SUBREAPER, 1) ||
        getppid () != (pid_t)atoi (argv[1])) {
        return STATUS_FAILED; /* the worker died first; its events go to another one */
    }
    pid_t launcher = getpid ();
    pid_t pid = fork ();
    if (pid < 0) {
        s_fail ("fork");
    }
    if (pid == 0) {
        s_run (&plan, command, launcher);
    }
    (void)setpgid (pid, pid); /* too late is as good: it did it itself */
    for (int file = 0; file <= STDERR_FILENO; file++) {
        close (file); /* they are the command's alone: who closes its input, closes it */
    }
    s_watch (pid, &signals);
}
