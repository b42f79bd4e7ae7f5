/* Codes that say why something was refused; the same enum inside and on the wire.
   SPDX-License-Identifier: MIT */
#ifndef EF_STATUS_H
#define EF_STATUS_H

/* name, what it means to the one who gets it */
#define EF_STATUS_TABLE(X)                                                                         \
    X (OK, "done")                                                                                 \
    X (BAD_FRAME, "bytes that are not the MessagePack that was expected")                          \
    X (BAD_EVENT, "an event whose fields are not those of an event")                               \
    X (BAD_COMMAND, "an unknown command, or one with the wrong arguments")                         \
    X (VERSION, "a protocol version that this broker doesn't speak")                               \
    X (TOO_LARGE, "past the limit of an event or a message")                                       \
    X (UNKNOWN_TOPIC, "no such topic is configured")                                               \
    X (UNROUTED, "no topic was named and no route matches")                                        \
    X (SCHEMA, "a schema version that the topic doesn't take")                                     \
    X (FULL, "the topic or table is full; try later")                                              \
    X (DENIED, "not allowed for this client")                                                      \
    X (WINDOW, "more events unconfirmed than the window allows")                                   \
    X (RATE, "faster than the publisher's rate allows")                                            \
    X (SEQ, "a sequence number out of order")                                                      \
    X (NO_SPACE, "the disk is nearly full; try later")                                             \
    X (NOT_FOUND, "there is nothing of that name or number")                                       \
    X (DRAINING, "the broker is stopping")                                                         \
    X (UNKNOWN_PEER, "this connection has not introduced itself; say HELLO or READY")              \
    X (INTERNAL, "the broker failed at something that should work")

typedef enum {
#define X(name, text) EF_##name,
    EF_STATUS_TABLE (X)
#undef X
        EF_STATUS_COUNT
} ef_status_t;

/* The code as it stands on the wire, "FULL" for EF_FULL. Static storage. */
const char *ef_status_name (ef_status_t status);

/* One sentence for people. Static storage. */
const char *ef_status_text (ef_status_t status);

/* The status of a wire name of `size` bytes; EF_STATUS_COUNT where there is none. */
ef_status_t ef_status_parse (const char *name, unsigned size);

#endif
