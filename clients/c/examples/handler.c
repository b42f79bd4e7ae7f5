/* A worker in twenty lines: does what is to be done for each event of a topic.
   SPDX-License-Identifier: MIT */
#include <eventflow.h>
#include <stdio.h>

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *event) {
    (void)arg;
    printf ("%.*s, attempt %u\n", (int)event->id.size, (const char *)event->id.data,
            event->attempt);
    return fflush (stdout) ? EVENTFLOW_RETRY : EVENTFLOW_DONE;
}

int
main (int argc, char **argv) {
    const char *topics[] = {argc > 1 ? argv[1] : "email"};
    eventflow_worker_options_t options = {.topics = topics, .topic_count = 1, .handle = s_handle};
    return eventflow_work (&options); /* until TERM; what is in hand is finished */
}
