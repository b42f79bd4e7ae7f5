/* A server's replies. SPDX-License-Identifier: MIT */
#include "smtp_reply.h"

#include <string.h>

void
smtp_reply_init (smtp_reply_t *self) {
    self->code = 0;
    self->text[0] = 0;
    self->line_bytes = self->text_bytes = 0;
    self->is_begun = false;
}

static void
s_add_text (smtp_reply_t *self, const char *text, size_t size) {
    if (self->text_bytes > 0 && size > 0 && self->text_bytes < SMTP_TEXT_MAX) {
        self->text[self->text_bytes++] = ' ';
    }
    for (size_t i = 0; i < size && self->text_bytes < SMTP_TEXT_MAX; i++) {
        self->text[self->text_bytes++] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    }
    self->text[self->text_bytes] = 0;
}

/* One line without its end. 1: the reply's last; 0: more follow; -1: it is none. */
static int
s_line (smtp_reply_t *self) {
    const char *line = self->line;
    size_t size = self->line_bytes;
    size -= size > 0 && line[size - 1] == '\r';
    self->line_bytes = 0;
    if (size < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' ||
        line[2] < '0' || line[2] > '9' || (size > 3 && line[3] != ' ' && line[3] != '-')) {
        return -1;
    }
    unsigned code = (unsigned)(line[0] - '0') * 100 + (unsigned)(line[1] - '0') * 10 +
                    (unsigned)(line[2] - '0');
    if (self->is_begun && code != self->code) {
        return -1;
    }
    self->is_begun = true;
    self->code = code;
    s_add_text (self, line + 4, size > 4 ? size - 4 : 0);
    return size > 3 && line[3] == '-' ? 0 : 1;
}

int
smtp_reply_read (smtp_reply_t *self, const char *bytes, size_t size, size_t *used) {
    if (!self->is_begun) { /* what the last reply left is not wanted any more */
        self->text_bytes = 0;
        self->text[0] = 0;
    }
    for (*used = 0; *used < size;) {
        char c = bytes[(*used)++];
        if (c != '\n') {
            if (self->line_bytes == sizeof self->line) {
                return -1;
            }
            self->line[self->line_bytes++] = c;
            continue;
        }
        int rc = s_line (self);
        if (rc) {
            self->is_begun = false;
            return rc;
        }
    }
    return 0;
}
