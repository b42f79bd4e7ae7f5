/* An HTTP call: one libcurl handle that sends a request, follows redirects, and says what came of
   it. SPDX-License-Identifier: MIT

   Role: everything that is libcurl's about a call; what is sent comes from request.h, what a
   response means from response.h, where it may go from address.h. Owns: the handle and its buffers,
   used again for the next call. Invariants: every connection's address is judged when it is opened,
   also behind a redirect; libcurl follows none by itself. One thread. */
#ifndef EF_CALL_H
#define EF_CALL_H

#include "address.h"
#include "request.h"
#include "response.h"

#define CALL_DOWNSTREAM_BYTES 264 /* a host, a port and a NUL */

/* What headers may be sent to alike. */
typedef struct {
    bool is_tls;
    uint16_t port;
    char host[256];
} call_place_t;

/* Where a URL goes. NULL, or what is wrong with it (static). */
const char *call_place (const char *url, call_place_t *place);

/* Of responses to events that are done. A result is an answer of its own to the broker, where
   others are told together: what a response without a body says (its status) isn't worth that as a
   rule. */
#define CALL_KEEPS "none|body|all"
typedef enum { CALL_KEEP_NONE, CALL_KEEP_BODY, CALL_KEEP_ALL } call_keep_t;

/* Borrowed by every call. */
typedef struct {
    const address_list_t *addresses;
    const char *ca_file; /* empty: the system's */
    const char *proxy;   /* empty: none; the environment isn't asked */
    uint32_t connect_ms;
    uint32_t request_ms; /* with all redirects; 0: no bound of its own */
    uint32_t redirects;  /* followed at the most */
    size_t response_bytes;
    call_keep_t keep;         /* of a response, as the result */
    const call_place_t *home; /* what is configured is sent there only; NULL: anywhere */
} call_rules_t;

typedef struct call_s call_t;

/* NULL: libcurl can't, or a setting is nothing that it takes. */
call_t *call_new (const call_rules_t *rules);
void call_destroy (call_t **self_p); /* it isn't under way */

/* To be filled by request_build before call_prepare. */
request_t *call_request (call_t *self);

/* Makes the handle ready for the request. 0; or -1: it may not or can't be made, call_words says
   why. */
EF_MUST_USE int call_prepare (call_t *self);

/* A connection to where the URL points, or a GET of it: for probes. Else as call_prepare. */
EF_MUST_USE int call_prepare_probe (call_t *self, const char *url, bool is_get);

CURL *call_easy (call_t *self);

/* The transfer is over. True: it is to be started once more (a redirect); false: call_words says
   what came of it. */
bool call_ended (call_t *self, CURLcode code);

/* The answer; borrowed until the next call. It names no downstream where none was called. */
eventflow_result_t call_words (call_t *self, eventflow_answer_t *words);

/* The host, and the port where it isn't the scheme's own, that was called first. */
const char *call_downstream (const call_t *self);

#endif
