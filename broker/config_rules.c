/* Rules for failures: retry_on and dead_on. SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "core/policy.h"

#include <stdio.h>
#include <stdlib.h>

/* What a rule leaves to its topic, until config_settle_rules. */
#define OPEN_KIND   EF_POLICY_COUNT
#define OPEN_JITTER (-1.0)

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static int
s_add_rule (ef_rule_t *rules, uint32_t *count, const ef_rule_t *rule, char why[200]) {
    if (*count == EF_RULES_MAX) {
        snprintf (why, 200, "retry_on and dead_on have more than %u rules together", EF_RULES_MAX);
        return -1;
    }
    rules[(*count)++] = *rule;
    return 0;
}

/* Puts new rules of one kind in the place of the old ones: the permanent ones come first. */
static int
s_replace_rules (ef_topic_config_t *topic, const ef_rule_t *rules, uint32_t count,
                 bool is_permanent, char why[200]) {
    ef_rule_t all[EF_RULES_MAX] = {0};
    uint32_t total = 0;
    for (unsigned part = 0; part < 2; part++) {
        bool is_new = is_permanent == (part == 0);
        for (uint32_t i = 0; i < (is_new ? count : topic->rule_count); i++) {
            const ef_rule_t *rule = is_new ? &rules[i] : &topic->rules[i];
            if (rule->is_permanent == (part == 0) && s_add_rule (all, &total, rule, why)) {
                return -1;
            }
        }
    }
    memcpy (topic->rules, all, sizeof all);
    topic->rule_count = total;
    return 0;
}

/* One word of a rule behind its pattern: a kind, or name=value. */
static int
s_set_policy (ef_policy_t *policy, char *word, char why[200]) {
    char *equal = strchr (word, '=');
    char error[512];
    if (equal == NULL) {
        for (unsigned i = 0; i < EF_POLICY_COUNT; i++) {
            if (strcmp (word, ef_policy_name ((ef_policy_kind_t)i)) == 0) {
                policy->kind = (ef_policy_kind_t)i;
                return 0;
            }
        }
        snprintf (why, 200, "%.60s is none of them", word);
        return -1;
    }
    *equal = '\0';
    int rc = config_set_named (&config_policy_rows, policy, word, equal + 1, error);
    if (rc) {
        snprintf (why, 200, "%.190s", error);
    }
    return rc;
}

static int
s_set_rule (ef_rule_t *rule, char *text, char why[200]) {
    char *rest;
    char *word = strtok_r (text, " \t", &rest);
    if (word == NULL || strlen (word) >= sizeof rule->pattern) {
        snprintf (why, 200, "a code has up to %zu bytes", sizeof rule->pattern - 1);
        return -1;
    }
    memset (rule, 0, sizeof *rule);
    strcpy (rule->pattern, word);
    rule->policy.kind = OPEN_KIND;
    rule->policy.jitter = OPEN_JITTER;
    while ((word = strtok_r (NULL, " \t", &rest)) != NULL) {
        if (s_set_policy (&rule->policy, word, why)) {
            return -1;
        }
    }
    return 0;
}

static int
s_set_retry_on (const setting_t *setting, void *field, const char *value, char why[200]) {
    const char *at = config_list (value);
    ef_rule_t rules[EF_RULES_MAX];
    ef_rule_t rule;
    uint32_t count = 0;
    char text[512];
    int rc;
    (void)setting;
    while ((rc = config_next (&at, ';', text, sizeof text, why)) > 0) {
        if (s_set_rule (&rule, text, why) || s_add_rule (rules, &count, &rule, why)) {
            return -1;
        }
    }
    return rc ? -1 : s_replace_rules (field, rules, count, false, why);
}

static int
s_set_dead_on (const setting_t *setting, void *field, const char *value, char why[200]) {
    const char *at = config_list (value);
    ef_rule_t rules[EF_RULES_MAX];
    ef_rule_t rule = {.is_permanent = true};
    uint32_t count = 0;
    int rc;
    (void)setting;
    while ((rc = config_next (&at, ',', rule.pattern, sizeof rule.pattern, why)) > 0) {
        if (strpbrk (rule.pattern, " \t;")) {
            snprintf (why, 200, "a code has no spaces");
            return -1;
        }
        if (s_add_rule (rules, &count, &rule, why)) {
            return -1;
        }
    }
    return rc ? -1 : s_replace_rules (field, rules, count, true, why);
}

/* A cap that isn't said never cuts a base that is. */
static uint32_t
s_open_cap (const ef_topic_config_t *topic, uint32_t base_ms) {
    return topic->retry.cap_ms > base_ms ? topic->retry.cap_ms : base_ms;
}

void
config_settle_rules (ef_topic_config_t *topic) {
    for (uint32_t i = 0; i < topic->rule_count; i++) {
        ef_policy_t *policy = &topic->rules[i].policy;
        if (topic->rules[i].is_permanent) {
            continue;
        }
        policy->kind = policy->kind == OPEN_KIND ? topic->retry.kind : policy->kind;
        policy->base_ms = policy->base_ms ? policy->base_ms : topic->retry.base_ms;
        policy->cap_ms = policy->cap_ms ? policy->cap_ms : s_open_cap (topic, policy->base_ms);
        policy->factor = policy->factor > 0 ? policy->factor : topic->retry.factor;
        policy->jitter = policy->jitter >= 0 ? policy->jitter : topic->retry.jitter;
        policy->attempts = policy->attempts ? policy->attempts : topic->retry.attempts;
    }
}

/* What is as its topic has it isn't said. */
static void
s_print_retry_on (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_topic_config_t *topic = field;
    const char *separator = "";
    (void)setting;
    for (uint32_t i = 0; i < topic->rule_count; i++) {
        const ef_rule_t *rule = &topic->rules[i];
        if (rule->is_permanent) {
            continue;
        }
        ef_policy_t usual = topic->retry;
        usual.cap_ms = s_open_cap (topic, rule->policy.base_ms);
        s_put (out, separator);
        s_put (out, rule->pattern);
        separator = "; ";
        if (rule->policy.kind < EF_POLICY_COUNT) {
            s_put (out, " ");
            s_put (out, ef_policy_name (rule->policy.kind));
        }
        for (size_t k = 0; k < config_policy_rows.count; k++) {
            const setting_t *row = &config_policy_rows.rows[k];
            if (!config_is_same (row, &rule->policy, &usual)) {
                s_put (out, " ");
                s_put (out, row->name);
                s_put (out, "=");
                config_print (row, &rule->policy, out);
            }
        }
    }
}

static void
s_print_dead_on (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_topic_config_t *topic = field;
    (void)setting;
    for (uint32_t i = 0; i < topic->rule_count && topic->rules[i].is_permanent; i++) {
        s_put (out, i ? ", " : "");
        s_put (out, topic->rules[i].pattern);
    }
}

const config_kind_t config_retry_on = {
    "rules \"CODE [exponential|fixed|linear|random] [base=1s] [factor=2] [cap=5m] [jitter=1] "
    "[attempts=5]; ...\"",
    s_set_retry_on, s_print_retry_on, NULL, false};
const config_kind_t config_dead_on = {"codes such as \"65, 55*, BAD_*\"", s_set_dead_on,
                                      s_print_dead_on, NULL, false};
