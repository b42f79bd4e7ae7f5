/* Settings and their values: texts, numbers with units, choices. SPDX-License-Identifier: MIT */
#include "settings.h"
#include "../../proto/distance.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static int
s_set_text (const setting_t *setting, void *field, const char *value, char why[200]) {
    (void)why;
    if (strlen (value) >= setting->bytes) {
        return -1;
    }
    memcpy (field, value, strlen (value) + 1);
    return 0;
}

static void
s_print_text (const setting_t *setting, const void *field, ef_buf_t *out) {
    (void)setting;
    s_put (out, field);
}

static void
s_print_nothing (const setting_t *setting, const void *field, ef_buf_t *out) {
    (void)setting;
    (void)field;
    (void)out;
}

const config_kind_t config_text = {
    .expected = "text that fits", .set = s_set_text, .print = s_print_text};
const config_kind_t config_secret = {
    .expected = "text that fits", .set = s_set_text, .print = s_print_nothing, .is_secret = true};

static int
s_set_boolean (const setting_t *setting, void *field, const char *value, char why[200]) {
    (void)setting;
    (void)why;
    if (strcmp (value, "0") != 0 && strcmp (value, "1") != 0) {
        return -1;
    }
    *(bool *)field = value[0] == '1';
    return 0;
}

static void
s_print_boolean (const setting_t *setting, const void *field, ef_buf_t *out) {
    (void)setting;
    s_put (out, *(const bool *)field ? "1" : "0");
}

const config_kind_t config_boolean = {"0 or 1", s_set_boolean, s_print_boolean, NULL, false};

static void
s_store_whole (const setting_t *setting, void *field, uint64_t value) {
    uint32_t half = (uint32_t)value;
    if (setting->bytes == 8) {
        memcpy (field, &value, 8);
    } else if (setting->bytes == 4) {
        memcpy (field, &half, 4);
    } else {
        *(bool *)field = value != 0;
    }
}

static uint64_t
s_load_whole (const setting_t *setting, const void *field) {
    uint64_t value = 0;
    uint32_t half = 0;
    if (setting->bytes == 8) {
        memcpy (&value, field, 8);
        return value;
    }
    if (setting->bytes == 4) {
        memcpy (&half, field, 4);
        return half;
    }
    return *(const bool *)field;
}

static bool
s_is_real (const setting_t *setting) {
    return setting->kind->is_real && setting->bytes == sizeof (double);
}

/* Rounds what a unit's factor may have made a little too small or large. */
static bool
s_round (double number, uint64_t *whole) {
    *whole = (uint64_t)(number + 0.5);
    double off = number - (double)*whole;
    return off < 1e-6 && off > -1e-6;
}

static int
s_set_number (const setting_t *setting, void *field, const char *value, char why[200]) {
    char *end;
    double number;
    uint64_t whole;
    (void)why;
    if ((value[0] < '0' || value[0] > '9') && value[0] != '.') {
        return -1; /* nothing else that strtod takes: signs, spaces, words */
    }
    errno = 0;
    number = strtod (value, &end);
    if (errno || end == value) {
        return -1;
    }
    const unit_t *unit = setting->kind->units;
    while (unit->suffix && strcmp (end, unit->suffix) != 0) {
        unit++;
    }
    if (unit->suffix == NULL && (*end || number > 0)) {
        return -1; /* 0 needs no unit */
    }
    number = unit->suffix ? number * unit->times / unit->per : 0;
    if (!(number >= setting->least && number <= setting->most)) {
        return -1;
    }
    if (s_is_real (setting)) {
        memcpy (field, &number, sizeof number);
        return 0;
    }
    if (!s_round (number, &whole)) {
        return -1;
    }
    s_store_whole (setting, field, whole);
    return 0;
}

/* The fewest digits that are read as the same number. */
static void
s_print_shortest (double number, ef_buf_t *out) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf (text, sizeof text, "%.*g", digits, number);
        if (strtod (text, NULL) == number) {
            break;
        }
    }
    s_put (out, text);
}

/* In the first unit in which it is a whole number. */
static void
s_print_number (const setting_t *setting, const void *field, ef_buf_t *out) {
    double number;
    if (s_is_real (setting)) {
        memcpy (&number, field, sizeof number);
    } else {
        number = (double)s_load_whole (setting, field);
    }
    const unit_t *units = setting->kind->units;
    for (const unit_t *unit = units; number > 0 && unit->suffix; unit++) {
        uint64_t whole;
        if (number * unit->per / unit->times < 1e15 &&
            s_round (number * unit->per / unit->times, &whole) && whole > 0 &&
            (double)whole * unit->times / unit->per == number) {
            char text[40];
            snprintf (text, sizeof text, "%llu%s", (unsigned long long)whole, unit->suffix);
            s_put (out, text);
            return;
        }
    }
    if (number > 0) {
        s_print_shortest (number, out);
    } else {
        s_put (out, "0");
    }
}

static const unit_t s_plain[] = {{"", 1, 1}, {NULL, 0, 0}};
static const unit_t s_durations[] = {{"d", 8.64e7, 1}, {"h", 3.6e6, 1}, {"m", 6e4, 1},
                                     {"s", 1e3, 1},    {"ms", 1, 1},    {NULL, 0, 0}};
static const unit_t s_sizes[] = {
    {"GiB", 1073741824, 1}, {"GB", 1e9, 1}, {"MiB", 1048576, 1}, {"MB", 1e6, 1},
    {"KiB", 1024, 1},       {"kB", 1e3, 1}, {"", 1, 1},          {NULL, 0, 0}};
static const unit_t s_rates[] = {
    {"/s", 1, 1}, {"/m", 1, 60}, {"/h", 1, 3600}, {"", 1, 1}, {NULL, 0, 0}};
static const unit_t s_rooms[] = {
    {"GiB", 1073741824, 1}, {"GB", 1e9, 1}, {"MiB", 1048576, 1}, {"MB", 1e6, 1}, {"KiB", 1024, 1},
    {"kB", 1e3, 1},         {"", 1, 1},     {"%", 1, 100},       {NULL, 0, 0}};
static const unit_t s_ratios[] = {{"", 1, 1}, {"%", 1, 100}, {NULL, 0, 0}};

const config_kind_t config_number = {"a number", s_set_number, s_print_number, s_plain, false};
const config_kind_t config_duration = {"a duration such as 500ms, 5s, 2m, 1h or 7d", s_set_number,
                                       s_print_number, s_durations, false};
const config_kind_t config_size = {"a size such as 65536, 64KiB or 1MiB", s_set_number,
                                   s_print_number, s_sizes, false};
const config_kind_t config_rate = {"a rate such as 100/s, 30/m or 1000/h", s_set_number,
                                   s_print_number, s_rates, true};
const config_kind_t config_factor = {"a factor such as 2 or 1.5", s_set_number, s_print_number,
                                     s_plain, true};
const config_kind_t config_room = {"a size such as 512MiB, or a share such as 5%", s_set_number,
                                   s_print_number, s_rooms, true};
const config_kind_t config_ratio = {"a share such as 0.5 or 50%", s_set_number, s_print_number,
                                    s_ratios, true};

/* The `place`th of "a|b|c"; NULL: there are fewer. */
static const char *
s_choice (const char *choices, uint64_t place, size_t *size) {
    for (const char *at = choices; at; place--) {
        const char *bar = strchr (at, '|');
        *size = bar ? (size_t)(bar - at) : strlen (at);
        if (place == 0) {
            return at;
        }
        at = bar ? bar + 1 : NULL;
    }
    return NULL;
}

static bool
s_is_counted (const setting_t *setting) {
    return setting->bytes == 1 || setting->bytes == 4;
}

static int
s_set_choice (const setting_t *setting, void *field, const char *value, char why[200]) {
    const char *choice;
    size_t size;
    (void)why;
    for (uint64_t i = 0; (choice = s_choice (setting->choices, i, &size)) != NULL; i++) {
        if (strlen (value) == size && memcmp (choice, value, size) == 0) {
            if (s_is_counted (setting)) {
                s_store_whole (setting, field, i);
            } else {
                snprintf (field, setting->bytes, "%s", value);
            }
            return 0;
        }
    }
    return -1;
}

static void
s_print_choice (const setting_t *setting, const void *field, ef_buf_t *out) {
    size_t size;
    if (!s_is_counted (setting)) {
        s_put (out, field);
        return;
    }
    const char *choice = s_choice (setting->choices, s_load_whole (setting, field), &size);
    ef_assert (choice != NULL);
    ef_buf_put (out, choice, size);
}

const config_kind_t config_choice = {"one of", s_set_choice, s_print_choice, NULL, false};

static void
s_bounds (const setting_t *setting, ef_buf_t *out) {
    double ends[2] = {setting->least, setting->most};
    for (unsigned i = 0; setting->most > 0 && i < 2; i++) {
        uint64_t whole = (uint64_t)ends[i];
        uint32_t half = (uint32_t)ends[i];
        const void *field = setting->bytes == 4      ? (const void *)&half
                            : setting->kind->is_real ? (const void *)&ends[i]
                                                     : (const void *)&whole;
        ef_buf_put (out, i ? " to " : " from ", i ? 4 : 6);
        setting->kind->print (setting, field, out);
    }
}

int
config_set (const setting_t *setting, void *base, const char *value, char error[512]) {
    char why[200] = "";
    if (strlen (value) < CONFIG_VALUE_MAX &&
        setting->kind->set (setting, (char *)base + setting->offset, value, why) == 0) {
        return 0;
    }
    ef_buf_t bounds = {0};
    s_bounds (setting, &bounds);
    snprintf (error, 512, "%s = %.100s: expected %s%.*s%s%s%s%.180s", setting->name,
              setting->kind->is_secret ? "..." : value, setting->kind->expected, (int)bounds.size,
              bounds.data ? (char *)bounds.data : "", setting->choices ? " " : "",
              setting->choices ? setting->choices : "", why[0] ? "; " : "", why);
    ef_buf_free (&bounds);
    return -1;
}

/* The setting whose name is nearly this one; NULL: none is near. */
static const char *
s_nearest (const settings_t *settings, const char *name) {
    const char *nearest = NULL;
    unsigned least = strlen (name) < 6 ? 2 : 3; /* more changes make another word */
    for (size_t i = 0; i < settings->count; i++) {
        unsigned distance = ef_distance (name, strlen (name), settings->rows[i].name,
                                         strlen (settings->rows[i].name));
        if (distance < least) {
            least = distance;
            nearest = settings->rows[i].name;
        }
    }
    return nearest;
}

int
config_set_named (const settings_t *settings, void *base, const char *name, const char *value,
                  char error[512]) {
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp (settings->rows[i].name, name) == 0) {
            return config_set (&settings->rows[i], base, value, error);
        }
    }
    const char *nearest = s_nearest (settings, name);
    if (nearest) {
        snprintf (error, 512, "unknown setting %.60s: expected perhaps %s", name, nearest);
        return -1;
    }
    size_t used = (size_t)snprintf (error, 512, "unknown setting %.60s: expected one of", name);
    for (size_t i = 0; i < settings->count; i++) {
        size_t size = strlen (settings->rows[i].name);
        if (used + size + 6 > 512) {
            snprintf (error + used, 512 - used, " ...");
            break;
        }
        used += (size_t)snprintf (error + used, 512 - used, " %s", settings->rows[i].name);
    }
    return -1;
}

void
config_print (const setting_t *setting, const void *base, ef_buf_t *out) {
    setting->kind->print (setting, (const char *)base + setting->offset, out);
}

bool
config_is_same (const setting_t *setting, const void *a, const void *b) {
    ef_buf_t texts[2] = {0};
    config_print (setting, a, &texts[0]);
    config_print (setting, b, &texts[1]);
    bool is_same =
        texts[0].size == texts[1].size &&
        (texts[0].size == 0 || memcmp (texts[0].data, texts[1].data, texts[0].size) == 0);
    ef_buf_free (&texts[0]);
    ef_buf_free (&texts[1]);
    return is_same;
}
