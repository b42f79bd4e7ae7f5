/* A command per event. SPDX-License-Identifier: MIT */
#include "exec.h"
#include "../proto/json.h"
#include "../proto/limits.h"
#include "output.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_AFTER_MS 5000 /* between TERM and KILL */
#define VARIABLES     12
#define EXTRA_MS      1000 /* a lease outlasts the command by so much */

typedef struct {
    bool is_used;
    bool is_cancelled; /* nobody wants its result any more */
    bool is_timed_out;
    uint64_t tag;
    pid_t pid;   /* and process group */
    int process; /* pidfd */
    int input;   /* its standard input, -1: closed */
    int errors;  /* its standard error, -1: closed */
    int output;  /* its standard output, -1: closed, or the worker's own */
    output_t written_out;
    ef_buf_t bytes; /* for its standard input */
    size_t written;
    char tail[EF_TRACE_MAX]; /* the end of its standard error */
    size_t tail_size;
    uint64_t kill_ms; /* 0: not told to end yet */
} slot_t;

typedef struct {
    char *const *command; /* argv, NULL at the end; borrowed */
    bool is_whole;        /* the event's JSON form in place of its payload */
    bool is_result;       /* what it prints is kept with its event */
    bool is_emit;         /* what it prints is events */
} exec_options_t;

typedef struct {
    const exec_options_t *options; /* borrowed */
    runtime_t *runtime;            /* borrowed */
    output_kind_t output;
    size_t command_words;
    uint32_t concurrency;
    slot_t *slots; /* owned, `concurrency` of them */
} exec_t;

extern char **environ;

#define ROW(member) FIELD (exec_options_t, member)
static const setting_t s_rows[] = {
    {"whole", &config_boolean, ROW (is_whole), 0, 0, NULL, true,
     "the command reads the whole event, not the payload alone"},
    {"result", &config_boolean, ROW (is_result), 0, 0, NULL, true,
     "what it prints is kept with its event"},
    {"emit", &config_boolean, ROW (is_emit), 0, 0, NULL, true,
     "what it prints is events, a line of JSON each, accepted with the acknowledgement"},
};
static const settings_t s_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

static int
s_words (void *arg, char *const *words, char error[512]) {
    exec_options_t *options = arg;
    options->command = words;
    if (words[0] == NULL) {
        snprintf (error, 512, "expected a command behind --");
        return -1;
    }
    return 0;
}

static int
s_check (const void *arg, char error[512]) {
    const exec_options_t *options = arg;
    if (options->is_result && options->is_emit) {
        snprintf (error, 512, "expected --result or --emit, not both");
        return -1;
    }
    return 0;
}

static void *
s_create (const void *options, runtime_t *runtime, char error[512]) {
    exec_t *self = calloc (1, sizeof *self);
    (void)error;
    ef_assert (self != NULL);
    self->options = options;
    self->runtime = runtime;
    self->output = self->options->is_result ? OUTPUT_RESULT
                   : self->options->is_emit ? OUTPUT_EVENTS
                                            : OUTPUT_INHERITED;
    while (self->options->command[self->command_words]) {
        self->command_words++;
    }
    self->concurrency = runtime_concurrency (runtime);
    self->slots = calloc (self->concurrency, sizeof *self->slots);
    ef_assert (self->slots != NULL);
    return self;
}

static void
s_close (int *file) {
    if (*file >= 0) {
        close (*file);
        *file = -1;
    }
}

static void
s_free_slot (slot_t *slot) {
    s_close (&slot->input);
    s_close (&slot->errors);
    s_close (&slot->output);
    s_close (&slot->process);
    ef_buf_free (&slot->bytes);
    output_free (&slot->written_out);
    slot->is_used = false;
}

/* What still runs is killed. */
static void
s_destroy (void **self_p) {
    exec_t *self = *self_p;
    for (uint32_t i = 0; i < self->concurrency; i++) {
        slot_t *slot = &self->slots[i];
        if (slot->is_used) {
            (void)kill (-slot->pid, SIGKILL); /* gone already is as good */
            (void)waitpid (slot->pid, NULL, 0);
            s_free_slot (slot);
        }
    }
    free (self->slots);
    free (self);
    *self_p = NULL;
}

/* What the command reads: the payload as JSON, or the whole event. */
static int
s_input (const exec_t *self, const eventflow_delivery_t *delivery, ef_buf_t *out) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (delivery->payload.data, delivery->payload.size);
    int rc;
    if (self->options->is_whole) {
        ef_json_extra_t extra = {
            .accepted_ms = delivery->accepted_ms ? delivery->accepted_ms : ef_wall_ms (),
            .attempts = delivery->attempt - 1,
            .errors = {delivery->errors.data, (uint32_t)delivery->errors.size}};
        cursor = ef_cursor (delivery->event.data, delivery->event.size);
        rc = ef_event_read (&cursor, &event, &why) != EF_OK || ef_json_event (out, &event, &extra);
    } else {
        rc = ef_json_print (out, &cursor);
    }
    ef_buf_put (out, "\n", 1);
    return rc;
}

static void
s_variable (char text[VARIABLES][256], uint32_t *count, const char *name, const char *value,
            size_t size) {
    snprintf (text[(*count)++], 256, "EVENTFLOW_%s=%.*s", name, (int)(size < 200 ? size : 200),
              size ? value : "");
}

/* The command's environment: ours and what is known of the event. `said`: the worker's downstream.
 */
static char **
s_environment (const eventflow_delivery_t *delivery, const char *said, char text[VARIABLES][256]) {
    uint32_t count = 0;
    uint32_t inherited = 0;
    char number[24];
    char date[25];
    while (environ[inherited]) {
        inherited++;
    }
    char **list = calloc (inherited + VARIABLES + 1, sizeof *list);
    ef_assert (list != NULL);
    s_variable (text, &count, "ID", delivery->id.data, delivery->id.size);
    s_variable (text, &count, "TOPIC", delivery->topic.data, delivery->topic.size);
    s_variable (text, &count, "TYPE", delivery->type.data, delivery->type.size);
    snprintf (number, sizeof number, "%u", delivery->attempt);
    s_variable (text, &count, "ATTEMPT", number, strlen (number));
    snprintf (number, sizeof number, "%llu", (unsigned long long)delivery->tag);
    s_variable (text, &count, "TAG", number, strlen (number));
    ef_rfc3339 (delivery->deadline_ms ? delivery->deadline_ms : ef_wall_ms () + 30000, date);
    s_variable (text, &count, "DEADLINE", date, 24);
    s_variable (text, &count, "KEY", delivery->key.data, delivery->key.size);
    s_variable (text, &count, "USER", delivery->user.data, delivery->user.size);
    eventflow_bytes_t downstream = delivery->downstream;
    if (downstream.data == NULL && said) {
        downstream = (eventflow_bytes_t){said, strlen (said)};
    }
    s_variable (text, &count, "DOWNSTREAM", downstream.data, downstream.size);
    uint32_t at = 0;
    for (; at < count; at++) {
        list[at] = text[at];
    }
    for (uint32_t i = 0; i < inherited; i++) {
        bool is_ours = false;
        for (uint32_t k = 0; k < count; k++) {
            size_t name = strcspn (text[k], "=") + 1;
            is_ours = is_ours || strncmp (environ[i], text[k], name) == 0;
        }
        if (!is_ours) {
            list[at++] = environ[i];
        }
    }
    return list;
}

/* Opens so many pipes, all or none. 0, or -errno. */
static int
s_open_pipes (int pipes[][2], int count) {
    for (int i = 0; i < count; i++) {
        if (pipe2 (pipes[i], O_CLOEXEC)) {
            int error = errno;
            while (i-- > 0) {
                close (pipes[i][0]);
                close (pipes[i][1]);
            }
            return -error;
        }
    }
    return 0;
}

static int
s_spawn (exec_t *self, slot_t *slot, char *const *environment) {
    int pipes[3][2]; /* standard input, error, output */
    bool takes_output = self->output != OUTPUT_INHERITED;
    int opened = s_open_pipes (pipes, takes_output ? 3 : 2);
    if (opened) {
        return opened;
    }
    int *input = pipes[0];
    int *errors = pipes[1];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset (&none);
    sigfillset (&all);
    posix_spawnattr_init (&attributes);
    posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                               POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask (&attributes, &none);
    posix_spawnattr_setsigdefault (&attributes, &all);
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, input[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2 (&actions, errors[1], STDERR_FILENO);
    if (takes_output) {
        posix_spawn_file_actions_adddup2 (&actions, pipes[2][1], STDOUT_FILENO);
    }
    posix_spawn_file_actions_addclosefrom_np (&actions, 3);
    /* By way of this program, which asks to be killed with us and then becomes the command. */
    char parent[24];
    snprintf (parent, sizeof parent, "%d", (int)getpid ());
    char **arguments = calloc (self->command_words + 4, sizeof *arguments);
    ef_assert (arguments != NULL);
    arguments[0] = "eventflow-worker";
    arguments[1] = "--launch";
    arguments[2] = parent;
    memcpy (arguments + 3, self->options->command, self->command_words * sizeof *arguments);
    int rc =
        posix_spawn (&slot->pid, "/proc/self/exe", &actions, &attributes, arguments, environment);
    free (arguments);
    posix_spawn_file_actions_destroy (&actions);
    posix_spawnattr_destroy (&attributes);
    close (input[0]);
    close (errors[1]);
    slot->input = input[1];
    slot->errors = errors[0];
    if (takes_output) {
        close (pipes[2][1]);
        slot->output = pipes[2][0];
        (void)fcntl (slot->output, F_SETFL, O_NONBLOCK); /* as those below */
    }
    slot->process = rc == 0 ? pidfd_open (slot->pid, 0) : -1;
    (void)fcntl (slot->input, F_SETFL, O_NONBLOCK); /* pipes of our own */
    (void)fcntl (slot->errors, F_SETFL, O_NONBLOCK);
    return -rc;
}

void
exec_launch (const char *parent, char *const *command) {
    if (prctl (PR_SET_PDEATHSIG, SIGKILL) || getppid () != (pid_t)atoi (parent)) {
        _exit (127); /* the worker died first; its events go to another one */
    }
    execvp (command[0], command);
    fprintf (stderr, "%s: %s\n", command[0], strerror (errno));
    _exit (127);
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    exec_t *self = arg;
    slot_t *slot = NULL;
    for (uint32_t i = 0; i < self->concurrency && slot == NULL; i++) {
        slot = self->slots[i].is_used ? NULL : &self->slots[i];
    }
    if (slot == NULL) {
        return EVENTFLOW_RELEASE; /* more than our credit: a cancelled one still ends */
    }
    memset (slot, 0, sizeof *slot);
    slot->input = slot->errors = slot->output = slot->process = -1;
    slot->is_used = true;
    slot->tag = delivery->tag;
    if (s_input (self, delivery, &slot->bytes)) {
        eventflow_answer_t words = {
            .code = "UNREADABLE", .text = "the payload has no JSON form", .retry_ms = -1};
        runtime_explain (self->runtime, &words);
        s_free_slot (slot);
        return EVENTFLOW_DEAD;
    }
    char text[VARIABLES][256];
    char **environment = s_environment (delivery, runtime_downstream (self->runtime), text);
    int rc = s_spawn (self, slot, environment);
    free (environment);
    if (rc) {
        char detail[200];
        snprintf (detail, sizeof detail, "%.100s: %s", self->options->command[0], strerror (-rc));
        eventflow_answer_t words = {.code = "SPAWN", .text = detail, .retry_ms = -1};
        runtime_explain (self->runtime, &words);
        s_free_slot (slot);
        return EVENTFLOW_RETRY;
    }
    return EVENTFLOW_LATER;
}

static void
s_tell_end (slot_t *slot, uint64_t now) {
    if (slot->kill_ms == 0) {
        (void)kill (-slot->pid, SIGTERM); /* gone already is as good */
        slot->kill_ms = now + KILL_AFTER_MS;
    }
}

static void
s_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    exec_t *self = arg;
    for (uint32_t i = 0; i < self->concurrency; i++) {
        slot_t *slot = &self->slots[i];
        if (slot->is_used && slot->tag == tag) {
            slot->is_cancelled = reason != STOP_TIMEOUT;
            slot->is_timed_out = reason == STOP_TIMEOUT;
            s_tell_end (slot, ef_mono_ms ());
        }
    }
}

static nfds_t
s_polls (void *arg, struct pollfd *items, nfds_t most, int *timeout_ms) {
    exec_t *self = arg;
    nfds_t count = 0;
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->concurrency && count + 4 <= most; i++) {
        const slot_t *slot = &self->slots[i];
        if (!slot->is_used) {
            continue;
        }
        if (slot->input >= 0) {
            items[count++] = (struct pollfd){slot->input, POLLOUT, 0};
        }
        if (slot->errors >= 0) {
            items[count++] = (struct pollfd){slot->errors, POLLIN, 0};
        }
        if (slot->output >= 0) {
            items[count++] = (struct pollfd){slot->output, POLLIN, 0};
        }
        items[count++] = (struct pollfd){slot->process, POLLIN, 0};
        uint64_t left = slot->kill_ms > now ? slot->kill_ms - now : 0;
        if (slot->kill_ms && left < (uint64_t)*timeout_ms) {
            *timeout_ms = (int)left;
        }
    }
    return count;
}

static void
s_feed (slot_t *slot) {
    while (slot->input >= 0) {
        ssize_t written =
            write (slot->input, slot->bytes.data + slot->written, slot->bytes.size - slot->written);
        if (written < 0 && errno == EAGAIN) {
            return;
        }
        slot->written += written > 0 ? (size_t)written : 0;
        if (written < 0 || slot->written == slot->bytes.size) {
            s_close (&slot->input); /* EPIPE: it doesn't want to read it all */
        }
    }
}

/* Keeps the last bytes of standard error. */
static void
s_listen (slot_t *slot) {
    char bytes[1024];
    ssize_t got;
    while (slot->errors >= 0 && (got = read (slot->errors, bytes, sizeof bytes)) != 0) {
        if (got < 0) {
            return;
        }
        size_t size = (size_t)got;
        size_t most = sizeof slot->tail - 1;
        if (slot->tail_size + size > most) {
            size_t gone = slot->tail_size + size - most;
            gone = gone < slot->tail_size ? gone : slot->tail_size;
            memmove (slot->tail, slot->tail + gone, slot->tail_size - gone);
            slot->tail_size -= gone;
        }
        memcpy (slot->tail + slot->tail_size, bytes, size);
        slot->tail_size += size;
    }
    s_close (&slot->errors);
}

/* Keeps standard output, where it is a part of the answer. */
static void
s_gather (const exec_t *self, slot_t *slot) {
    char bytes[4096];
    ssize_t got;
    while (slot->output >= 0 && (got = read (slot->output, bytes, sizeof bytes)) != 0) {
        if (got < 0) {
            return;
        }
        output_add (&slot->written_out, self->output, bytes, (size_t)got);
    }
    s_close (&slot->output);
}

static void
s_answer (exec_t *self, slot_t *slot, const siginfo_t *info) {
    char text[EF_TEXT_MAX] = "";
    char code[32] = "";
    bool has_exited = info->si_code == CLD_EXITED;
    eventflow_answer_t words = {
        .retry_ms = -1, .text = text, .downstream = runtime_downstream (self->runtime)};
    slot->tail[slot->tail_size] = 0;
    /* The last line says most; the rest is the trace. */
    const char *line = slot->tail;
    for (size_t i = 0; i + 1 < slot->tail_size; i++) {
        line = slot->tail[i] == '\n' ? slot->tail + i + 1 : line;
    }
    snprintf (text, sizeof text, "%.*s", (int)strcspn (line, "\n"), line);
    words.trace = slot->tail_size ? slot->tail : NULL;
    eventflow_result_t result = EVENTFLOW_RETRY;
    if (slot->is_timed_out) {
        words.code = "TIMEOUT";
        if (text[0] == 0) {
            snprintf (text, sizeof text, "the command took too long and was ended");
        }
    } else if (!has_exited) {
        snprintf (code, sizeof code, "SIGNAL_%d", info->si_status);
        words.code = code;
    } else {
        words.number = info->si_status;
        result = info->si_status == 0    ? EVENTFLOW_DONE
                 : info->si_status == 65 ? EVENTFLOW_DEAD
                                         : EVENTFLOW_RETRY;
    }
    const char *why =
        result == EVENTFLOW_DONE ? output_say (&slot->written_out, self->output, &words) : NULL;
    if (why) {
        result = EVENTFLOW_RETRY;
        words.code = "OUTPUT";
        snprintf (text, sizeof text, "standard output: %s", why);
    }
    if (slot->is_cancelled && result != EVENTFLOW_DONE) {
        result = EVENTFLOW_RELEASE; /* its failure is ours, and frees the credit */
    }
    runtime_answer (self->runtime, slot->tag, result, &words);
}

static void
s_step (void *arg) {
    exec_t *self = arg;
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->concurrency; i++) {
        slot_t *slot = &self->slots[i];
        siginfo_t info = {0};
        if (!slot->is_used) {
            continue;
        }
        s_feed (slot);
        s_listen (slot);
        s_gather (self, slot);
        if (slot->kill_ms && now >= slot->kill_ms) {
            (void)kill (-slot->pid, SIGKILL); /* gone already is as good */
            slot->kill_ms = now + KILL_AFTER_MS;
        }
        if (waitid (P_PIDFD, (id_t)slot->process, &info, WEXITED | WNOHANG) == 0 && info.si_pid) {
            s_listen (slot);
            s_gather (self, slot);
            s_answer (self, slot, &info);
            s_free_slot (slot);
        }
    }
}

static const char s_help[] =
    "The command reads the payload as JSON on standard input (--whole: the whole event) and finds\n"
    "EVENTFLOW_ID, _TOPIC, _TYPE, _KEY, _USER, _DOWNSTREAM, _ATTEMPT, _TAG and _DEADLINE in its\n"
    "environment. Its exit status is the answer: 0 done, 75 try again, 65 never again; anything "
    "else:\n"
    "try again, with the status and the end of standard error kept in the event's history. An "
    "event\n"
    "that is taken away or takes too long ends its command's process group: TERM, 5 s later KILL.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker exec --topic email -- ./send-mail.sh\n"
    "  eventflow-worker exec --topic db --concurrency 10 --timeout 5s -- sh -c 'cat >> "
    "events.jsonl'\n";

const handler_t handler_exec = {
    .name = "exec",
    .summary = "runs a command once for every event",
    .help = s_help,
    .settings = &s_settings,
    .options_bytes = sizeof (exec_options_t),
    .words = s_words,
    .check = s_check,
    .create = s_create,
    .destroy = s_destroy,
    .handle = s_handle,
    .stop = s_stop,
    .polls = s_polls,
    .step = s_step,
};
