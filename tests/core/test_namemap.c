/* test_namemap.c - names to numbers, and the code points of UTF-8. */
#include "trees.h"

static void every_name_is_found_again(void **state)
{
    static char name[5000][16];
    name_map map = {0};

    (void)state;
    CHECK_INT(name_map_get(&map, "x"), -1);
    for (int i = 0; i < 5000; i++) {
        snprintf(name[i], sizeof(name[i]), "n%d", i * 7);
        CHECK_OK(name_map_put(&map, name[i], i));
    }
    for (int i = 0; i < 5000; i++)
        CHECK_INT(name_map_get(&map, name[i]), i);
    CHECK_INT(name_map_get(&map, "n1"), -1);
    CHECK_OK(name_map_put(&map, "n7", 99));
    CHECK_INT(name_map_get(&map, "n7"), 99);
    CHECK_INT(map.n, 5000);
    name_map_done(&map);
}

static void code_points_go_both_ways(void **state)
{
    static const uint32_t code[] = {1,      0x41,   0x7F,   0x80,    0x7FF,   0x800,
                                    0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(code); i++) {
        text t = TEXT_INIT;
        const char *s;

        utf8_put(&t, code[i]);
        s = t.data;
        CHECK(utf8_valid(t.data));
        CHECK_INT(utf8_next(&s), code[i]);
        CHECK_INT(s - t.data, t.length);
        CHECK_INT(utf8_next(&s), 0);
        text_done(&t);
    }
}

static void malformed_text_is_told(void **state)
{
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc3",
                                      "\xe2\x82",
                                      "a\xff"};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(bad); i++)
        CHECK_MSG(!utf8_valid(bad[i]), "text %zu passes", i);
    CHECK(utf8_valid("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_found_again),
        cmocka_unit_test(code_points_go_both_ways),
        cmocka_unit_test(malformed_text_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
