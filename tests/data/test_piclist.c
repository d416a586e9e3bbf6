/*
 * test_piclist.c - folders and CSV files to lists: order, classes, quotes, what is refused, and the
 * draw of a validation set.
 */
#include "picture_files.h"

static void test_folder(void **state)
{
    static const char *const want[] = {"cat/0.png", "cat/1.jpg",      "cat/2.jpg", "cat/3.png",
                                       "cat/4.jpg", "dog/5.png",      "dog/6.jpg", "dog/8.png",
                                       "dog/9.jpg", "dog/below/7.jpg"};
    char *folder = check_folder(), path[512];
    picture_list l = {0};

    (void)state;
    put_ten(folder);
    write_file(below(path, folder, "cat/._0.png"), "x", 1);
    write_file(below(path, folder, "dog/notes.txt"), "x", 1);
    CHECK_OK(picture_list_folder(&l, folder, NULL));
    CHECK_INT(l.n, 10);
    CHECK_INT(l.others, 1);
    CHECK_INT(l.n_classes, 2);
    CHECK_STR(l.class_name[0], "cat");
    for (size_t i = 0; i < 10; i++) {
        CHECK_STR(l.entry[i].shown, want[i]);
        CHECK_STR(l.entry[i].path, below(path, folder, want[i]));
        CHECK_INT(l.entry[i].label, i >= 5);
        CHECK_INT(l.entry[i].id, i);
    }
    picture_list_done(&l);
    check_folder_remove(folder);
}

static void test_folders_refused(void **state)
{
    char *folder = check_folder(), path[512], classes[512];
    picture_list l = {0}, own = {0};

    (void)state;
    CHECK_ERROR(picture_list_folder(&l, below(path, folder, "none"), NULL), THAW_E_MISSING,
                "is no folder");
    CHECK_ERROR(picture_list_folder(&l, folder, NULL), THAW_E_DATA, "has no folders in it: put");
    put(folder, "loose.png", "rgb.png");
    CHECK_ERROR(picture_list_folder(&l, folder, NULL), THAW_E_DATA, "only pictures");
    (void)mkdir(below(path, folder, "empty"), 0777);
    CHECK_ERROR(picture_list_folder(&l, folder, NULL), THAW_E_DATA, "empty' has no JPEG or PNG");
    put(folder, "empty/a.png", "rgb.png");
    CHECK_OK(picture_list_folder(&own, folder, NULL));
    put(folder, "valid/emtpy/a.png", "rgb.png");
    CHECK_ERROR(picture_list_folder(&l, below(classes, folder, "valid"), &own), THAW_E_DATA,
                "class 'emtpy', which the training data lack (did you mean 'empty'?)");
    CHECK(symlink(folder, below(path, folder, "empty/loop")) == 0);
    CHECK_ERROR(picture_list_folder(&l, folder, NULL), THAW_E_LIMIT, "folders deep");
    CHECK(l.region == NULL);
    picture_list_done(&own);
    check_folder_remove(folder);
}

static thaw_status list_text(picture_list *l, const char *text, bool numbers)
{
    char *folder = check_folder(), path[512];
    thaw_status status;

    write_file(below(path, folder, "list.csv"), text, strlen(text));
    status = picture_list_csv(l, path, numbers, NULL);
    check_folder_remove(folder);
    return status;
}

static void test_csv(void **state)
{
    picture_list l = {0};

    (void)state;
    CHECK_OK(list_text(&l,
                       "\xEF\xBB\xBF"
                       "file,label,more\r\n\"a, \"\"b\"\".png\",zebra,1\r\n\nc.jpg,ant\n"
                       "/d.png,\"zebra\"",
                       false));
    CHECK_INT(l.n, 3);
    CHECK_INT(l.n_classes, 2);
    CHECK_STR(l.class_name[0], "ant");
    CHECK_STR(l.entry[0].shown, "a, \"b\".png");
    CHECK_INT(l.entry[0].label, 1);
    CHECK_INT(l.entry[1].label, 0);
    CHECK_STR(l.entry[2].path, "/d.png");
    picture_list_done(&l);

    CHECK_OK(list_text(&l, "id,Filename,width,label\n7,a.png,640,x\n8,b.png,480,y\n", false));
    CHECK_INT(l.n, 2);
    CHECK_STR(l.entry[1].shown, "b.png");
    CHECK_STR(l.class_name[1], "y");
    picture_list_done(&l);

    CHECK_OK(list_text(&l, "breed,image\npug,a.png\n", false));
    CHECK_STR(l.entry[0].shown, "a.png");
    CHECK_STR(l.class_name[0], "pug");
    picture_list_done(&l);

    CHECK_OK(list_text(&l, "image.png,image\nb.png,label\n", false));
    CHECK_INT(l.n, 2);
    picture_list_done(&l);

    CHECK_OK(list_text(&l, "a.png,1.5\nb.png,-2e3\n", true));
    CHECK_INT(l.n_classes, 0);
    CHECK_NEAR(l.entry[0].target, 1.5, 0, 0);
    CHECK_NEAR(l.entry[1].target, -2000, 0, 0);
    picture_list_done(&l);
}

static void test_csv_refused(void **state)
{
    static const struct {
        const char *text, *error;
        bool numbers;
    } row[] = {{"", "lists no pictures", false},
               {"file,label\n", "lists no pictures", false},
               {"a.png\n", ":1: a file and what", false},
               {"a.png,x\nb.png,\n", ":2: a file and what", false},
               {",x\n", ":1: a file and what", false},
               {"id,file,label\n1,a.png\n", ":2: a file and what", false},
               {"\"a.png,x\n", "a quote is not closed", false},
               {"\"a\"b,x\n", "text after a closing quote", false},
               {"a.png,x\n", "'x' is no finite number", true},
               {"a.png,1e39\n", "'1e39' is no finite number", true},
               {"a.png,nan\n", "no finite number", true}};
    picture_list l = {0};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        CHECK_ERROR(list_text(&l, row[i].text, row[i].numbers), THAW_E_DATA, row[i].error);
        CHECK(l.region == NULL);
    }
}

/* How many go, that none is lost, and that classes do not matter to each other. */
static void test_split(void **state)
{
    char *folder = check_folder(), name[64];
    picture_list all = {0}, part = {0}, few = {0}, again = {0};

    (void)state;
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "b/%02d.png", i);
        put(folder, name, "bits1.png");
    }
    put(folder, "c/0.png", "bits1.png");
    CHECK_OK(picture_list_folder(&few, folder, NULL));
    put(folder, "a/0.png", "bits1.png");
    put(folder, "a/1.png", "bits1.png");
    CHECK_OK(picture_list_folder(&all, folder, NULL));
    CHECK_OK(picture_list_split(&part, &all, 0.25, 3));
    CHECK_OK(picture_list_split(&again, &few, 0.25, 3));
    CHECK_INT(part.n, 1 + 5 + 0);
    CHECK_INT(all.n, 1 + 15 + 1);
    CHECK_INT(again.n, 5);
    for (size_t i = 0; i < 5; i++)
        CHECK_STR(again.entry[i].shown, part.entry[i + 1].shown);
    for (size_t i = 0; i < part.n; i++)
        for (size_t k = 0; k < all.n; k++)
            CHECK(strcmp(part.entry[i].path, all.entry[k].path) != 0 &&
                  part.entry[i].id != all.entry[k].id);
    picture_list_done(&part);
    picture_list_done(&again);
    picture_list_done(&few);
    picture_list_done(&all);
    check_folder_remove(folder);
}

static void test_no_memory(void **state)
{
    char *folder = check_folder();

    (void)state;
    put_ten(folder);
    for (int n = 1, more = 1; more; n++) {
        picture_list l = {0}, part = {0};
        thaw_status status;

        check_alloc_fail(n, false);
        status = picture_list_folder(&l, folder, NULL);
        if (status == THAW_OK)
            status = picture_list_split(&part, &l, 0.5, 1);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %d: %s, '%s'", n,
                  thaw_status_name(status), thaw_error());
        picture_list_done(&part);
        picture_list_done(&l);
    }
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder), cmocka_unit_test(test_folders_refused),
        cmocka_unit_test(test_csv),    cmocka_unit_test(test_csv_refused),
        cmocka_unit_test(test_split),  cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
