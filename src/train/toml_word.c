/*
 * toml_word.c - TOML values without quotes: numbers, booleans, dates and times.
 *
 * One word in; a value, or what is wrong with it, out. The grammar is checked here byte by byte, so
 * that nothing depends on the C library's locale.
 *
 * Must not know of documents, places and tables.
 */
#include "train/toml.h"

#include <math.h>
#include <string.h>

static int digit_value(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

/* Behind a run of digits with single underscores between them; p itself when there is none. */
static const char *skip_digits(const char *p, int base)
{
    if (digit_value(*p) >= base)
        return p;
    for (p++; digit_value(*p) < base || (*p == '_' && digit_value(p[1]) < base); p++)
        ;
    return p;
}

/* ----------------------------------------------------------------------------------------------
 * dates and times */

/* Exactly n digits, as a number. */
static bool take_digits(int *out, const char **p, int n)
{
    int value = 0;

    for (int i = 0; i < n; i++) {
        if ((*p)[i] < '0' || (*p)[i] > '9')
            return false;
        value = value * 10 + ((*p)[i] - '0');
    }
    *p += n;
    *out = value;
    return true;
}

static bool take_char(const char **p, const char *any)
{
    if (**p == '\0' || !strchr(any, **p))
        return false;
    (*p)++;
    return true;
}

static bool take_date(const char **p)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;

    if (!take_digits(&year, p, 4) || !take_char(p, "-") || !take_digits(&month, p, 2) ||
        !take_char(p, "-") || !take_digits(&day, p, 2) || year < 1 || month < 1 || month > 12 ||
        day < 1)
        return false;
    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
        return day <= 29;
    return day <= days[month - 1];
}

static bool take_hour_minute(const char **p)
{
    int hour, minute;

    return take_digits(&hour, p, 2) && take_char(p, ":") && take_digits(&minute, p, 2) &&
           hour < 24 && minute < 60;
}

static bool take_time(const char **p)
{
    int second, digit;

    if (!take_hour_minute(p) || !take_char(p, ":") || !take_digits(&second, p, 2) || second > 59)
        return false;
    if (!take_char(p, "."))
        return true;
    if (!take_digits(&digit, p, 1))
        return false;
    while (take_digits(&digit, p, 1))
        ;
    return true;
}

static bool is_datetime(const char *word)
{
    const char *p = word;

    if (strlen(word) > 2 && word[2] == ':')
        return take_time(&p) && *p == '\0';
    if (!take_date(&p))
        return false;
    if (*p == '\0')
        return true;
    if (!take_char(&p, "Tt ") || !take_time(&p))
        return false;
    if (take_char(&p, "+-"))
        return take_hour_minute(&p) && *p == '\0';
    return *p == '\0' || (take_char(&p, "Zz") && *p == '\0');
}

/* ----------------------------------------------------------------------------------------------
 * numbers */

static const char *read_integer(toml_value *v, const char *digits, int base, bool minus)
{
    int64_t value = 0;

    for (const char *p = digits; *p; p++) {
        const int64_t d = digit_value(*p);

        if (*p == '_')
            continue;
        if (__builtin_mul_overflow(value, (int64_t)base, &value) ||
            (minus ? __builtin_sub_overflow(value, d, &value)
                   : __builtin_add_overflow(value, d, &value)))
            return "this integer does not fit in 64 bits; write it smaller";
    }
    v->type = TOML_INTEGER;
    v->integer = value;
    return NULL;
}

/* word: checked syntax; underscores are taken out of it. */
static const char *read_float(toml_value *v, char *word)
{
    char *to = word;

    for (const char *from = word; *from; from++)
        if (*from != '_')
            *to++ = *from;
    *to = '\0';
    if (!parse_double(&v->real, word))
        return "this number is too large or too long for a double; write it smaller";
    v->type = TOML_FLOAT;
    return NULL;
}

static const char *bad_word(const char *word)
{
    if (*word == '\0')
        return "a value is missing; write one";
    if (strcmp(word, "True") == 0 || strcmp(word, "False") == 0)
        return "this is not a value; booleans are 'true' and 'false'";
    if (strspn(word, "0123456789-:") >= 5)
        return "this is not a date or time; they look like 2024-02-29 and 07:30:00";
    if (*word == '.')
        return "a number must not begin with '.'; put a '0' before it";
    return "this is not a value; a string needs quotes";
}

static const char *read_decimal(toml_value *v, char *word)
{
    char *const digits = word + (*word == '+' || *word == '-');
    const char *p = skip_digits(digits, 10);

    if (p == digits)
        return bad_word(word);
    if (digits[0] == '0' && p > digits + 1 && strspn(word, "0123456789_+-.eE") == strlen(word) &&
        !strchr(digits, '-'))
        return "a number must not begin with '0'; leave it out";
    if (digits[0] == '0' && p > digits + 1)
        return bad_word(word);
    if (*p == '\0')
        return read_integer(v, digits, 10, *word == '-');
    if (*p == '.') {
        const char *const fraction = p + 1;

        p = skip_digits(fraction, 10);
        if (p == fraction)
            return "digits are missing behind the point; add a '0'";
    }
    if (*p == 'e' || *p == 'E') {
        const char *const exponent = p + 1 + (p[1] == '+' || p[1] == '-');

        p = skip_digits(exponent, 10);
        if (p == exponent)
            return bad_word(word);
    }
    return *p == '\0' ? read_float(v, word) : bad_word(word);
}

const char *toml_word(toml_value *v, char *word)
{
    static const struct {
        const char *word;
        toml_type type;
        bool boolean;
        double real;
    } words[] = {
        {"true", TOML_BOOLEAN, true, 0},        {"false", TOML_BOOLEAN, false, 0},
        {"inf", TOML_FLOAT, false, INFINITY},   {"+inf", TOML_FLOAT, false, INFINITY},
        {"-inf", TOML_FLOAT, false, -INFINITY}, {"nan", TOML_FLOAT, false, NAN},
        {"+nan", TOML_FLOAT, false, NAN},       {"-nan", TOML_FLOAT, false, NAN},
    };
    static const struct {
        char letter;
        int base;
    } bases[] = {{'x', 16}, {'o', 8}, {'b', 2}};

    for (size_t i = 0; i < THAW_COUNT(words); i++) {
        if (strcmp(word, words[i].word) != 0)
            continue;
        v->type = words[i].type;
        v->boolean = words[i].boolean;
        v->real = words[i].real;
        return NULL;
    }
    for (size_t i = 0; word[0] == '0' && i < THAW_COUNT(bases); i++)
        if (word[1] == bases[i].letter) {
            const char *const p = skip_digits(word + 2, bases[i].base);

            return p > word + 2 && *p == '\0' ? read_integer(v, word + 2, bases[i].base, false)
                                              : bad_word(word);
        }
    if (is_datetime(word)) {
        v->type = TOML_DATETIME;
        return NULL;
    }
    return read_decimal(v, word);
}
