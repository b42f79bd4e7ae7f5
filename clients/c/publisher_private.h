/* What the publisher's thread and its callers share. SPDX-License-Identifier: MIT */
#ifndef EF_PUBLISHER_PRIVATE_H
#define EF_PUBLISHER_PRIVATE_H

#include "../../proto/event.h"
#include "../../proto/limits.h"
#include "eventflow.h"
#include "link.h"

#include <pthread.h>
#include <stdatomic.h>

/* One PUBLISH. */
typedef struct parcel_s {
    struct parcel_s *next;
    uint64_t seq;
    uint64_t first; /* ticket */
    uint32_t count;
    bool is_sent;   /* on this connection */
    bool is_atomic; /* all of it or nothing */
    ef_buf_t body;
} parcel_t;

struct eventflow_publisher_s {
    eventflow_publisher_options_t options;
    char name[EF_NAME_MAX + 1];
    uint8_t session[16];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* room in the outbox, or something was decided */
    int wake;               /* eventfd */
    /* under the lock */
    ef_buf_t gather;
    uint32_t gathered;
    parcel_t *ready; /* closed messages that the thread hasn't taken yet */
    parcel_t *ready_last;
    uint64_t gather_since_us; /* when its first event came */
    uint64_t taken;
    uint64_t decided;  /* tickets up to here */
    size_t held_bytes; /* gather and outbox */
    eventflow_publisher_stats_t stats;
    char refused_code[32]; /* of the first since the last wait, or empty */
    char refused_text[256];
    bool is_stopping;
    bool is_awake;        /* no wake-up needed */
    uint32_t unconfirmed; /* events sent */
    /* the thread's own */
    ef_link_t link;
    parcel_t *outbox;
    parcel_t *outbox_last;
    parcel_t *unsent; /* the first of the outbox that isn't sent */
    uint64_t next_seq;
    uint64_t heard;
    uint32_t window;
    _Atomic uint32_t max_event; /* as WELCOME says, the default until then */
    _Atomic uint32_t max_message;
    uint32_t heartbeat_ms;
    bool is_welcome;
    ef_buf_t header;
    zmq_msg_t frames[2];
};

/* Wakes the thread. */
void publisher_wake (eventflow_publisher_t *self);
/* With the lock held: would a message of what was gathered go now? */
bool publisher_is_ripe (const eventflow_publisher_t *self);
/* With the lock held: makes a message of what was gathered. */
void publisher_close (eventflow_publisher_t *self, bool is_atomic);

#endif
