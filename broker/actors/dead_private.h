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
    _Atomic int failed;
};

dead_topic_t *dead_topic_find (ef_dead_letters_t *self, const char *name, size_t size);
void dead_task_add (dead_topic_t *topic, uint64_t *m, uint32_t count, bool purge, uint32_t rate);

#endif
