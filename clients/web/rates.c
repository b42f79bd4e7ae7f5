/* Token buckets by client. SPDX-License-Identifier: MIT

   Invariants: at most RATES_MAX clients are known; past that the one that was seen longest ago goes
   (a full bucket is what a client that isn't known has, so only one that came back within the
   second gains by it). */
#include "rates.h"
#include "../../broker/base/hash.h"
#include "../../proto/event.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define RATES_MAX 65536

typedef struct client_s {
    struct client_s *newer;
    struct client_s *older;
    double tokens;
    uint64_t since_ms;
    char name[64];
} client_t;

struct rates_s {
    double rate;
    double burst;
    pthread_mutex_t lock;
    ef_hash_t table;
    client_t *newest;
    client_t *oldest;
};

static const void *
s_key_of (const void *item, size_t *size) {
    const client_t *client = item;
    *size = strlen (client->name);
    return client->name;
}

rates_t *
rates_new (double rate, uint32_t burst) {
    rates_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    const uint64_t key[2] = {ef_random (), ef_random ()};
    self->rate = rate;
    self->burst = burst ? burst : 1;
    pthread_mutex_init (&self->lock, NULL);
    ef_hash_init (&self->table, key, s_key_of);
    return self;
}

void
rates_destroy (rates_t **self_p) {
    rates_t *self = *self_p;
    if (self) {
        while (self->oldest) {
            client_t *newer = self->oldest->newer;
            free (self->oldest);
            self->oldest = newer;
        }
        ef_hash_free (&self->table);
        pthread_mutex_destroy (&self->lock);
        free (self);
        *self_p = NULL;
    }
}

static void
s_unlink (rates_t *self, client_t *client) {
    *(client->newer ? &client->newer->older : &self->newest) = client->older;
    *(client->older ? &client->older->newer : &self->oldest) = client->newer;
}

static void
s_link (rates_t *self, client_t *client) {
    client->newer = NULL;
    client->older = self->newest;
    *(self->newest ? &self->newest->newer : &self->oldest) = client;
    self->newest = client;
}

static client_t *
s_require (rates_t *self, const char *name, uint64_t now_ms) {
    client_t *client = ef_hash_find (&self->table, name, strlen (name));
    if (client) {
        s_unlink (self, client);
    } else {
        if (self->table.count >= RATES_MAX) {
            client_t *oldest = self->oldest;
            s_unlink (self, oldest);
            ef_hash_remove (&self->table, oldest);
            free (oldest);
        }
        client = calloc (1, sizeof *client);
        ef_assert (client != NULL);
        snprintf (client->name, sizeof client->name, "%s", name);
        client->tokens = self->burst;
        client->since_ms = now_ms;
        ef_hash_insert (&self->table, client);
    }
    s_link (self, client);
    return client;
}

uint32_t
rates_take (rates_t *self, const char *client_name, uint64_t now_ms) {
    char name[64];
    snprintf (name, sizeof name, "%s", client_name); /* as it is kept */
    pthread_mutex_lock (&self->lock);
    client_t *client = s_require (self, name, now_ms);
    uint64_t spent = now_ms > client->since_ms ? now_ms - client->since_ms : 0;
    client->tokens += (double)spent / 1000 * self->rate;
    client->tokens = client->tokens < self->burst ? client->tokens : self->burst;
    client->since_ms = now_ms;
    uint32_t wait = 0;
    if (client->tokens >= 1) {
        client->tokens -= 1;
    } else {
        double seconds = (1 - client->tokens) / self->rate;
        wait = seconds < 3600 ? (uint32_t)seconds + 1 : 3600;
    }
    pthread_mutex_unlock (&self->lock);
    return wait;
}
