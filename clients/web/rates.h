/* How often each client may come. SPDX-License-Identifier: MIT */
#ifndef EF_WEB_RATES_H
#define EF_WEB_RATES_H

#include <stdint.h>

typedef struct rates_s rates_t;

rates_t *rates_new (double rate, uint32_t burst);
void rates_destroy (rates_t **self_p);
/* Counts one. 0: it may; else in how many seconds it may again. Any thread. */
uint32_t rates_take (rates_t *self, const char *client, uint64_t now_ms);

#endif
