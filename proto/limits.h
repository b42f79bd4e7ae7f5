/* Every limit that two processes must agree on or that a stranger could push against, with its
   reason. SPDX-License-Identifier: MIT */
#ifndef EF_LIMITS_H
#define EF_LIMITS_H

#include <stdint.h>

#define EF_PROTOCOL_VERSION 1

/* What one peer may send. */
#define EF_TOPIC_MAX        53         /* with "_deadletter" (11) it fits a 64-byte name */
#define EF_ID_MAX           64         /* an id or key is looked up and logged, so it stays short */
#define EF_EVENT_MAX        (1u << 20) /* default: larger payloads belong in an object store */
#define EF_MESSAGE_MAX      (4u << 20) /* default: one message is handled in one turn */
#define EF_EVENT_CEILING                                                                           \
    ((1u << 24) - 1)                      /* a record's index keeps an event's length in 24 bits   \
                                           */
#define EF_MESSAGE_CEILING    (64u << 20) /* a record must fit a segment */
#define EF_MESSAGE_EVENTS_MAX 65536u      /* bounds the scratch table of one message */
#define EF_ROUTE_HEADERS_SEEN 64u         /* routes look at the first ones: 1,024 conditions each */
#define EF_ROUTE_TEXT_MAX     1024u /* longer types and values fit no pattern, for the same reason */
#define EF_REFUSED_BY_SOCKET  4     /* up to so many message limits: TOO_LARGE; past: cut off */
#define EF_NESTING_MAX        32    /* the depth that msgpack-c accepts too */
#define EF_HEADER_MAX         (256u << 10) /* an ACK of 4,096 single tags, with texts and a result */
#define EF_FRAMES_MAX         64           /* frames of one message, envelope included */
#define EF_TAGS_MAX           65536u       /* items in one tags array */
#define EF_REASON_MAX         199          /* why a worker is unhealthy */
#define EF_NAME_MAX           64           /* names of publishers, workers, hosts */
#define EF_TOKEN_MAX          64

/* What is kept of a failed attempt, in bytes. */
#define EF_CODE_MAX           100
#define EF_TEXT_MAX           1000
#define EF_TRACE_MAX          4000
#define EF_RESULT_MAX         65536
#define EF_HISTORY_FIRST      15             /* attempts kept from the beginning */
#define EF_HISTORY_LAST       15             /* and from the end; those between are counted only */
#define EF_HISTORY_BYTES      (256ull << 20) /* of all histories in memory; past it codes only */

/* Publishers. */
#define EF_WINDOW_EVENTS      16384u /* unconfirmed events of one session */
#define EF_SESSIONS_MAX       65536u
#define EF_OUTCOME_BYTES      (16ull << 20) /* of all sessions; past it unconnected ones go sooner */
#define EF_SESSION_IDLE_MS    (3600u * 1000u)
#define EF_REQ_WAITING_MAX    256u  /* answers that wait for one client without a session */
#define EF_REFUSED_ITEMS_MAX  256u  /* per PUBLISH; the rest becomes one range */
#define EF_CONFIRM_ITEMS_MAX  4096u /* per CONFIRM */
#define EF_IDS_MAX            256u  /* events of a PUBLISH that asks for ids */

/* Workers. */
#define EF_WORKERS_MAX        10000u
#define EF_WORKER_TOPICS_MAX  64u
#define EF_BATCH_EVENTS       256u /* events of one delivery */
#define EF_CREDIT_MAX         65536u
#define EF_WORKER_BYTES       (4u << 20) /* default byte window */
#define EF_WORKER_SILENT_MS   60000u     /* without heartbeat, with nothing in flight */
#define EF_WORKER_REDO_MS     10000u /* a worker without heartbeat says READY again after this */
#define EF_STALE_MAX          256u   /* tags listed as stale in one answer */
#define EF_HEARTBEAT_MS       1000u
#define EF_HEARTBEAT_MIN_MS   50u
#define EF_LIVENESS           3u /* silent heartbeats before a peer is gone */
#define EF_PEERS_MAX          65536u
#define EF_PEER_IDLE_MS       60000u /* peers that have nothing open are forgotten */
#define EF_RELEASED_MS        60000u /* the same after an operator took it away */
#define EF_RELEASE_MS         1000u  /* not to the same worker again before this */

/* The broker. */
#define EF_TOPICS_MAX         4096u
#define EF_TAG_BLOCK          (1ull << 24)       /* tags reserved by one durable record */
#define EF_TAG_MAX            ((1ull << 53) - 1) /* a double keeps it exact */
#define EF_EMIT_SPARE_BYTES                                                                        \
    4096u /* an ACK's events may be so much larger than what they end, also on a full disk */
#define EF_QUOTA_SUBJECTS_MAX (1u << 20) /* of a topic: 64 bytes each; past it events wait */
#define EF_QUOTA_UNITS_MAX    (4u << 20) /* the same, 60 bytes each: 250 MB at the most */
#define EF_QUOTA_KEEP_MS                                                                           \
    3600000u /* units are known for so long behind their window, or an eighth of it: a wall clock  \
                set back by less, say by an hour that was wrong, halts nothing */
#define EF_INVALID_EVENTS     10000u
#define EF_QUOTA_SUBJECTS_MAX (1u << 20) /* of a topic: 64 bytes each; past it events wait */
#define EF_QUOTA_UNITS_MAX    (4u << 20) /* the same, 60 bytes each: 250 MB at the most */
#define EF_QUOTA_KEEP_MS                                                                           \
    3600000u /* units are known for so long behind their window, or an eighth of it: a wall clock  \
                set back by less, say by an hour that was wrong, halts nothing */
#define EF_BREAKERS_MAX  1024u   /* downstreams of a topic that are told apart */
#define EF_BLOCKED_MAX   262144u /* events of a topic set aside behind keys: 16 MiB of entries */
#define EF_INVALID_BYTES (64ull << 20)

_Static_assert(EF_MESSAGE_MAX >= EF_EVENT_MAX, "an event fits a message");
_Static_assert(EF_EVENT_CEILING <= EF_MESSAGE_CEILING, "an event fits a message");
_Static_assert(EF_TOPIC_MAX + 11 <= 64, "a dead-letter name is a topic name and 11 bytes");
_Static_assert(EF_EVENT_MAX <= EF_EVENT_CEILING, "the default is within the format");
_Static_assert(EF_CONFIRM_ITEMS_MAX >= EF_REFUSED_ITEMS_MAX + EF_IDS_MAX,
               "a CONFIRM makes progress by one PUBLISH at least");

#endif
