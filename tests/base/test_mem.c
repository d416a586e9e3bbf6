/* test_mem.c - blocks, counting, growing lists, regions, and running out of memory. */
#include "base/base.h"

#include "check.h"

static void blocks_are_aligned_zeroed_and_counted(void **state)
{
    const size_t before = thaw__mem_current();
    char *block = thaw__new(100, 3);

    (void)state;
    CHECK_INT((uintptr_t)block % 64, 0);
    for (int i = 0; i < 300; i++)
        CHECK_INT(block[i], 0);
    CHECK(thaw__mem_current() >= before + 300);
    thaw__free(block);
    CHECK_INT(thaw__mem_current(), before);
    thaw__free(NULL);
}

static void peak_is_the_largest(void **state)
{
    void *block;

    (void)state;
    thaw__mem_peak_reset();
    const size_t before = thaw__mem_peak();
    block = thaw__new(1, 1 << 20);
    thaw__free(block);
    CHECK(thaw__mem_peak() >= before + (1 << 20));
    thaw__mem_peak_reset();
    CHECK_INT(thaw__mem_peak(), thaw__mem_current());
}

static void products_that_overflow_give_null(void **state)
{
    size_t r = 7;

    (void)state;
    CHECK(thaw__new(SIZE_MAX / 2, 3) == NULL);
    CHECK(thaw__alloc(SIZE_MAX) == NULL);
    CHECK(!size_mul(&r, SIZE_MAX, 2) && r == 7);
    CHECK(!size_add(&r, SIZE_MAX, 1) && r == 7);
    CHECK(size_mul(&r, 6, 7) && r == 42);
}

static void resize_keeps_contents(void **state)
{
    int *list = thaw__new(4, sizeof *list);

    (void)state;
    for (int i = 0; i < 4; i++)
        list[i] = i + 1;
    list = thaw__resize(list, 1000, sizeof *list);
    for (int i = 0; i < 1000; i++)
        CHECK_INT(list[i], i < 4 ? i + 1 : 0);
    list = thaw__resize(list, 2, sizeof *list);
    CHECK_INT(list[1], 2);
    thaw__free(list);
}

static void reserve_doubles(void **state)
{
    int *list = NULL;
    size_t capacity = 0;

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        CHECK_OK(thaw__reserve(&list, &capacity, i + 1, sizeof *list));
        list[i] = (int)i;
    }
    for (size_t i = 0; i < 1000; i++)
        CHECK_INT(list[i], i);
    CHECK_STATUS(thaw__reserve(&list, &capacity, SIZE_MAX / 2, sizeof *list), THAW_E_NOMEM);
    CHECK_INT(list[999], 999);
    thaw__free(list);
}

static void regions_hold_small_and_large(void **state)
{
    const size_t before = thaw__mem_current();
    thaw_region *region;
    char *large;

    (void)state;
    CHECK_OK(region_create(&region));
    for (int i = 0; i < 5000; i++) {
        int64_t *p = region_alloc(region, 3, sizeof *p);

        CHECK_INT((uintptr_t)p % 16, 0);
        CHECK_INT(p[0] | p[1] | p[2], 0);
        p[0] = p[2] = -1;
    }
    large = region_alloc(region, 1, 1 << 20);
    memset(large, 1, 1 << 20);
    CHECK_STR(region_strdup(region, "word"), "word");
    CHECK(region_alloc(region, SIZE_MAX, 2) == NULL);
    region_destroy(region);
    region_destroy(NULL);
    CHECK_INT(thaw__mem_current(), before);
}

static void *refuse(void *user, size_t size)
{
    (void)user;
    (void)size;
    return NULL;
}

static void release_nothing(void *user, void *block, size_t size)
{
    (void)user;
    (void)block;
    (void)size;
}

static void running_out_is_an_error(void **state)
{
    const thaw_allocator nothing = {refuse, release_nothing, NULL};
    size_t capacity = 0;
    int *list = NULL;
    thaw_region *region = NULL;

    (void)state;
    thaw_set_allocator(&nothing);
    CHECK(thaw__new(1, 1) == NULL);
    CHECK(thaw__strdup("x") == NULL);
    CHECK_STATUS(thaw__reserve(&list, &capacity, 1, 4), THAW_E_NOMEM);
    CHECK_STATUS(region_create(&region), THAW_E_NOMEM);
    CHECK(list == NULL && region == NULL && capacity == 0);
    thaw_set_allocator(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_zeroed_and_counted),
        cmocka_unit_test(peak_is_the_largest),
        cmocka_unit_test(products_that_overflow_give_null),
        cmocka_unit_test(resize_keeps_contents),
        cmocka_unit_test(reserve_doubles),
        cmocka_unit_test(regions_hold_small_and_large),
        cmocka_unit_test(running_out_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
