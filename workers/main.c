/* eventflow-worker: runs a handler for events of a topic. SPDX-License-Identifier: MIT */
#include "../proto/event.h"
#include "exec.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define GRACE_MS 10000

static const char s_help[] =
    "usage: eventflow-worker exec [--topic NAME]... [--concurrency N] [--timeout 30s] [--whole]\n"
    "                             [--result | --emit] [--downstream NAME] [--connect ENDPOINT]\n"
    "                             [--name NAME] -- COMMAND [ARGUMENT]...\n"
    "\n"
    "Runs COMMAND once for every event. It reads the payload as JSON on standard input (--whole: "
    "the\n"
    "whole event) and finds EVENTFLOW_ID, _TOPIC, _TYPE, _KEY, _USER, _DOWNSTREAM, _ATTEMPT, _TAG "
    "and\n"
    "_DEADLINE in its environment.\n"
    "Its exit status is the answer: 0 done, 75 try again, 65 never again; anything else: try "
    "again, with\n"
    "the status and the end of standard error kept in the event's history. An event that is taken "
    "away\n"
    "(cancelled, its lease lost) ends its command by TERM. With --timeout a lease lasts as long as "
    "the\n"
    "command may.\n"
    "--result: what a command prints is kept with its event. --emit: it is events, a line of JSON "
    "each,\n"
    "accepted together with the acknowledgement or not at all. --downstream (or "
    "EVENTFLOW_DOWNSTREAM):\n"
    "the service that the command calls, for the broker's breakers.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker exec --topic email -- ./send-mail.sh\n"
    "  eventflow-worker exec --topic db --concurrency 10 --timeout 5s -- sh -c 'cat >> "
    "events.jsonl'\n"
    "\n"
    "TERM or INT: what runs may finish (10 s), nothing new is begun; a second one: end now\n";

typedef struct {
    const char *topics[64];
    uint32_t topic_count;
    const char *endpoint;
    const char *name;
    exec_options_t exec;
    int signals;
} options_t;

static int
s_usage (const char *text, const char *word) {
    fprintf (stderr, "eventflow-worker: %s%s; see --help\n", text, word);
    return 2;
}

static long
s_duration_ms (const char *text) {
    char *end;
    double number = strtod (text, &end);
    return end == text || number <= 0 ? -1
           : strcmp (end, "ms") == 0  ? (long)number
           : strcmp (end, "s") == 0   ? (long)(number * 1000)
           : strcmp (end, "m") == 0   ? (long)(number * 60000)
                                      : -1;
}

static int
s_read_flags (int argc, char **argv, options_t *options) {
    int i = 2;
    for (; i < argc && strcmp (argv[i], "--") != 0; i++) {
        const char *flag = argv[i];
        bool is_result = strcmp (flag, "--result") == 0;
        if (is_result || strcmp (flag, "--emit") == 0) {
            options->exec.output = is_result ? OUTPUT_RESULT : OUTPUT_EVENTS;
            continue;
        }
        if (strcmp (flag, "--whole") == 0) {
            options->exec.is_whole = true;
            continue;
        }
        const char *value = i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) {
            return s_usage ("this needs a value: ", flag);
        }
        if (strcmp (flag, "--topic") == 0 && options->topic_count < 64) {
            options->topics[options->topic_count++] = value;
        } else if (strcmp (flag, "--concurrency") == 0) {
            options->exec.concurrency = (uint32_t)strtoul (value, NULL, 10);
        } else if (strcmp (flag, "--timeout") == 0) {
            long timeout = s_duration_ms (value);
            if (timeout <= 0) {
                return s_usage ("expected a duration such as 30s: ", value);
            }
            options->exec.timeout_ms = (uint32_t)timeout;
        } else if (strcmp (flag, "--connect") == 0) {
            options->endpoint = value;
        } else if (strcmp (flag, "--downstream") == 0) {
            options->exec.downstream = value;
        } else if (strcmp (flag, "--name") == 0) {
            options->name = value;
        } else {
            return s_usage ("unknown flag ", flag);
        }
    }
    if (i + 1 >= argc) {
        return s_usage ("expected a command behind --", "");
    }
    options->exec.command = argv + i + 1;
    if (options->exec.concurrency == 0) {
        const char *credit = getenv ("EVENTFLOW_CREDIT");
        options->exec.concurrency = credit ? (uint32_t)strtoul (credit, NULL, 10) : 5;
    }
    if (options->exec.concurrency < 1 || options->exec.concurrency > 300) {
        return s_usage ("expected a concurrency of 1 to 300", "");
    }
    return 0;
}

/* Waits for the broker, a child or a signal. Returns a signal's number, or 0. */
static int
s_wait (const options_t *options, eventflow_worker_t *worker, exec_t *exec) {
    struct pollfd items[1300];
    int timeout = 1000;
    nfds_t count = 0;
    int broker = eventflow_worker_fd (worker);
    if (broker >= 0) {
        items[count++] = (struct pollfd){broker, POLLIN, 0};
    } else {
        timeout = 50; /* between two tries to connect */
    }
    items[count++] = (struct pollfd){options->signals, POLLIN, 0};
    count += exec_polls (exec, items + count, 1300 - count, &timeout);
    (void)poll (items, count, timeout); /* however it ends, the loop looks at everything */
    struct signalfd_siginfo info;
    return read (options->signals, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo
                                                                               : 0;
}

/* Returns an exit status. */
static int
s_run (const options_t *options, eventflow_worker_t *worker, exec_t *exec) {
    uint64_t end_ms = 0; /* set once told to stop */
    while (eventflow_worker_step (worker, 0)) {
        const char *code;
        const char *text;
        if (eventflow_worker_refused (worker, &code, &text)) {
            fprintf (stderr, "eventflow-worker: %s: %s\n", code, text);
            return 3;
        }
        exec_step (exec);
        uint64_t now = ef_mono_ms ();
        if (end_ms && (now >= end_ms)) {
            break;
        }
        /* Answers that were made just now go out before sleeping. */
        if (!eventflow_worker_step (worker, 0)) {
            break;
        }
        int number = s_wait (options, worker, exec);
        if (number == SIGTERM || number == SIGINT) {
            if (end_ms) {
                break; /* the second one */
            }
            end_ms = now + GRACE_MS;
            eventflow_worker_drain (worker);
        }
    }
    return 0;
}

int
main (int argc, char **argv) {
    const char *downstream = getenv ("EVENTFLOW_DOWNSTREAM");
    options_t options = {.exec.downstream = downstream && downstream[0] ? downstream : NULL};
    if (argc >= 4 && strcmp (argv[1], "--launch") == 0) {
        exec_launch (argv[2], argv + 3);
    }
    const char *last = argc < 2 ? "" : argc == 2 ? argv[1] : argc == 3 ? argv[2] : "";
    if (argc < 2 || strcmp (last, "--help") == 0 || strcmp (last, "-h") == 0) {
        fputs (s_help, argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp (argv[1], "--version") == 0) {
        printf ("eventflow-worker %s\n", EF_PROGRAM_VERSION);
        return 0;
    }
    if (strcmp (argv[1], "exec") != 0) {
        return s_usage ("expected the handler exec, not ", argv[1]);
    }
    int rc = s_read_flags (argc, argv, &options);
    if (rc) {
        return rc;
    }
    sigset_t wanted;
    sigemptyset (&wanted);
    sigaddset (&wanted, SIGTERM);
    sigaddset (&wanted, SIGINT);
    sigaddset (&wanted, SIGPIPE);                 /* a command that doesn't read its input */
    (void)sigprocmask (SIG_BLOCK, &wanted, NULL); /* can't fail with this set */
    sigdelset (&wanted, SIGPIPE);
    options.signals = signalfd (-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    exec_t *exec = exec_new (&options.exec);
    eventflow_worker_options_t worker_options = {.endpoint = options.endpoint,
                                                 .topics = options.topics,
                                                 .topic_count = options.topic_count,
                                                 .credit = options.exec.concurrency,
                                                 .name = options.name,
                                                 .heartbeat_ms = 2000,
                                                 .handle = exec_handle,
                                                 .cancel = exec_cancel,
                                                 .expiring = exec_expiring,
                                                 .arg = exec};
    eventflow_worker_t *worker = eventflow_worker_new (&worker_options);
    if (worker == NULL) {
        exec_destroy (&exec);
        return s_usage ("expected --topic, or EVENTFLOW_TOPIC", "");
    }
    exec_set_worker (exec, worker);
    rc = s_run (&options, worker, exec);
    eventflow_worker_destroy (&worker); /* says BYE: what didn't finish goes back uncounted */
    exec_terminate (exec, SIGTERM);
    exec_destroy (&exec);
    return rc;
}
