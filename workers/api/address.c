/* Which hosts may be called, and which addresses. SPDX-License-Identifier: MIT */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES 254 /* a DNS name is up to 253 bytes */

/* An address as 16 bytes; IPv4 is ::ffff:a.b.c.d, so that both are compared alike. */
typedef struct {
    uint8_t bytes[16];
} ip_t;

typedef struct {
    ip_t ip;
    uint8_t bits; /* of the 128 */
} network_t;

typedef enum { ITEM_ALL, ITEM_HOST, ITEM_UNDER, ITEM_NETWORK } item_kind_t;

typedef struct {
    item_kind_t kind;
    uint16_t port;         /* 0: any */
    char name[NAME_BYTES]; /* of a host, or what stands behind "*." */
    network_t network;
} item_t;

struct address_list_s {
    item_t *items; /* owned */
    size_t count;
    bool has_networks;
};

static const uint8_t s_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool
s_from_v4 (const void *v4, ip_t *ip) {
    memcpy (ip->bytes, s_mapped, 12);
    memcpy (ip->bytes + 12, v4, 4);
    return true;
}

/* False: neither IPv4 nor IPv6. */
static bool
s_from_sockaddr (const struct sockaddr *address, ip_t *ip) {
    if (address->sa_family == AF_INET) {
        return s_from_v4 (&((const struct sockaddr_in *)(const void *)address)->sin_addr, ip);
    }
    if (address->sa_family == AF_INET6) {
        memcpy (ip->bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
        return true;
    }
    return false;
}

/* The text of an address, in brackets or not, without a zone. */
static bool
s_from_text (const char *text, ip_t *ip) {
    char plain[INET6_ADDRSTRLEN + 2];
    size_t size = strlen (text);
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size >= sizeof plain) {
        return false;
    }
    memcpy (plain, text, size);
    plain[size] = '\0';
    uint8_t v4[4];
    return inet_pton (AF_INET, plain, v4) == 1 ? s_from_v4 (v4, ip)
                                               : inet_pton (AF_INET6, plain, ip->bytes) == 1;
}

static bool
s_holds (const network_t *network, const ip_t *ip) {
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp (network->ip.bytes, ip->bytes, whole) != 0) {
        return false;
    }
    return rest == 0 || (network->ip.bytes[whole] ^ ip->bytes[whole]) >> (8 - rest) == 0;
}

/* ---- What isn't of the public net ---- */

typedef struct {
    uint8_t address[4];
    uint8_t bits;
} special_v4_t;

/* IANA IPv4 Special-Purpose Address Registry, what isn't globally reachable, and multicast. */
static const special_v4_t s_special_v4[] = {
    {{0, 0, 0, 0}, 8},      {{10, 0, 0, 0}, 8},     {{100, 64, 0, 0}, 10}, {{127, 0, 0, 0}, 8},
    {{169, 254, 0, 0}, 16}, {{172, 16, 0, 0}, 12},  {{192, 0, 0, 0}, 24},  {{192, 0, 2, 0}, 24},
    {{192, 88, 99, 0}, 24}, {{192, 168, 0, 0}, 16}, {{198, 18, 0, 0}, 15}, {{198, 51, 100, 0}, 24},
    {{203, 0, 113, 0}, 24}, {{224, 0, 0, 0}, 4},    {{240, 0, 0, 0}, 4},
};

static bool
s_is_public_v4 (const uint8_t v4[4]) {
    ip_t ip;
    (void)s_from_v4 (v4, &ip); /* always true */
    for (size_t i = 0; i < sizeof s_special_v4 / sizeof s_special_v4[0]; i++) {
        network_t network = {.bits = (uint8_t)(96 + s_special_v4[i].bits)};
        (void)s_from_v4 (s_special_v4[i].address, &network.ip);
        if (s_holds (&network, &ip)) {
            return false;
        }
    }
    return true;
}

/* Of IPv6 only 2000::/3 is handed out for the public net; what is special within it: 2001::/23
   (protocols, Teredo), 2001:db8::/32 and 3fff::/20 (documents). An address that carries an IPv4
   address is what that one is: mapped, NAT64 (64:ff9b::/96), 6to4 (2002::/16). */
static bool
s_is_public (const ip_t *ip) {
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    const uint8_t *b = ip->bytes;
    if (memcmp (b, s_mapped, 12) == 0 || memcmp (b, nat64, 12) == 0) {
        return s_is_public_v4 (b + 12);
    }
    if (b[0] == 0x20 && b[1] == 0x02) {
        return s_is_public_v4 (b + 2);
    }
    bool is_protocol = b[0] == 0x20 && b[1] == 0x01 && b[2] < 2;
    bool is_document = (b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0d && b[3] == 0xb8) ||
                       (b[0] == 0x3f && b[1] == 0xff && b[2] < 0x10);
    return b[0] >> 5 == 1 && !is_protocol && !is_document;
}

bool
address_is_public (const struct sockaddr *address) {
    ip_t ip;
    return s_from_sockaddr (address, &ip) && s_is_public (&ip);
}

void
address_text (const struct sockaddr *address, char text[ADDRESS_TEXT_BYTES]) {
    const void *bytes = NULL;
    if (address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    } else if (address->sa_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    }
    if (bytes == NULL || inet_ntop (address->sa_family, bytes, text, ADDRESS_TEXT_BYTES) == NULL) {
        snprintf (text, ADDRESS_TEXT_BYTES, "an address of family %d", address->sa_family);
    }
}

/* ---- The list ---- */

/* Takes ":port" off the end; an IPv6 address has a port only behind brackets. False: it is wrong.
 */
static bool
s_take_port (char *text, uint16_t *port) {
    char *colon = strrchr (text, ':');
    *port = 0;
    if (colon == NULL || (text[0] != '[' && strchr (text, ':') != colon) ||
        (text[0] == '[' && (colon == text || colon[-1] != ']') && strchr (colon, ']'))) {
        return true;
    }
    char *end;
    unsigned long number = strtoul (colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end || number == 0 || number > 65535) {
        return false;
    }
    *port = (uint16_t)number;
    *colon = '\0';
    return true;
}

static bool
s_read_network (char *text, network_t *network) {
    char *slash = strchr (text, '/');
    unsigned long bits = 128;
    if (slash) {
        *slash = '\0';
    }
    bool is_address = s_from_text (text, &network->ip);
    if (slash) {
        *slash = '/';
    }
    if (!is_address) {
        return false;
    }
    bool is_v4 = memcmp (network->ip.bytes, s_mapped, 12) == 0 && strchr (text, ':') == NULL;
    if (slash) {
        char *end;
        bits = strtoul (slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end || bits > (is_v4 ? 32 : 128)) {
            return false;
        }
        bits += is_v4 ? 96 : 0;
    }
    network->bits = (uint8_t)bits;
    return true;
}

static bool
s_read_name (const char *text, char name[NAME_BYTES]) {
    size_t size = strlen (text);
    size -= size > 0 && text[size - 1] == '.';
    if (size == 0 || size >= NAME_BYTES || text[0] == '.') {
        return false;
    }
    bool has_letter = false;
    for (size_t i = 0; i < size; i++) {
        bool is_letter = ((text[i] | 32) >= 'a' && (text[i] | 32) <= 'z') || text[i] == '_';
        bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (!is_letter && !is_digit && text[i] != '-' && text[i] != '.') {
            return false;
        }
        has_letter = has_letter || is_letter;
        name[i] = text[i];
    }
    name[size] = '\0';
    return has_letter; /* 10.0.0 is an address that lacks something */
}

static bool
s_read_item (char *text, item_t *item) {
    memset (item, 0, sizeof *item);
    if (!s_take_port (text, &item->port)) {
        return false;
    }
    if (strcmp (text, "*") == 0) {
        item->kind = ITEM_ALL;
        return true;
    }
    if (s_read_network (text, &item->network)) {
        item->kind = ITEM_NETWORK;
        return true;
    }
    bool is_under = strncmp (text, "*.", 2) == 0;
    item->kind = is_under ? ITEM_UNDER : ITEM_HOST;
    return s_read_name (text + (is_under ? 2 : 0), item->name);
}

address_list_t *
address_list_new (const char *text, char error[512]) {
    address_list_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    for (const char *at = text; at && *at;) {
        at += strspn (at, " \t,");
        size_t size = strcspn (at, ", \t");
        char word[NAME_BYTES + 16];
        char copy[NAME_BYTES + 16];
        if (size == 0) {
            break;
        }
        snprintf (word, sizeof word, "%.*s", (int)(size < sizeof word ? size : 0), at);
        strcpy (copy, word);
        self->items = realloc (self->items, (self->count + 1) * sizeof *self->items);
        ef_assert (self->items != NULL);
        if (!s_read_item (copy, &self->items[self->count])) {
            snprintf (error, 512,
                      "allow: \"%.*s\": expected a host, *.host, an address or a network such as "
                      "10.0.0.0/8, and :port if only one is meant",
                      (int)(size < 80 ? size : 80), at);
            address_list_destroy (&self);
            return NULL;
        }
        self->has_networks = self->has_networks || self->items[self->count].kind == ITEM_NETWORK;
        self->count++;
        at += size;
    }
    return self;
}

void
address_list_destroy (address_list_t **self_p) {
    if (*self_p) {
        free ((*self_p)->items);
        free (*self_p);
        *self_p = NULL;
    }
}

/* ---- Judgement ---- */

static bool
s_is_host (const item_t *item, const char *host) {
    size_t size = strlen (host);
    size_t length = strlen (item->name);
    size -= size > 0 && host[size - 1] == '.';
    if (item->kind == ITEM_HOST) {
        return size == length && strncasecmp (host, item->name, size) == 0;
    }
    return item->kind == ITEM_UNDER && size > length + 1 && host[size - length - 1] == '.' &&
           strncasecmp (host + size - length, item->name, length) == 0;
}

static bool
s_is_port (const item_t *item, uint16_t port) {
    return item->port == 0 || item->port == port;
}

bool
address_is_named (const address_list_t *self, const char *host, uint16_t port) {
    for (size_t i = 0; i < self->count; i++) {
        if (s_is_port (&self->items[i], port) && s_is_host (&self->items[i], host)) {
            return true;
        }
    }
    return false;
}

static bool
s_may_be (const address_list_t *self, const ip_t *ip, uint16_t port) {
    bool is_open = self->count == 0;
    for (size_t i = 0; i < self->count; i++) {
        const item_t *item = &self->items[i];
        if (!s_is_port (item, port)) {
            continue;
        }
        if (item->kind == ITEM_NETWORK && s_holds (&item->network, ip)) {
            return true;
        }
        is_open = is_open || item->kind == ITEM_ALL;
    }
    return is_open && s_is_public (ip);
}

bool
address_may_call (const address_list_t *self, const char *host, uint16_t port) {
    ip_t ip;
    if (s_from_text (host, &ip)) {
        return s_may_be (self, &ip, port);
    }
    bool is_open = self->count == 0 || address_is_named (self, host, port);
    for (size_t i = 0; i < self->count && !is_open; i++) {
        item_kind_t kind = self->items[i].kind; /* a network may turn out to hold its address */
        is_open = s_is_port (&self->items[i], port) && (kind == ITEM_ALL || kind == ITEM_NETWORK);
    }
    return is_open;
}

bool
address_may_connect (const address_list_t *self, const char *host, uint16_t port,
                     const struct sockaddr *address) {
    ip_t ip;
    return s_from_sockaddr (address, &ip) &&
           (address_is_named (self, host, port) || s_may_be (self, &ip, port));
}
