/*
 * test_subset.c - choosing samples: classes, range, and a draw per class, against a plain model of
 * what the header says.
 */
#include "data/data.h"

#include "check.h"

#define N 1000

static uint8_t label[N]; /* labels 0 … 9, about 100 each, in no order */

static int make_labels(void **state)
{
    uint64_t s = 5;

    (void)state;
    for (int i = 0; i < N; i++)
        label[i] = (uint8_t)(splitmix64(&s) % 10);
    return 0;
}

static sample_selection take(const dataset_subset *u, int expected)
{
    sample_selection s = {0};

    CHECK_OK(dataset_select(&s, label, N, u, expected, "labels"));
    for (int64_t i = 0; i < s.n; i++) {
        CHECK(s.index[i] >= 0 && s.index[i] < N);
        CHECK_MSG(i == 0 || s.index[i] > s.index[i - 1], "sample %lld is out of order",
                  (long long)i);
    }
    return s;
}

static void test_everything(void **state)
{
    sample_selection s = take(NULL, 0);

    (void)state;
    CHECK_INT(s.n, N);
    CHECK_INT(s.n_classes, 10);
    CHECK_INT(s.class_of[7], 7);
    thaw__free(s.index);
    s = take(NULL, 1000);
    CHECK_INT(s.n_classes, 1000);
    thaw__free(s.index);
}

static void test_classes_then_range(void **state)
{
    const int64_t classes[] = {7, 2, 4};
    const dataset_subset u = {.classes = classes, .n_classes = 3, .skip = 20, .first = 50};
    int64_t want[N], n = 0;
    sample_selection s;

    (void)state;
    for (int i = 0; i < N; i++)
        if (label[i] == 7 || label[i] == 2 || label[i] == 4)
            want[n++] = i;
    s = take(&u, 0);
    CHECK_INT(s.n, 50);
    CHECK_BYTES(s.index, want + 20, 50 * sizeof *want);
    CHECK_INT(s.n_classes, 3);
    CHECK_INT(s.class_of[7], 0);
    CHECK_INT(s.class_of[2], 1);
    CHECK_INT(s.class_of[4], 2);
    CHECK_INT(s.class_of[0], -1);
    thaw__free(s.index);
    s = take(&u, 10);
    CHECK_INT(s.n_classes, 10);
    thaw__free(s.index);
}

static void count(int64_t out[10], const sample_selection *s)
{
    memset(out, 0, 10 * sizeof *out);
    for (int64_t i = 0; i < s->n; i++)
        out[label[s->index[i]]]++;
}

static void test_per_class(void **state)
{
    const int64_t some[] = {3, 8}, more[] = {8, 1, 3};
    sample_selection a, b, c;
    int64_t got[10];
    bool differs = false;

    (void)state;
    a = take(&(dataset_subset){.classes = some, .n_classes = 2, .per_class = 20, .seed = 1}, 0);
    count(got, &a);
    CHECK_INT(a.n, 40);
    CHECK_INT(got[3], 20);
    CHECK_INT(got[8], 20);

    b = take(&(dataset_subset){.classes = some, .n_classes = 2, .per_class = 20, .seed = 1}, 0);
    CHECK_BYTES(b.index, a.index, 40 * sizeof *a.index);
    thaw__free(b.index);

    b = take(&(dataset_subset){.classes = some, .n_classes = 2, .per_class = 20, .seed = 2}, 0);
    for (int i = 0; i < 40; i++)
        differs = differs || b.index[i] != a.index[i];
    CHECK_MSG(differs, "seeds 1 and 2 draw the same samples");

    /* a draw does not depend on the other classes */
    c = take(&(dataset_subset){.classes = more, .n_classes = 3, .per_class = 20, .seed = 1}, 0);
    CHECK_INT(c.n, 60);
    for (int64_t i = 0, k = 0; i < c.n; i++)
        if (label[c.index[i]] != 1)
            CHECK_INT(c.index[i], a.index[k++]);
    thaw__free(a.index);
    thaw__free(b.index);
    thaw__free(c.index);
}

static void test_per_class_after_range(void **state)
{
    const dataset_subset u = {.skip = 300, .first = 400, .per_class = 5, .seed = 9};
    sample_selection s = take(&u, 0);
    int64_t got[10];

    (void)state;
    count(got, &s);
    for (int i = 0; i < 10; i++)
        CHECK_INT(got[i], 5);
    CHECK(s.index[0] >= 300 && s.index[s.n - 1] < 700);
    thaw__free(s.index);
}

static void test_draws_are_even(void **state)
{
    /* 2000 draws of 10 of the samples of class 0: each sample about equally often */
    int64_t hits[N] = {0}, have = 0;
    const int64_t zero[] = {0};

    (void)state;
    for (int i = 0; i < N; i++)
        have += label[i] == 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        sample_selection s = take(
            &(dataset_subset){.classes = zero, .n_classes = 1, .per_class = 10, .seed = seed}, 0);

        for (int64_t i = 0; i < s.n; i++)
            hits[s.index[i]]++;
        thaw__free(s.index);
    }
    for (int i = 0; i < N; i++) {
        const double mean = 20000.0 / (double)have;

        if (label[i] == 0)
            CHECK_NEAR(hits[i], mean, 0, 6 * sqrt(mean));
    }
}

static thaw_status refuse(const dataset_subset *u, int expected)
{
    sample_selection s = {0};
    const thaw_status status = dataset_select(&s, label, N, u, expected, "the-labels");

    CHECK_MSG(s.index == NULL, "output touched on failure");
    return status;
}

static void test_refused(void **state)
{
    const int64_t twelve[] = {3, 12}, huge[] = {300}, minus[] = {-1}, twice[] = {3, 4, 3},
                  three[] = {1, 2, 3};
    const dataset_subset range[] = {{.skip = -1},
                                    {.first = -5},
                                    {.per_class = -2},
                                    {.classes = three, .n_classes = 0},
                                    {.classes = three, .n_classes = 257},
                                    {.classes = twice, .n_classes = 3}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(range); i++)
        CHECK_STATUS(refuse(&range[i], 0), THAW_E_RANGE);
    CHECK_ERROR(refuse(NULL, 9), THAW_E_DATA, "'the-labels' is 9, expected 0 to 8");
    CHECK_ERROR(refuse(&(dataset_subset){.classes = twelve, .n_classes = 2}, 0), THAW_E_DATA,
                "class 12 was chosen but 'the-labels' has no such label: its largest is 9");
    CHECK_STATUS(refuse(&(dataset_subset){.classes = huge, .n_classes = 1}, 0), THAW_E_DATA);
    CHECK_STATUS(refuse(&(dataset_subset){.classes = minus, .n_classes = 1}, 0), THAW_E_DATA);
    CHECK_ERROR(refuse(&(dataset_subset){.classes = three, .n_classes = 3}, 2), THAW_E_DATA,
                "3 classes of 'the-labels' were chosen, expected at most 2");
    CHECK_ERROR(refuse(&(dataset_subset){.skip = 1000}, 0), THAW_E_DATA,
                "no samples are left of 'the-labels': skip is 1000 and there are 1000");
    CHECK_ERROR(refuse(&(dataset_subset){.skip = 990, .first = 11}, 0), THAW_E_DATA,
                "the first 11 samples of 'the-labels' were asked for and there are 10");
    CHECK_ERROR(refuse(&(dataset_subset){.per_class = 500}, 0), THAW_E_DATA,
                "class 0 of 'the-labels' has");
    CHECK_ERROR(refuse(&(dataset_subset){.per_class = 1}, 11), THAW_E_DATA,
                "class 10 of 'the-labels' has 0 samples to choose from, per_class asks for 1");
}

static void test_no_memory(void **state)
{
    (void)state;
    for (int n = 1, more = 1; more; n++) {
        sample_selection s = {0};
        thaw_status status;

        check_alloc_fail(n, false);
        status = dataset_select(&s, label, N, &(dataset_subset){.per_class = 3}, 0, "x");
        more = check_alloc_restore();
        CHECK_STATUS(status, more ? THAW_E_NOMEM : THAW_OK);
        thaw__free(s.index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything),     cmocka_unit_test(test_classes_then_range),
        cmocka_unit_test(test_per_class),      cmocka_unit_test(test_per_class_after_range),
        cmocka_unit_test(test_draws_are_even), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests_name("data/subset", tests, make_labels, NULL);
}
