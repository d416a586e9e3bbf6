/*
 * test_init_text.c - what the recipe of `thaw init` says: it is a recipe whatever the names of
 * files and classes are, and it tells what was found.
 */
#include "train/init.h"

#include "train/small_runs.h"

static const char phases[] = "[[phase]]\nsteps = 1\n";

static const char *print(text *t, const init_choice *c)
{
    thaw_recipe *r;

    text_done(t);
    *t = (text)TEXT_INIT;
    init_print(t, c, phases);
    r = small_recipe(t->data, "/");
    CHECK_INT(r->loader.batch, c->batch);
    thaw_recipe_destroy(r);
    return t->data;
}

static void test_what_was_found(void **state)
{
    static const char *const names[] = {"cat\n[x]", "dog \"\\"};
    int32_t labels[] = {0, 1, 1, 0, 1};
    dataset train = {.n = 5, .n_classes = 2, .label = labels, .class_name = names};
    dataset valid = {.n = 2, .n_classes = 2, .label = labels, .class_name = names};
    char path[] = "/data/a \"b\"\n";
    init_choice c = {.model = "/models/'x'",
                     .place = true,
                     .config = {.arch = "resnet18", .n_classes = 1000},
                     .data = {.format = DATA_FOLDER, .path = {path}},
                     .valid_fraction = 0.25,
                     .side = 96,
                     .mean = 0.5,
                     .std = 0.25,
                     .batch = 2,
                     .memory = 3 << 20,
                     .train = &train,
                     .valid = &valid};
    text t = TEXT_INIT;
    const char *said = print(&t, &c);

    (void)state;
    CHECK_CONTAINS(said, "5 images to learn from, 2 to check with, in 2 classes: cat?[x] 3, dog");
    CHECK_CONTAINS(said, "50 points of the accuracy");
    CHECK_CONTAINS(said, "has 1000 outputs; a new one for 2 classes");
    CHECK_CONTAINS(said, "3.00 MiB of memory");
    CHECK_CONTAINS(said, "image_size = 96");
    CHECK_CONTAINS(said, "valid_fraction = 0.25");
    CHECK_CONTAINS(said, "std = 0.25");
    CHECK_CONTAINS(said, "three phases");
    c.no_head = true;
    CHECK_CONTAINS(print(&t, &c), "comes without a head");
    text_done(&t);
}

/* Numbers that no rate suits are told. */
static void test_numbers(void **state)
{
    float near[] = {0.5f, 1.5f}, off[] = {100000, 300000};
    dataset train = {.n = 2, .n_classes = 1, .target = near};
    char path[] = "/data/list.csv";
    init_choice c = {.model = "resnet18",
                     .config = {.arch = "resnet18"},
                     .data = {.format = DATA_CSV, .path = {path}, .numbers = true},
                     .valid_fraction = 0.2,
                     .batch = 2,
                     .train = &train};
    text t = TEXT_INIT;
    const char *said = print(&t, &c);

    (void)state;
    CHECK_CONTAINS(said, "Their mean is 1, their deviation 0.5.\n[data]");
    CHECK_CONTAINS(said, "of the list, to check with");
    CHECK(!strstr(said, "broken"));
    train.target = off;
    CHECK_CONTAINS(print(&t, &c), "(number - 2e+05) / 1e+05 into the list");
    text_done(&t);
}

static void test_each_format(void **state)
{
    char path[] = "/data/train-images-idx3-ubyte";
    init_choice c = {.model = "resnet18", .config = {.arch = "resnet18"}, .batch = 8};
    text t = TEXT_INIT;

    (void)state;
    CHECK_CONTAINS(print(&t, &c), "to be filled in");
    c.data.path[0] = c.data.path[1] = path;
    c.channels = 3;
    c.scale = 4;
    CHECK_CONTAINS(print(&t, &c), "each pixel as 4 x 4");
    c.data.format = DATA_CSV;
    c.data.numbers = true;
    CHECK_CONTAINS(print(&t, &c), "target = \"number\"");
    c.preset = "gradual";
    CHECK_CONTAINS(print(&t, &c), "preset 'gradual': from the top");
    text_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_found),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_each_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
