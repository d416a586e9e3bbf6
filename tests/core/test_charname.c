/* test_charname.c - \N{…}: the names that are known, and those that are said to be unknown. */
#include "trees.h"

static void known_names(void **state)
{
    static const struct {
        const char *pattern, *name;
    } row[] = {{"\\N{GREEK SMALL LETTER ALPHA}", "\xce\xb1"},
               {"\\N{greek small letter omega}", "\xcf\x89"},
               {"\\N{GREEK SMALL LETTER FINAL SIGMA}", "\xcf\x82"},
               {"\\N{GREEK CAPITAL LETTER SIGMA}", "\xce\xa3"},
               {"\\N{LATIN CAPITAL LETTER Q}", "Q"},
               {"[\\N{DIGIT ZERO}-\\N{DIGIT NINE}]", "7"},
               {"\\N{FULL STOP}", "."}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        name_pattern *p = NULL;
        bool hit = false;

        CHECK_OK(pattern_compile(&p, row[i].pattern));
        CHECK_OK(pattern_match(&hit, p, row[i].name));
        CHECK_MSG(hit, "'%s' does not match '%s'", row[i].pattern, row[i].name);
        pattern_destroy(p);
    }
}

static void other_names(void **state)
{
    name_pattern *p = NULL;

    (void)state;
    CHECK_ERROR(pattern_compile(&p, "\\N{SNOWMAN}"), THAW_E_SUPPORT, "\\uXXXX");
    CHECK_STATUS(pattern_compile(&p, "\\N{GREEK CAPITAL LETTER FINAL SIGMA}"), THAW_E_SUPPORT);
    CHECK_STATUS(pattern_compile(&p, "\\N{LATIN SMALL LETTER ZZ}"), THAW_E_SUPPORT);
    CHECK_STATUS(pattern_compile(&p, "\\N"), THAW_E_PATTERN);
    CHECK_STATUS(pattern_compile(&p, "\\N{}"), THAW_E_PATTERN);
    CHECK_STATUS(pattern_compile(&p, "\\N{SPACE"), THAW_E_PATTERN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_names),
        cmocka_unit_test(other_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
