/* What the monitor sends by HTTP and mail. SPDX-License-Identifier: MIT */
#include "sender.h"
#include "../../broker/base/log.h"
#include "../../proto/event.h"
#include "../../workers/transfers.h"
#include "options.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CONNECTIONS  16
#define TIMEOUT_MS   10000
#define CONNECT_MS   3000
#define BACKOFF_MS   1000
#define BACKOFF_CAP  60000
#define ANSWER_BYTES 300 /* of an error's text that are kept */
#define TURN_MS      60000

typedef struct job_s {
    struct job_s *next;
    sender_t *sender;
    sender_job_t job; /* its texts are in `texts` */
    char *texts;      /* owned */
    CURL *curl;       /* NULL: it waits */
    struct curl_slist *headers;
    struct curl_slist *recipients;
    size_t read; /* of a mail's body */
    uint64_t due_ms;
    uint32_t tried;
    char answer[ANSWER_BYTES + 1];
    size_t answer_bytes;
    char reason[CURL_ERROR_SIZE];
} job_t;

struct sender_s {
    pthread_mutex_t lock; /* new jobs, numbers */
    pthread_t thread;
    bool is_running;
    bool is_stopping;
    uint64_t end_ms; /* when what is left is given up */
    int wake;        /* eventfd */
    transfers_t *transfers;
    job_t *fresh; /* newest first */
    job_t *jobs;  /* the thread's, in order of coming */
    uint32_t count;
    sender_numbers_t numbers;
};

static void
s_free_curl (job_t *self) {
    if (self->curl) {
        curl_easy_cleanup (self->curl);
        self->curl = NULL;
    }
    curl_slist_free_all (self->headers);
    curl_slist_free_all (self->recipients);
    self->headers = NULL;
    self->recipients = NULL;
}

static void
s_free_job (job_t *self) {
    s_free_curl (self);
    ef_buf_free (&self->job.body);
    free (self->texts);
    free (self);
}

/* All texts of a job in one block of memory. */
static void
s_keep_texts (job_t *self) {
    sender_job_t *job = &self->job;
    const char **texts[] = {&job->kind, &job->url,      &job->header,    &job->type,
                            &job->user, &job->password, &job->mail_from, &job->mail_to};
    const size_t count = sizeof texts / sizeof texts[0];
    size_t size = 1;
    for (size_t i = 0; i < count; i++) {
        size += *texts[i] ? strlen (*texts[i]) + 1 : 0;
    }
    char *at = self->texts = malloc (size);
    ef_assert (at != NULL);
    for (size_t i = 0; i < count; i++) {
        if (*texts[i]) {
            size = strlen (*texts[i]) + 1;
            memcpy (at, *texts[i], size);
            *texts[i] = at;
            at += size;
        }
    }
}

int
sender_send (sender_t *self, sender_job_t *job) {
    job_t *item = calloc (1, sizeof *item);
    ef_assert (item != NULL);
    item->sender = self;
    item->job = *job;
    memset (&job->body, 0, sizeof job->body);
    s_keep_texts (item);
    pthread_mutex_lock (&self->lock);
    bool is_full = self->count >= SENDER_JOBS_MAX || self->is_stopping;
    if (!is_full) {
        item->next = self->fresh;
        self->fresh = item;
        self->count++;
    }
    pthread_mutex_unlock (&self->lock);
    if (is_full) {
        ef_log_limited (EF_LOG_WARNING, "send.full", "kind=%s", item->job.kind);
        s_free_job (item);
        return -1;
    }
    uint64_t one = 1;
    (void)!write (self->wake, &one, sizeof one); /* full: it is awake */
    return 0;
}

static size_t
s_keep_answer (char *bytes, size_t size, size_t count, void *arg) {
    job_t *self = arg;
    size_t bytes_count = size * count;
    size_t room = ANSWER_BYTES - self->answer_bytes;
    size_t kept = bytes_count < room ? bytes_count : room;
    for (size_t i = 0; i < kept; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        self->answer[self->answer_bytes++] = byte < ' ' || byte == '"' ? ' ' : (char)byte;
    }
    self->answer[self->answer_bytes] = '\0';
    return bytes_count;
}

static size_t
s_read_mail (char *bytes, size_t size, size_t count, void *arg) {
    job_t *self = arg;
    size_t left = self->job.body.size - self->read;
    size_t taken = left < size * count ? left : size * count;
    if (taken > 0) {
        memcpy (bytes, self->job.body.data + self->read, taken);
        self->read += taken;
    }
    return taken;
}

static void
s_prepare_http (job_t *self) {
    const sender_job_t *job = &self->job;
    char line[300];
    snprintf (line, sizeof line, "Content-Type: %.250s", job->type);
    self->headers = curl_slist_append (self->headers, line);
    self->headers = curl_slist_append (self->headers, "Expect:");
    if (job->header && job->header[0]) {
        self->headers = curl_slist_append (self->headers, job->header);
    }
    curl_easy_setopt (self->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (self->curl, CURLOPT_HTTPHEADER, self->headers);
    curl_easy_setopt (self->curl, CURLOPT_USERAGENT, "eventflow-monitor/" EF_PROGRAM_VERSION);
    curl_easy_setopt (self->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->body.size);
    curl_easy_setopt (self->curl, CURLOPT_POSTFIELDS, job->body.size ? (char *)job->body.data : "");
}

static void
s_prepare_mail (job_t *self) {
    const sender_job_t *job = &self->job;
    for (const char *at = job->mail_to; *at;) {
        char address[300];
        size_t size = strcspn (at, ", ");
        if (size > 0 && size < sizeof address) {
            snprintf (address, sizeof address, "%.*s", (int)size, at);
            self->recipients = curl_slist_append (self->recipients, address);
        }
        at += size + (at[size] != '\0');
    }
    curl_easy_setopt (self->curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt (self->curl, CURLOPT_MAIL_FROM, job->mail_from);
    curl_easy_setopt (self->curl, CURLOPT_MAIL_RCPT, self->recipients);
    curl_easy_setopt (self->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt (self->curl, CURLOPT_READFUNCTION, s_read_mail);
    curl_easy_setopt (self->curl, CURLOPT_READDATA, self);
    curl_easy_setopt (self->curl, CURLOPT_USE_SSL,
                      job->mail_tls == MAIL_TLS_REQUIRE ? (long)CURLUSESSL_ALL
                      : job->mail_tls == MAIL_TLS_TRY   ? (long)CURLUSESSL_TRY
                                                        : (long)CURLUSESSL_NONE);
}

static void s_ended (void *arg, CURL *easy, CURLcode code);

static void
s_start (job_t *self) {
    const sender_job_t *job = &self->job;
    self->curl = curl_easy_init ();
    ef_assert (self->curl != NULL);
    self->read = 0;
    self->answer_bytes = 0;
    self->answer[0] = '\0';
    self->reason[0] = '\0';
    curl_easy_setopt (self->curl, CURLOPT_URL, job->url);
    curl_easy_setopt (self->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (self->curl, CURLOPT_TIMEOUT_MS,
                      (long)(job->timeout_ms ? job->timeout_ms : TIMEOUT_MS));
    curl_easy_setopt (self->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt (self->curl, CURLOPT_ERRORBUFFER, self->reason);
    curl_easy_setopt (self->curl, CURLOPT_WRITEFUNCTION, s_keep_answer);
    curl_easy_setopt (self->curl, CURLOPT_WRITEDATA, self);
    if (job->user && job->user[0]) {
        curl_easy_setopt (self->curl, CURLOPT_USERNAME, job->user);
        curl_easy_setopt (self->curl, CURLOPT_PASSWORD, job->password ? job->password : "");
    }
    if (job->type) {
        s_prepare_http (self);
    } else {
        s_prepare_mail (self);
    }
    self->tried++;
    if (transfers_start (self->sender->transfers, self->curl, s_ended, self)) {
        s_ended (self, self->curl, CURLE_FAILED_INIT);
    }
}

/* What will be answered the same however often it is asked. */
static bool
s_is_final (const sender_job_t *job, long status) {
    return job->type ? status >= 400 && status < 500 && status != 408 && status != 429
                     : status >= 500 && status < 600;
}

static uint64_t
s_backoff (const job_t *self, uint32_t retry_after_s) {
    uint64_t wait_ms = (uint64_t)BACKOFF_MS << (self->tried < 10 ? self->tried - 1 : 10);
    wait_ms = wait_ms < BACKOFF_CAP ? wait_ms : BACKOFF_CAP;
    return retry_after_s * 1000ull > wait_ms ? retry_after_s * 1000ull : wait_ms;
}

static void
s_remove (sender_t *self, job_t *job) {
    job_t **place = &self->jobs;
    while (*place != job) {
        place = &(*place)->next;
    }
    *place = job->next;
    s_free_job (job);
    pthread_mutex_lock (&self->lock);
    self->count--;
    pthread_mutex_unlock (&self->lock);
}

static void
s_count (sender_t *self, bool is_good, bool is_over) {
    pthread_mutex_lock (&self->lock);
    self->numbers.sent += is_good;
    self->numbers.failed += !is_good;
    self->numbers.given_up += !is_good && is_over;
    pthread_mutex_unlock (&self->lock);
}

/* A try is over. */
static void
s_ended (void *arg, CURL *easy, CURLcode code) {
    job_t *self = arg;
    const sender_job_t *job = &self->job;
    char why[700] = "";
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo (easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo (easy, CURLINFO_RETRY_AFTER, &retry_after);
    uint32_t retry_s = retry_after > 0 ? retry_after < 3600 ? (uint32_t)retry_after : 3600 : 0;
    bool is_good = code == CURLE_OK && (job->type == NULL || (status >= 200 && status < 300));
    if (!is_good) {
        snprintf (why, sizeof why, "%ld %.250s %.300s", status,
                  code == CURLE_OK  ? ""
                  : self->reason[0] ? self->reason
                                    : curl_easy_strerror (code),
                  self->answer);
    }
    bool goes_on = !is_good && self->tried < job->tries && !s_is_final (job, status);
    if (job->ended) {
        goes_on = job->ended (job->arg, status, why, retry_s) && !is_good;
    }
    s_free_curl (self);
    s_count (self->sender, is_good, !goes_on);
    if (!is_good) {
        ef_log_limited (goes_on ? EF_LOG_INFO : EF_LOG_WARNING,
                        goes_on ? "send.failed" : "send.given_up", "kind=%s tried=%u error=\"%s\"",
                        job->kind, self->tried, why);
    }
    if (goes_on) {
        self->due_ms = ef_mono_ms () + s_backoff (self, retry_s);
    } else {
        s_remove (self->sender, self);
    }
}

/* Takes what is new, behind what is there; true: it is to stop. */
static bool
s_take (sender_t *self) {
    pthread_mutex_lock (&self->lock);
    job_t *fresh = self->fresh;
    self->fresh = NULL;
    bool is_stopping = self->is_stopping;
    pthread_mutex_unlock (&self->lock);
    job_t *ordered = NULL;
    while (fresh) {
        job_t *next = fresh->next;
        fresh->next = ordered;
        ordered = fresh;
        fresh = next;
    }
    job_t **end = &self->jobs;
    while (*end) {
        end = &(*end)->next;
    }
    *end = ordered;
    return is_stopping;
}

static uint64_t
s_start_due (sender_t *self, uint64_t now) {
    uint64_t next_ms = now + TURN_MS;
    for (job_t *job = self->jobs; job;) {
        job_t *following = job->next; /* a start that fails removes it */
        if (job->curl == NULL && job->due_ms <= now) {
            s_start (job);
        } else if (job->curl == NULL && job->due_ms < next_ms) {
            next_ms = job->due_ms;
        }
        job = following;
    }
    return next_ms;
}

static void
s_turn (sender_t *self, uint64_t now, uint64_t next_ms) {
    struct pollfd items[2] = {{self->wake, POLLIN, 0}};
    int timeout_ms = next_ms > now ? (int)(next_ms - now) : 0;
    nfds_t count = 1 + transfers_polls (self->transfers, items + 1, 1, &timeout_ms);
    (void)poll (items, count, timeout_ms);
    if (items[0].revents) {
        uint64_t value;
        (void)!read (self->wake, &value,
                     sizeof value); /* nothing there: it is awake all the same */
    }
    transfers_step (self->transfers);
}

static void *
s_run (void *arg) {
    sender_t *self = arg;
    while (true) {
        bool is_stopping = s_take (self);
        uint64_t now = ef_mono_ms ();
        uint64_t next_ms = s_start_due (self, now);
        if (is_stopping && (transfers_count (self->transfers) == 0 || now >= self->end_ms)) {
            break;
        }
        next_ms = is_stopping && self->end_ms < next_ms ? self->end_ms : next_ms;
        s_turn (self, now, next_ms);
    }
    while (self->jobs) {
        job_t *job = self->jobs;
        self->jobs = job->next;
        if (job->curl) {
            transfers_stop (self->transfers, job->curl);
        }
        s_free_job (job);
    }
    return NULL;
}

sender_t *
sender_new (char error[512]) {
    sender_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_mutex_init (&self->lock, NULL);
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->transfers = transfers_new (CONNECTIONS);
    int rc = self->wake < 0 ? errno : self->transfers == NULL ? ENOMEM : 0;
    rc = rc ? rc : pthread_create (&self->thread, NULL, s_run, self);
    self->is_running = rc == 0;
    if (rc) {
        snprintf (error, 512, "the sender can't start: %s", strerror (rc));
        sender_destroy (&self, 0);
    }
    return self;
}

void
sender_destroy (sender_t **self_p, uint32_t grace_ms) {
    sender_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    if (self->is_running) {
        uint64_t one = 1;
        pthread_mutex_lock (&self->lock);
        self->is_stopping = true;
        self->end_ms = ef_mono_ms () + grace_ms;
        pthread_mutex_unlock (&self->lock);
        (void)!write (self->wake, &one, sizeof one);
        pthread_join (self->thread, NULL);
    }
    while (self->fresh) {
        job_t *job = self->fresh;
        self->fresh = job->next;
        s_free_job (job);
    }
    transfers_destroy (&self->transfers);
    if (self->wake >= 0) {
        close (self->wake);
    }
    pthread_mutex_destroy (&self->lock);
    free (self);
    *self_p = NULL;
}

void
sender_numbers (sender_t *self, sender_numbers_t *numbers) {
    pthread_mutex_lock (&self->lock);
    *numbers = self->numbers;
    numbers->waiting = self->count;
    pthread_mutex_unlock (&self->lock);
}
