/* What the broker writes into its main journal. SPDX-License-Identifier: MIT

   Each is a record of broker/journal/record.h; offsets count from behind the record's head. Numbers
   are little-endian, dates are ms since 1970. n is an event's number in its topic, m and b number
   the moves to and from the topic's dead letters. At replay the later record wins; an end of an
   unknown n is ignored; TOPIC, SESSION and TAGS are absolute values at their place, and a new
   segment begins with all of them, so that older segments can go.

   EVENTS: what one PUBLISH (or ACK, or ingress message) added to one topic, n counting up by one
      0  4  topic          4  4  count           8  8  first n       16  8  accepted
     24 16  base id: event k without an id of its own has base + k
     40  4  bytes of the outcome, 0 where there is none     44  4  reserved
     48     outcome: session (16), seq (8), accepted (4), duplicates (4), then extra bytes (see
   session.c)
     ..     index: count × 4, an event's length in 24 bits, its EF_INDEX_ flags in the upper 8
     ..     the events as they came

   COPIES: events with numbers and lives of their own (cleaning, replayed dead letters)
      0  4  topic          4  4  count           8  8  b, for a RETURN in the same group, else 0
     16     per event: n (8), accepted (8), due (8; 0: ready), bytes of the event (4), bytes of the
   history (4), attempts (2), state (1), EF_COPY_ flags (1), insertions (2), reserved (2), history,
   event (its id written out), padded to 8

   ENDS: events done. Header: when (8), absent in older records. Body: items of topic (4), count
   (4), first n (8). ATTEMPT: a failed attempt 0  4  topic          4  2  attempts        6  2
   EF_ATTEMPT_ flags      8  8  n 16  8  when          24  8  due 32     [code, text, trace, ms,
   worker, more] as MessagePack; more, from the first version with it on: {attempt, host, pid,
   start, delay, rule} DEAD: an event leaves for the dead letters 0  4  topic          4  1  reason
   8  8  n             16  8  m         24  8  when PURGE: with flag 0 every event of the topic up
   to n is gone, but for those listed, which may finish; with flag 1 just those listed are gone 0  4
   topic          4  4  listed          8  8 up to n       16  8  how many are gone 24     listed ×
   8: n RETURN: dead letters that came back or were purged 0  4  topic          4  4  count 8  8  b
   16  4  purged of them TOPIC: absolute 0  4  topic          4  4  flags (EF_TOPIC_FLAG_)    8  8
   next n 16  8  m: last decided                     24  8  b: last taken 32     accepted, done,
   dead, archived, purged, failed attempts, deliveries: 8 each 88  1  bytes of the name 89  8 purged
   up to n (from version 2 on) 97     name TAGS: 0  8  no tag at or above this was given out
   SESSION: absolute
      0 16  session       16  8  seq of the last PUBLISH taken      24  4  outcomes
     28  4  bytes of an item (0, in version 1: 16)
     32     per item: events (4; bit 31: nothing of it is known), accepted (4), duplicates (4),
   bytes of extra (4), from version 2 on how many outcomes in a row are like it (4) and zeros (4),
            then extra
   SESSION_END: 0 16 session
   SEED: 0 16 key of the fingerprints of ids and of quotas' subjects; drawn once for a journal
   IDS: ids that a dedupe window knows, from segments that are gone
      0  4  topic          4  4  count           8     count × 24: fingerprint (16), accepted (8)
   WAIT: an event that isn't leased waits from now on as is said here
      0  4  topic          4  1  state           5  1  1: for a date      6  2  failed attempts
      8  8  n             16  8  due (0: at once)
   UNIT: a unit of a quota was taken for an event
      0  4  topic          4  4  reserved        8  8  n             16  8  when
     24 16  fingerprint of the subject
   BREAKER: absolute
      0  4  topic          4  4  bytes of the name    8 32  state (breaker.h)
     40     name of the downstream; empty: the topic's own
   RESULT: what a worker gave with its ACK
      0  4  topic          4  4  reserved        8  8  n             16  8  when
     24     the result as MessagePack */
#ifndef EF_LOG_RECORDS_H
#define EF_LOG_RECORDS_H

enum {
    EF_LOG_EVENTS = 2,
    EF_LOG_COPIES,
    EF_LOG_ENDS,
    EF_LOG_ATTEMPT,
    EF_LOG_DEAD,
    EF_LOG_PURGE,
    EF_LOG_RETURN,
    EF_LOG_TOPIC,
    EF_LOG_TAGS,
    EF_LOG_SESSION,
    EF_LOG_SESSION_END,
    EF_LOG_SEED,
    EF_LOG_IDS,
    EF_LOG_WAIT,
    EF_LOG_UNIT,
    EF_LOG_BREAKER,
    EF_LOG_RESULT
};

#define EF_EVENTS_HEADER  48
#define EF_COPIES_HEADER  16
#define EF_COPY_HEAD      40
#define EF_OUTCOME_HEAD   32
#define EF_ENDS_HEADER    8
#define EF_ENDS_ITEM      16
#define EF_ATTEMPT_HEADER 32
#define EF_DEAD_HEADER    32
#define EF_PURGE_HEADER   24
#define EF_RETURN_HEADER  24
#define EF_TOPIC_HEADER   97
#define EF_TOPIC_HEADER_1 89 /* of version 1 */
#define EF_TAGS_HEADER    8
#define EF_SEED_HEADER    16
#define EF_IDS_HEADER     8
#define EF_IDS_ITEM       24
#define EF_WAIT_HEADER    24
#define EF_UNIT_HEADER    40
#define EF_BREAKER_HEADER 40
#define EF_RESULT_HEADER  24
#define EF_SESSION_HEADER 32
#define EF_OUTCOME_ITEM   24
#define EF_OUTCOME_ITEM_1 16 /* of version 1 */

#define EF_INDEX_LENGTH   0x00ffffffu
#define EF_INDEX_NO_ID    0x01000000u /* the id is base + k */
#define EF_INDEX_META     0x02000000u /* meta asks for at, delay or ttl */
#define EF_INDEX_AWAY                                                                              \
    0x04000000u /* not ready at acceptance: scheduled or waiting for insertion                     \
                 */

#define EF_INDEX_KEYED 0x08000000u /* has an ordering key */
#define EF_INDEX_EXTRA 0x10000000u /* has a user, a downstream or an event for its death */

#define EF_INDEX_PASSES                                                                            \
    0x20000000u /* its id isn't known to the dedupe window: a copy of what ended elsewhere */

#define EF_EVENTS_FLAG_AWAY    1u /* record: some events bear EF_INDEX_AWAY */
#define EF_EVENTS_FLAG_META    2u /* record: some events bear EF_INDEX_META */
#define EF_COPIES_FLAG_INVALID 1u /* record: refused at ingress, kept as dead letters */
#define EF_PURGE_FLAG_LIST     1u /* record: just those listed */
#define EF_COPY_META           1u /* as EF_INDEX_META */
#define EF_COPY_KEYED          2u
#define EF_COPY_EXTRA          4u
#define EF_COPY_SUSPECT        16u /* a worker's process died with it */
#define EF_COPY_ALONE          32u /* and one with it alone */
#define EF_COPY_AT             64u /* scheduled for a date */

#define EF_ATTEMPT_KEYED       1u
#define EF_ATTEMPT_UNIT_BACK   2u /* its unit was given back */
#define EF_ATTEMPT_SUSPECT     4u
#define EF_ATTEMPT_ALONE       8u

#define EF_TOPIC_FLAG_PAUSED   1u
#define EF_TOPIC_FLAG_DRAINING 2u

#endif
