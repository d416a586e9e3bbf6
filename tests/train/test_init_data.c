/*
 * test_init_data.c - what lies at paths given as data: splits below a folder, lists of classes and
 * of numbers, IDX files; and what their pixels are like.
 */
#include "train/init.h"

#include "train/small_runs.h"

#include <sys/stat.h>

static const char *below(const char *folder, const char *name)
{
    const char *path = check_path(folder, name);

    CHECK(mkdir(path, 0755) == 0);
    return path;
}

static void test_folders(void **state)
{
    char *folder = check_folder();
    const char *data[] = {folder};
    data_look l;

    (void)state;
    below(folder, "cat");
    CHECK_OK(data_look_at(&l, data, 1));
    CHECK_INT(l.format, DATA_FOLDER);
    CHECK_CONTAINS(l.path[0], folder);
    CHECK(!l.path[1] && !l.path[2]);
    data_look_done(&l);

    below(folder, "train");
    below(folder, "val");
    CHECK_OK(data_look_at(&l, data, 1));
    CHECK_INT(l.format, DATA_FOLDER);
    CHECK_CONTAINS(l.path[0], "/train");
    CHECK_CONTAINS(l.path[1], "/val");
    CHECK(!l.path[2]);
    data_look_done(&l);

    below(folder, "Test");
    CHECK_OK(data_look_at(&l, data, 1));
    CHECK_CONTAINS(l.path[2], "/Test");
    data_look_done(&l);
    check_folder_remove(folder);
}

static data_look look_at_list(const char *folder, const char *name, const char *list)
{
    char path[512];
    const char *data[1];
    data_look l;

    check_write_file(check_path(folder, name), list, strlen(list));
    data[0] = small_path(path, folder, name);
    CHECK_OK(data_look_at(&l, data, 1));
    CHECK_INT(l.format, DATA_CSV);
    return l;
}

static void test_lists(void **state)
{
    char *folder = check_folder();
    data_look l = look_at_list(folder, "a.csv", "file,label\nx.png,cat\ny.png,dog\n");

    (void)state;
    CHECK(!l.numbers);
    data_look_done(&l);
    l = look_at_list(folder, "b.CSV", "file,label\nx.png,1\ny.png,2\n");
    CHECK_MSG(!l.numbers, "whole numbers are classes");
    data_look_done(&l);
    l = look_at_list(folder, "c.csv", "file,value\nx.png,1\ny.png,2.5\n");
    CHECK(l.numbers);
    data_look_done(&l);
    check_folder_remove(folder);
}

static void test_idx(void **state)
{
    char *folder = check_folder();
    char file[512], source[1024];
    const char *data[] = {folder, NULL};
    thaw_recipe *r;
    data_look l;

    (void)state;
    small_data(folder);
    CHECK_OK(data_look_at(&l, data, 1)); /* the folder of the MNIST family */
    CHECK_INT(l.format, DATA_IDX);
    CHECK_CONTAINS(l.path[0], "/train-images-idx3-ubyte");
    CHECK(!l.path[1]);
    data_look_done(&l);

    data[0] = data[1] = small_path(file, folder, "train-images-idx3-ubyte");
    CHECK_OK(data_look_at(&l, data, 2));
    CHECK_INT(l.format, DATA_IDX);
    CHECK_STR(l.path[0], l.path[1]);
    (void)snprintf(source, sizeof source, SMALL_MLP "[data]\ntrain = '%s'\n[[phase]]\nsteps = 1\n",
                   file);
    r = small_recipe(source, "/");
    CHECK_OK(data_look_idx(&l, r));
    CHECK_INT(l.height, SMALL_SIDE);
    CHECK_INT(l.width, SMALL_SIDE);
    CHECK_MSG(l.mean > 0.1 && l.mean < 0.5 && l.std > 0.1 && l.std < 0.5, "mean %g, deviation %g",
              l.mean, l.std);
    thaw_recipe_destroy(r);
    data_look_done(&l);
    check_folder_remove(folder);
}

static void test_nothing_there(void **state)
{
    static const char *const data[] = {"/nowhere/to/be/found"};
    data_look l = {0};

    (void)state;
    CHECK_ERROR(data_look_at(&l, data, 1), THAW_E_MISSING, "'/nowhere/to/be/found' is not there");
    CHECK(!l.path[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_idx),
        cmocka_unit_test(test_nothing_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
