/*
 * test_crew.c - every task runs once, whatever the number of workers and tasks, round after round.
 */
#include "data/data.h"

#include "check.h"

#define MOST 100

typedef struct tally {
    int done[MOST];
    int workers;
} tally;

static void count(void *user, int worker, int64_t i)
{
    tally *t = user;

    if (worker < 0 || worker >= t->workers)
        abort();
    __atomic_add_fetch(&t->done[i], 1, __ATOMIC_SEQ_CST);
}

static void test_rounds(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 5; workers++) {
        crew *c = NULL;

        CHECK_OK(crew_create(&c, workers));
        CHECK_INT(crew_size(c), workers);
        for (int64_t n = 0; n <= MOST; n += 7) {
            tally t = {.workers = workers};

            crew_run(c, n, count, &t);
            for (int64_t i = 0; i < MOST; i++)
                CHECK_INT(t.done[i], i < n);
        }
        crew_destroy(c);
    }
    crew_destroy(NULL);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (int n = 1, more = 1; more; n++) {
        crew *c = NULL;
        thaw_status status;

        check_alloc_fail(n, false);
        status = crew_create(&c, 3);
        more = check_alloc_restore();
        CHECK_INT(status, more ? THAW_E_NOMEM : THAW_OK);
        crew_destroy(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
