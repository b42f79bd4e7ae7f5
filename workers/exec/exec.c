/* The handler exec: commands for events. SPDX-License-Identifier: MIT

   Role: its settings, and the one of the ways that they ask for. It is also the last to whom
   something comes that a command has started: what isn't its own child is ended and reaped. */
#include "exec.h"
#include "../../proto/limits.h"
#include "child.h"
#include "strays.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#define HOUR      3600000.0
#define STRAYS_MS 1000 /* between two looks for what was left behind */
#define SPAWN_MS  1000 /* before an event comes again that no command could be started for */

typedef struct {
    exec_way_t way;
    plan_t *plan;             /* owned, as those below */
    oneshot_t *oneshot;       /* one of them */
    persistent_t *persistent; /* is NULL */
    uint64_t strays_ms;       /* when to look again */
} exec_t;

#define ROW(member) FIELD (exec_options_t, member)
static const setting_t s_rows[] = {
    {"command", &config_text, ROW (plan.command), 0, 0, NULL, true,
     "run by /bin/sh where no words follow --"},
    {"whole", &config_boolean, ROW (is_whole), 0, 0, NULL, true,
     "the command reads the whole event, not the payload alone"},
    {"result", &config_boolean, ROW (keeps_result), 0, 0, NULL, true,
     "what it prints is kept with its event"},
    {"emit", &config_boolean, ROW (emits), 0, 0, NULL, true,
     "what it prints is events, a line of JSON each, accepted with the acknowledgement"},
    {"persistent", &config_boolean, ROW (is_persistent), 0, 0, NULL, true,
     "a child takes many events and answers each on standard output"},
    {"format", &config_choice, ROW (format), 0, 0, "json|msgpack", true,
     "of what a persistent child reads and writes"},
    {"children", &config_number, ROW (children), 0, EXEC_CHILDREN_MAX, NULL, true,
     "that run at once; 0: one for each event, or batch, in hand"},
    {"per_child", &config_number, ROW (per_child), 0, EF_CREDIT_MAX, NULL, true,
     "events in hand of a persistent child; 0: shared evenly"},
    {"max_events", &config_number, ROW (max_events), 0, 1e9, NULL, true,
     "a persistent child is replaced after so many; 0: never"},
    {"batch", &config_number, ROW (batch), 0, EF_CREDIT_MAX, NULL, true,
     "so many events at the most share a command, a line each; 0: a command for each"},
    {"answers", &config_boolean, ROW (has_answers), 0, 0, NULL, true,
     "a batch is answered event by event, as by a persistent child"},
    {"chdir", &config_text, ROW (plan.directory), 0, 0, NULL, true, "where it runs"},
    {"user", &config_text, ROW (plan.user), 0, 0, NULL, true,
     "NAME or NAME:GROUP, as whom it runs; for root alone"},
    {"env", &plan_variable, ROW (plan.variables), 0, 0, NULL, true,
     "NAME=VALUE in its environment; several: again"},
    {"clear_env", &config_boolean, ROW (plan.clears_environment), 0, 0, NULL, true,
     "nothing else is in its environment but what tells of the event"},
    {"cpu", &config_duration, ROW (plan.cpu_ms), 0, 24 * HOUR, NULL, true,
     "processor time of each of its processes, in whole seconds; 0: no bound, as below"},
    {"memory", &config_size, ROW (plan.memory_bytes), 0, 1e15, NULL, true,
     "address space of each of them"},
    {"files", &config_number, ROW (plan.files), 0, 1 << 30, NULL, true,
     "descriptors that each may have open"},
    {"nice", &config_number, ROW (plan.nice), 0, 19, NULL, true, "how far it stands back"},
};
static const settings_t s_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

static int
s_words (void *arg, char *const *words, char error[512]) {
    exec_options_t *options = arg;
    (void)error;
    options->plan.words = words[0] ? words : NULL;
    return 0;
}

/* What goes with what. */
static int
s_check (const void *arg, char error[512]) {
    const exec_options_t *o = arg;
    bool is_shared = o->is_persistent || o->batch > 0;
    const struct {
        bool is_wrong;
        const char *text;
    } rules[] = {
        {o->plan.words == NULL && o->plan.command[0] == '\0',
         "expected a command behind --, or as setting"},
        {o->keeps_result && o->emits, "expected --result or --emit, not both"},
        {o->is_persistent && o->batch, "expected --persistent or --batch, not both"},
        {is_shared && (o->keeps_result || o->emits),
         "--result and --emit are for a command for each event; with --persistent and with --batch "
         "--answers an answer has value and emit"},
        {o->is_whole && (o->is_persistent || o->has_answers),
         "--whole is for commands that answer by exit status; the others get whole events anyway"},
        {o->has_answers && o->batch == 0, "--answers needs --batch"},
        {o->children && !is_shared, "--children needs --persistent or --batch"},
        {(o->per_child || o->max_events || o->format) && !o->is_persistent,
         "--per-child, --max-events and --format need --persistent"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (rules[i].is_wrong) {
            snprintf (error, 512, "%s", rules[i].text);
            return -1;
        }
    }
    return 0;
}

static void
s_destroy (void **self_p) {
    exec_t *self = *self_p;
    oneshot_destroy (&self->oneshot);
    persistent_destroy (&self->persistent);
    plan_destroy (&self->plan);
    close (self->way.epoll);
    (void)strays_end (NULL, 0); /* those of a launcher that was killed a moment ago */
    free (self);
    *self_p = NULL;
}

static void *
s_create (const void *options, runtime_t *runtime, char error[512]) {
    exec_t *self = calloc (1, sizeof *self);
    void *arg = self;
    ef_assert (self != NULL);
    const exec_options_t *own = options;
    self->plan = plan_new (&own->plan, error);
    self->way = (exec_way_t){own, runtime, self->plan, epoll_create1 (EPOLL_CLOEXEC)};
    ef_assert (self->way.epoll >= 0);
    (void)prctl (PR_SET_CHILD_SUBREAPER, 1); /* else strays go further up */
    bool is_shared = own->is_persistent || own->batch > 0;
    if (self->plan && is_shared) {
        self->persistent = persistent_new (&self->way, error);
    } else if (self->plan && runtime_concurrency (runtime) > EXEC_CHILDREN_MAX) {
        snprintf (error, 512, "expected a concurrency of at most %d: each event has a command",
                  EXEC_CHILDREN_MAX);
    } else if (self->plan) {
        self->oneshot = oneshot_new (&self->way);
    }
    if (self->oneshot == NULL && self->persistent == NULL) {
        s_destroy (&arg);
    }
    return arg;
}

eventflow_result_t
exec_explain_unreadable (const exec_way_t *way) {
    eventflow_answer_t words = {
        .code = "UNREADABLE", .text = "the payload has no JSON form", .retry_ms = -1};
    runtime_explain (way->runtime, &words);
    return EVENTFLOW_DEAD;
}

/* Too many processes or descriptors, no memory: the event can't help it, and others may have room.
 */
eventflow_result_t
exec_explain_spawn (const exec_way_t *way, int error) {
    char text[200];
    snprintf (text, sizeof text, "can't start a command: %s", strerror (-error));
    eventflow_answer_t words = {.code = "SPAWN", .text = text, .retry_ms = SPAWN_MS};
    runtime_explain (way->runtime, &words);
    runtime_unhealthy (way->runtime, text); /* until the next probe */
    return EVENTFLOW_RELEASE;
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    exec_t *self = arg;
    return self->oneshot ? oneshot_handle (self->oneshot, delivery)
                         : persistent_handle (self->persistent, delivery);
}

static void
s_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    exec_t *self = arg;
    if (self->oneshot) {
        oneshot_stop (self->oneshot, tag, reason);
    } else {
        persistent_stop (self->persistent, tag, reason);
    }
}

static nfds_t
s_polls (void *arg, struct pollfd *items, nfds_t most, int *timeout_ms) {
    exec_t *self = arg;
    ef_assert (most > 0);
    if (self->oneshot) {
        oneshot_lower (self->oneshot, timeout_ms);
    } else {
        persistent_lower (self->persistent, timeout_ms);
    }
    items[0] = (struct pollfd){self->way.epoll, POLLIN, 0};
    return 1;
}

static void
s_end_strays (exec_t *self) {
    pid_t pids[2 * EXEC_CHILDREN_MAX];
    size_t most = sizeof pids / sizeof *pids;
    size_t count = self->oneshot ? oneshot_children (self->oneshot, pids, most)
                                 : persistent_children (self->persistent, pids, most);
    (void)strays_end (pids, count); /* what is still there goes next time */
}

static void
s_step (void *arg) {
    exec_t *self = arg;
    uint64_t now = ef_mono_ms ();
    child_look (self->way.epoll);
    if (self->oneshot) {
        oneshot_step (self->oneshot);
    } else {
        persistent_step (self->persistent);
    }
    if (now >= self->strays_ms) {
        self->strays_ms = now + STRAYS_MS;
        s_end_strays (self);
    }
}

static void
s_flush (void *arg) {
    exec_t *self = arg;
    if (self->persistent) {
        persistent_flush (self->persistent);
    }
}

static void
s_probe (void *arg) {
    exec_t *self = arg;
    if (self->persistent) {
        persistent_probe (self->persistent);
    } else {
        runtime_healthy (self->way.runtime);
    }
}

static const char s_help[] =
    "The command reads the payload as JSON on standard input (--whole: the whole event) and finds\n"
    "EVENTFLOW_ID, _TOPIC, _TYPE, _KEY, _USER, _DOWNSTREAM, _ATTEMPT, _TAG and _DEADLINE in its\n"
    "environment. Its exit status is the answer: 0 done, 75 try again, 65 never again; anything\n"
    "else: try again, with the status and the end of standard error kept in the event's history.\n"
    "--persistent: a child takes many events, a line of JSON each on standard input:\n"
    "  {\"tag\": 17, \"attempt\": 1, \"event\": {...}}\n"
    "and answers on standard output, in any order, with flushed lines such as\n"
    "  {\"tag\": 17, \"result\": \"done\"}\n"
    "result is done, retry, dead or release; with it may come code, text, trace, retry (ms), "
    "value\n"
    "(kept with a done event), emit (events accepted with it) and downstream. {\"cancel\": 17} "
    "says\n"
    "that nobody wants that one any more. At the end of its input it ends. --batch N: a command\n"
    "has up to N events, a line each, and its exit status answers for all of them; --answers: it\n"
    "writes answers as a persistent child does, and 0 is no answer for those that got none.\n"
    "An event that is taken away or takes too long ends its command and all that it started: "
    "TERM,\n"
    "5 s later KILL. What a command leaves behind when it ends is killed.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker exec --topic email -- ./send-mail.sh\n"
    "  eventflow-worker exec --topic db --concurrency 10 --timeout 5s -- sh -c 'cat >> "
    "events.jsonl'\n"
    "  eventflow-worker exec --topic api --persistent --children 2 --concurrency 100 -- "
    "./handler.py\n"
    "  eventflow-worker exec --topic db --concurrency 500 --batch 500 -- ./load.sh\n"
    "  eventflow-worker exec --topic api --user nobody --memory 512MiB --cpu 10s -- ./untrusted\n";

const handler_t handler_exec = {
    .name = "exec",
    .summary = "runs a command for every event, or hands many events to one",
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
    .flush = s_flush,
    .probe = s_probe,
};
