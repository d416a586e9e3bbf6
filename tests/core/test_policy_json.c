/* test_policy_json.c - a policy as text and back, and texts that are none. */
#include "trees.h"

static const thaw_rates rates = {0.1, 2, 0.5};

static thaw_policy *busy_policy(const thaw_tree *t)
{
    const char *body = "backbone", *layer = "backbone\\.layer1\\.0", *head = "head";
    thaw_policy *p;

    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_freeze(p, &body, 1));
    CHECK_OK(thaw_policy_unfreeze(p, &layer, 1, THAW_REBUILD_REFUSE));
    CHECK_OK(thaw_policy_coefficient(p, 0.3, &head, 1, THAW_REBUILD_REFUSE));
    CHECK_OK(thaw_policy_build(p, &rates));
    for (int i = 0; i < 5; i++)
        thaw_policy_epoch_end(p);
    return p;
}

static void check_same(const thaw_policy *a, const thaw_policy *b)
{
    char *x, *y;

    CHECK_OK(thaw_policy_save(&x, a));
    CHECK_OK(thaw_policy_save(&y, b));
    CHECK_STR(x, y);
    thaw_text_free(y);
    thaw_text_free(x);
}

static void a_saved_policy_comes_back(void **state)
{
    const thaw_rates other = {7, 9, 0.9};
    thaw_tree *t = small_tree();
    thaw_policy *p = busy_policy(t), *q;
    char *json;

    (void)state;
    CHECK_OK(thaw_policy_save(&json, p));
    CHECK_OK(thaw_policy_create(&q, t));
    CHECK_OK(thaw_policy_load(q, json, NULL));
    CHECK(!thaw_policy_has_groups(q));
    for (int i = 0; i < thaw_tree_n_params(t); i++)
        CHECK_INT(thaw_policy_trainable(q, i), thaw_policy_trainable(p, i));
    CHECK_OK(thaw_policy_load(q, json, &rates));
    check_same(p, q);
    CHECK_OK(thaw_policy_load(q, json, &other)); /* the saved scheduler and rates win */
    CHECK_NEAR(thaw_policy_group(q, 0).lr, thaw_policy_group(p, 0).lr, 0, 0);
    thaw_text_free(json);
    thaw_policy_destroy(q);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

/* Groups are matched by layer: a layer without a saved group starts fresh, at its rate now. */
static void groups_are_matched_by_name(void **state)
{
    const char *head = "head", *body = "backbone";
    const thaw_rates now = {0.5, 1, 0.1};
    thaw_tree *t = small_tree();
    thaw_policy *p;
    char *json;

    (void)state;
    CHECK_OK(thaw_policy_create(&p, t));
    CHECK_OK(thaw_policy_freeze(p, &body, 1));
    CHECK_OK(thaw_policy_build(p, &rates));
    for (int i = 0; i < 4; i++)
        thaw_policy_epoch_end(p);
    CHECK_OK(thaw_policy_freeze(p, &head, 1));
    CHECK_STATUS(thaw_policy_unfreeze(p, &body, 1, THAW_REBUILD_REFUSE), THAW_E_REBUILD);
    CHECK_OK(thaw_policy_save(&json, p));
    CHECK_OK(thaw_policy_load(p, json, &now));
    CHECK_INT(thaw_policy_n_groups(p), 7); /* the head's is dropped */
    CHECK_NEAR(thaw_policy_group(p, 0).lr, 0.5, 1e-12, 0);
    thaw_text_free(json);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

static void bad_texts_change_nothing(void **state)
{
    static const struct {
        const char *json;
        thaw_status want;
    } row[] = {
        {"", THAW_E_DATA},
        {"[]", THAW_E_DATA},
        {"{\"format\": \"thaw-policy-9\"}", THAW_E_DATA},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": []}", THAW_E_DATA},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [\"gone\"], \"frozen_own\": [], "
         "\"coefficients\": {}}",
         THAW_E_MISMATCH},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [3], \"frozen_own\": [], "
         "\"coefficients\": {}}",
         THAW_E_DATA},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": [], "
         "\"coefficients\": {\"head\": -1}}",
         THAW_E_RANGE},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": [], "
         "\"coefficients\": {\"head\": \"x\"}}",
         THAW_E_DATA},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": [], "
         "\"coefficients\": {}}",
         THAW_E_MISMATCH},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": [], "
         "\"coefficients\": {}, \"optimizer\": {\"groups\": []}}",
         THAW_E_DATA},
        {"{\"format\": \"thaw-policy-1\", \"frozen\": [], \"frozen_own\": [], "
         "\"coefficients\": {}, \"optimizer\": {\"scheduler\": {\"lr\": 1, \"gamma\": 1, "
         "\"step_size\": 0}, \"epoch\": 1, \"groups\": []}}",
         THAW_E_DATA},
    };
    thaw_tree *t = small_tree();
    thaw_policy *p = busy_policy(t), *q = busy_policy(t);

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const thaw_status status = thaw_policy_load(p, row[i].json, &rates);

        CHECK_MSG(status == row[i].want, "text %zu: got %s (%s)", i, thaw_status_name(status),
                  thaw_error());
        check_same(p, q);
    }
    thaw_policy_destroy(q);
    thaw_policy_destroy(p);
    thaw_tree_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_policy_comes_back),
        cmocka_unit_test(groups_are_matched_by_name),
        cmocka_unit_test(bad_texts_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
