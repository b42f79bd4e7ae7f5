/* The dead-letter actor's inside. SPDX-License-Identifier: MIT */
#ifndef EF_DEAD_PRIVATE_H
#define EF_DEAD_PRIVATE_H

#include "dead_letters.h"

#define EF_RETURNS_MAX    4  /* moves back under way a topic */
#define EF_RETURN_LETTERS 64 /* in one move */
#define EF_RETURN_BYTES   (1u << 20)

/* Letters that somebody asked to be replayed or purged and that have not been offered yet. */
typedef struct {
    uint64_t *m; /* owned */
    uint32_t count;
    uint32_t next; /* first not offered */
    bool purge;
    uint32_t rate;    /* letters a second, 0: at once */
    uint64_t next_ms; /* when the next may go */
} dead_task_t;

typedef struct {
    char topic[EF_TOPIC_NAME_BYTES];
    ef_dead_log_t *log; /* owned */
    uint64_t told_m;
    uint64_t offered_b; /* the last one that was offered */
    uint32_t offered;   /* moves back under way */
    dead_task_t *tasks; /* owned */
    uint32_t task_count;
} dead_topic_t;

struct ef_dead_letters_s {
    ef_actor_t actor;
    char path[1200];
    dead_topic_t *topics; /* owned */
    uint32_t topic_count;
    ef_dead_message_t *unsent; /* owned queue: found the ring out full */
    ef_dead_message_t *unsent_last;
    ef_dead_message_t *deferred; /* owned queue: letters that a full disk has no place for yet */
    ef_dead_message_t *deferred_last;
    ef_storage_t *storage; /* owned: of `path`, for the reserve */
    int reserve;           /* file, -1: there is none */
    uint64_t reserve_bytes;
    bool is_stuck;        /* the disk is full and so is the reserve's end */
    _Atomic bool is_held; /* nothing goes back to the main journal, which lacks space */
    _Atomic int failed;
};

/* dead_space.c: the one reserve of all dead-letter journals */
void dead_reserve_open (ef_dead_letters_t *self);
bool dead_reserve_use (ef_dead_letters_t *self); /* frees a part of it. False: nothing is left */
void dead_reserve_refill (ef_dead_letters_t *self);
void dead_reserve_close (ef_dead_letters_t *self);

/* Makes what was handed in durable and tells so. False: not now, the disk is full, or it failed. */
bool dead_commit (ef_dead_letters_t *self, dead_topic_t *topic);
dead_topic_t *dead_topic_find (ef_dead_letters_t *self, const char *name, size_t size);
void dead_task_add (dead_topic_t *topic, uint64_t *m, uint32_t count, bool purge, uint32_t rate);

#endif
