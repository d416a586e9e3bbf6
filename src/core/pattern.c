/*
 * pattern.c - a compiled pattern and its bounded match, on PCRE2.
 *
 * The effort of one match is limited, because patterns come from configuration. Names that do not
 * begin with the pattern's literal prefix are refused without the engine, which is most of them.
 */
#include "core/core.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string.h>

#define MATCH_LIMIT 1000000
#define HEAP_LIMIT  20000 /* KiB */
#define NAME_MOST   60000 /* bytes; below the largest repeat count, see regex.c */
#define STACK_START 32768
#define STACK_MOST  1048576

struct name_pattern {
    char *python;
    text prefix;
    bool literal; /* the prefix is the only match; there is no code then */
    pcre2_general_context *general;
    pcre2_match_context *context;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;
    pcre2_code *code;
};

static void *allocate(size_t size, void *user)
{
    (void)user;
    return thaw__alloc(size);
}

static void release(void *block, void *user)
{
    (void)user;
    thaw__free(block);
}

static thaw_status fail_memory(const char *python)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for pattern '%s'", python);
}

/* What our translation made and PCRE2 still refuses is beyond what we support. */
static thaw_status compile_translated(name_pattern *p, const char *translated)
{
    thaw_status status = THAW_OK;
    pcre2_compile_context *context = pcre2_compile_context_create(p->general);
    int code = 0;
    PCRE2_SIZE offset;
    PCRE2_UCHAR message[128] = "";

    if (!context)
        return fail_memory(p->python);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 1000);
    p->code = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_ENDANCHORED |
                                PCRE2_NO_UTF_CHECK,
                            &code, &offset, context);
    if (!p->code) {
        pcre2_get_error_message(code, message, sizeof(message));
        status =
            code == PCRE2_ERROR_NOMEMORY || code == 121
                ? fail_memory(p->python)
                : thaw_fail(code == 120 ? THAW_E_LIMIT : THAW_E_SUPPORT,
                            "pattern '%s': not supported: %s", p->python, (const char *)message);
    }
    pcre2_compile_context_free(context);
    return status;
}

/* Without just-in-time code (a platform may forbid it) matching is slower and means the same. */
static thaw_status prepare_match(name_pattern *p)
{
    p->context = pcre2_match_context_create(p->general);
    p->data = pcre2_match_data_create(1, p->general);
    if (!p->context || !p->data)
        return fail_memory(p->python);
    pcre2_set_match_limit(p->context, MATCH_LIMIT);
    pcre2_set_heap_limit(p->context, HEAP_LIMIT);
    if (pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0) {
        p->stack = pcre2_jit_stack_create(STACK_START, STACK_MOST, p->general);
        if (p->stack)
            pcre2_jit_stack_assign(p->context, NULL, p->stack);
    }
    return THAW_OK;
}

/* The prefix is taken over; where it is the only match, the engine is not needed. */
static thaw_status compile(name_pattern **out, const char *python, const char *translated,
                           text *prefix, bool literal)
{
    thaw_status status = THAW_OK;
    name_pattern *p = thaw__new(1, sizeof(*p));

    if (!p)
        return fail_memory(python);
    p->prefix = *prefix;
    p->literal = literal;
    *prefix = (text)TEXT_INIT;
    p->python = thaw__strdup(python);
    p->general = pcre2_general_context_create(allocate, release, NULL);
    if (!p->python || !p->general) {
        status = fail_memory(python);
        goto done;
    }
    if (!literal) {
        THAW_TRY(compile_translated(p, translated));
        THAW_TRY(prepare_match(p));
    }
    *out = p;
    p = NULL;
done:
    pattern_destroy(p);
    return status;
}

thaw_status pattern_compile(name_pattern **out, const char *python)
{
    thaw_status status = THAW_OK;
    text translated = TEXT_INIT, prefix = TEXT_INIT;
    bool literal;

    THAW_TRY(regex_translate(&translated, &prefix, &literal, python));
    THAW_TRY(compile(out, python, translated.data ? translated.data : "", &prefix, literal));
done:
    text_done(&prefix);
    text_done(&translated);
    return status;
}

thaw_status pattern_compile_engine(name_pattern **out, const char *pcre2)
{
    text prefix = TEXT_INIT;

    return compile(out, pcre2, pcre2, &prefix, false);
}

void pattern_destroy(name_pattern *p)
{
    if (!p)
        return;
    pcre2_jit_stack_free(p->stack);
    pcre2_match_data_free(p->data);
    pcre2_match_context_free(p->context);
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->general);
    text_done(&p->prefix);
    thaw__free(p->python);
    thaw__free(p);
}

const char *pattern_only_match(const name_pattern *p)
{
    return !p->literal ? NULL : p->prefix.data ? p->prefix.data : "";
}

thaw_status pattern_match(bool *out, const name_pattern *p, const char *name)
{
    size_t n;
    int code;

    if (p->prefix.length && strncmp(name, p->prefix.data, p->prefix.length) != 0) {
        *out = false;
        return THAW_OK;
    }
    n = strlen(name);
    if (p->literal) {
        *out = n == p->prefix.length;
        return THAW_OK;
    }
    if (n > NAME_MOST)
        return thaw_fail(THAW_E_LIMIT, "a name of %zu bytes is too long to match", n);
    code = pcre2_match(p->code, (PCRE2_SPTR)name, n, 0, PCRE2_NO_UTF_CHECK, p->data, p->context);
    if (code >= 0 || code == PCRE2_ERROR_NOMATCH) {
        *out = code >= 0;
        return THAW_OK;
    }
    if (code == PCRE2_ERROR_MATCHLIMIT || code == PCRE2_ERROR_DEPTHLIMIT ||
        code == PCRE2_ERROR_HEAPLIMIT || code == PCRE2_ERROR_JIT_STACKLIMIT)
        return thaw_fail(THAW_E_LIMIT,
                         "pattern '%s' takes too long on '%s'; repeats inside repeats do that",
                         p->python, name);
    if (code == PCRE2_ERROR_NOMEMORY)
        return fail_memory(p->python);
    return thaw_fail(THAW_E_INTERNAL, "pattern '%s' failed on '%s' with code %d", p->python, name,
                     code);
}
