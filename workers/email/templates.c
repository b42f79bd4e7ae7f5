/* Texts of mails by the type of an event. SPDX-License-Identifier: MIT

   Role: files read once and kept while they don't change (two stat calls an event instead of
   reading). Invariant: a type names a file only where it is letters, digits and . _ -, and doesn't
   begin with a dot: no type leads out of the directory. */
#include "templates.h"

#include "../../broker/base/hash.h"
#include "../../proto/event.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#define TYPE_MAX 200       /* bytes of a type that can name a file */
#define FILE_MAX (1 << 20) /* as large as an event by default */

/* One file as it was when it was read. */
typedef struct {
    struct timespec changed;
    off_t bytes;
    ino_t number;
    template_t *parts[LETTER_PARTS]; /* owned */
} page_t;

typedef struct {
    char type[TYPE_MAX + 1];
    page_t pages[2]; /* text, html; all zero: there is none */
} entry_t;

struct templates_s {
    char *directory;   /* owned */
    ef_hash_t entries; /* owned, by type; only of files that there were */
    entry_t **list;    /* owned: the same, to be freed */
    size_t count;
};

static const void *
s_key (const void *item, size_t *size) {
    *size = strlen (((const entry_t *)item)->type);
    return ((const entry_t *)item)->type;
}

templates_t *
templates_new (const char *directory, char error[512]) {
    struct stat info;
    bool is_there = stat (directory, &info) == 0;
    if (!is_there || !S_ISDIR (info.st_mode)) {
        snprintf (error, 512, "templates: %.300s: %s", directory,
                  is_there ? "expected a directory" : strerror (errno));
        return NULL;
    }
    templates_t *self = calloc (1, sizeof *self);
    uint64_t key[2] = {ef_random (), ef_random ()};
    ef_assert (self != NULL);
    self->directory = strdup (directory);
    ef_assert (self->directory != NULL);
    ef_hash_init (&self->entries, key, s_key);
    return self;
}

static void
s_clear (page_t *page) {
    for (unsigned i = 0; i < LETTER_PARTS; i++) {
        template_destroy (&page->parts[i]);
    }
    memset (page, 0, sizeof *page);
}

void
templates_destroy (templates_t **self_p) {
    templates_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < self->count; i++) {
        s_clear (&self->list[i]->pages[0]);
        s_clear (&self->list[i]->pages[1]);
        free (self->list[i]);
    }
    free (self->list);
    ef_hash_free (&self->entries);
    free (self->directory);
    free (self);
    *self_p = NULL;
}

static bool
s_names_a_file (ef_span_t type) {
    bool is_good = type.size > 0 && type.size <= TYPE_MAX && type.data[0] != '.';
    for (uint32_t i = 0; i < type.size && is_good; i++) {
        uint8_t c = (uint8_t)type.data[i];
        is_good = c < 0x80 && (isalnum (c) || c == '.' || c == '_' || c == '-');
    }
    return is_good;
}

/* The part that a head's line is for; LETTER_PARTS: it isn't such a line. */
static letter_part_t
s_head_part (const char *line, size_t size, size_t *value) {
    static const char *const names[] = {
        [LETTER_SUBJECT] = "Subject:", [LETTER_FROM] = "From:", [LETTER_REPLY_TO] = "Reply-To:",
        [LETTER_TO] = "To:",           [LETTER_CC] = "Cc:",     [LETTER_BCC] = "Bcc:"};
    letter_part_t part = LETTER_SUBJECT;
    for (; part < LETTER_TEXT; part++) {
        *value = strlen (names[part]);
        if (size >= *value && strncasecmp (line, names[part], *value) == 0) {
            return part;
        }
    }
    return LETTER_PARTS;
}

static int
s_parse (page_t *page, letter_part_t body, const char *text, size_t size, char why[256]) {
    const char *end = text + size;
    bool has_head = false;
    for (unsigned line = 1; text < end; line++) {
        const char *next = memchr (text, '\n', (size_t)(end - text));
        next = next ? next : end;
        size_t length = (size_t)(next - text);
        length -= length > 0 && text[length - 1] == '\r';
        if (has_head && length == 0) {
            text = next < end ? next + 1 : end;
            break;
        }
        size_t value;
        letter_part_t part = s_head_part (text, length, &value);
        if (part == LETTER_PARTS && !has_head) {
            break; /* it has no head */
        }
        if (part == LETTER_PARTS || page->parts[part]) {
            snprintf (why, 256,
                      "line %u: expected Subject, From, Reply-To, To, Cc or Bcc once, or "
                      "an empty line and the text",
                      line);
            return -1;
        }
        while (value < length && text[value] == ' ') {
            value++;
        }
        page->parts[part] = template_new (text + value, length - value, why);
        if (page->parts[part] == NULL) {
            return -1;
        }
        has_head = true;
        text = next < end ? next + 1 : end;
    }
    page->parts[body] = template_new (text, (size_t)(end - text), why);
    return page->parts[body] ? 0 : -1;
}

static int
s_read (page_t *page, letter_part_t body, const char *path, char why[256]) {
    FILE *file = fopen (path, "re");
    char *text = malloc (FILE_MAX + 1);
    ef_assert (text != NULL);
    size_t size = file ? fread (text, 1, FILE_MAX + 1, file) : 0;
    int rc = -1;
    if (file == NULL || ferror (file)) {
        snprintf (why, 256, "%s", strerror (errno));
    } else if (size > FILE_MAX) {
        snprintf (why, 256, "larger than 1 MiB");
    } else {
        rc = s_parse (page, body, text, size, why);
    }
    if (file) {
        (void)fclose (file); /* it was only read */
    }
    free (text);
    return rc;
}

/* Looks whether a page is as it was, and reads it where it isn't. 0, or -1. */
static int
s_refresh (const templates_t *self, entry_t *entry, unsigned which, char error[512]) {
    static const char *const suffixes[] = {"txt", "html"};
    page_t *page = &entry->pages[which];
    char path[4096 + TYPE_MAX + 8];
    char why[256];
    struct stat info;
    snprintf (path, sizeof path, "%s/%s.%s", self->directory, entry->type, suffixes[which]);
    if (stat (path, &info)) {
        s_clear (page);
        return 0;
    }
    if (page->number == info.st_ino && page->bytes == info.st_size &&
        page->changed.tv_sec == info.st_mtim.tv_sec &&
        page->changed.tv_nsec == info.st_mtim.tv_nsec) {
        return 0;
    }
    s_clear (page);
    if (s_read (page, which ? LETTER_HTML : LETTER_TEXT, path, why)) {
        s_clear (page);
        snprintf (error, 512, "%.200s.%s: %.200s", entry->type, suffixes[which], why);
        return -1;
    }
    page->changed = info.st_mtim;
    page->bytes = info.st_size;
    page->number = info.st_ino;
    return 0;
}

static void
s_keep (templates_t *self, entry_t *entry) {
    self->list = realloc (self->list, (self->count + 1) * sizeof *self->list);
    ef_assert (self->list != NULL);
    self->list[self->count++] = entry;
    ef_hash_insert (&self->entries, entry);
}

int
templates_find (templates_t *self, ef_span_t type, letter_t *letter, char error[512]) {
    memset (letter, 0, sizeof *letter);
    if (!s_names_a_file (type)) {
        return 0;
    }
    entry_t *entry = ef_hash_find (&self->entries, type.data, type.size);
    bool is_new = entry == NULL;
    if (is_new) {
        entry = calloc (1, sizeof *entry);
        ef_assert (entry != NULL);
        memcpy (entry->type, type.data, type.size);
    }
    int rc = s_refresh (self, entry, 0, error) || s_refresh (self, entry, 1, error) ? -1 : 0;
    bool has_any = entry->pages[0].number || entry->pages[1].number;
    if (is_new && has_any) {
        s_keep (self, entry); /* types without a file aren't kept: strangers name them */
    } else if (is_new) {
        s_clear (&entry->pages[0]);
        free (entry);
    }
    for (unsigned i = 0; i < LETTER_PARTS && rc == 0 && has_any; i++) {
        letter->parts[i] =
            entry->pages[0].parts[i] ? entry->pages[0].parts[i] : entry->pages[1].parts[i];
    }
    return rc ? rc : has_any;
}
