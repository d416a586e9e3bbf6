/*
 * charname.c - Unicode character names, as far as layer names can want them: the letters and digits
 * of ASCII and Greek, and ASCII's punctuation. Case does not matter, as in Python.
 */
#include "core/core.h"
#include "core/regex.h"

#include <string.h>
#include <strings.h>

static const char *const greek[] = {
    "ALPHA", "BETA",  "GAMMA",   "DELTA", "EPSILON", "ZETA",    "ETA",  "THETA", "IOTA",
    "KAPPA", "LAMDA", "MU",      "NU",    "XI",      "OMICRON", "PI",   "RHO",   "FINAL SIGMA",
    "SIGMA", "TAU",   "UPSILON", "PHI",   "CHI",     "PSI",     "OMEGA"};

static const char *const digits[] = {"ZERO", "ONE", "TWO",   "THREE", "FOUR",
                                     "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"};

static const struct {
    const char *name;
    uint32_t code;
} signs[] = {
    {"SPACE", ' '},
    {"EXCLAMATION MARK", '!'},
    {"QUOTATION MARK", '"'},
    {"NUMBER SIGN", '#'},
    {"DOLLAR SIGN", '$'},
    {"PERCENT SIGN", '%'},
    {"AMPERSAND", '&'},
    {"APOSTROPHE", '\''},
    {"LEFT PARENTHESIS", '('},
    {"RIGHT PARENTHESIS", ')'},
    {"ASTERISK", '*'},
    {"PLUS SIGN", '+'},
    {"COMMA", ','},
    {"HYPHEN-MINUS", '-'},
    {"FULL STOP", '.'},
    {"SOLIDUS", '/'},
    {"COLON", ':'},
    {"SEMICOLON", ';'},
    {"LESS-THAN SIGN", '<'},
    {"EQUALS SIGN", '='},
    {"GREATER-THAN SIGN", '>'},
    {"QUESTION MARK", '?'},
    {"COMMERCIAL AT", '@'},
    {"LEFT SQUARE BRACKET", '['},
    {"REVERSE SOLIDUS", '\\'},
    {"RIGHT SQUARE BRACKET", ']'},
    {"CIRCUMFLEX ACCENT", '^'},
    {"LOW LINE", '_'},
    {"GRAVE ACCENT", '`'},
    {"LEFT CURLY BRACKET", '{'},
    {"VERTICAL LINE", '|'},
    {"RIGHT CURLY BRACKET", '}'},
    {"TILDE", '~'},
    {"NO-BREAK SPACE", 0xA0},
    {"EN DASH", 0x2013},
    {"EM DASH", 0x2014},
    {"LATIN SMALL LETTER E WITH ACUTE", 0xE9},
    {"LATIN CAPITAL LETTER E WITH ACUTE", 0xC9},
};

static const struct {
    const char *prefix;
    uint32_t first;
    bool greek;
} scripts[] = {
    {"LATIN SMALL LETTER ", 'a', false},
    {"LATIN CAPITAL LETTER ", 'A', false},
    {"GREEK SMALL LETTER ", 0x3B1, true},
    {"GREEK CAPITAL LETTER ", 0x391, true},
};

static bool letter_name(uint32_t *out, const char *name, uint32_t first, bool is_greek)
{
    if (!is_greek) {
        const char c = (char)(name[0] & ~0x20);

        if (c < 'A' || c > 'Z' || name[1])
            return false;
        *out = first + (uint32_t)(c - 'A');
        return true;
    }
    for (size_t i = 0; i < THAW_COUNT(greek); i++)
        if (!strcasecmp(name, greek[i]) && !(first == 0x391 && i == 17)) {
            *out = first + (uint32_t)i;
            return true;
        }
    return false;
}

bool regex_char_name(uint32_t *out, const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(signs); i++)
        if (!strcasecmp(name, signs[i].name)) {
            *out = signs[i].code;
            return true;
        }
    for (size_t i = 0; i < THAW_COUNT(scripts); i++) {
        const size_t n = strlen(scripts[i].prefix);

        if (!strncasecmp(name, scripts[i].prefix, n))
            return letter_name(out, name + n, scripts[i].first, scripts[i].greek);
    }
    for (size_t i = 0; i < THAW_COUNT(digits) && !strncasecmp(name, "DIGIT ", 6); i++)
        if (!strcasecmp(name + 6, digits[i])) {
            *out = '0' + (uint32_t)i;
            return true;
        }
    return false;
}
