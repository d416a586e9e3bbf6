/*
 * test_nomemory.c - what a user can ask for, with the 1st, 2nd, 3rd … allocation failing, once and
 * for ever: an error or success, nothing left in memory, and a run folder whose checkpoints all
 * verify and from which resuming still ends at the bits of a run that nothing ever happened to.
 *
 * Every so manieth allocation is tried; with THAW_EVERY_ALLOCATION=1 each of them. jansson and
 * PCRE2 take their memory from the same hook.
 */
#include "small_runs.h"

#include "data/picture_files.h"

#include <limits.h>
#include <sys/stat.h>

/* A change of phase that rebuilds nothing, one that parks state, and best weights taken back. */
#define RECIPE                                                                                     \
    "[model]\narch = 'mlp'\nwidths = [64, 4, 3]\n" SMALL_DATA                                      \
    "prefetch = false\n[optimizer]\nname = 'adamw'\nclip_norm = 1\naccumulate = 2\n"               \
    "[train]\nexecutor = 'ref'\n[checkpoint]\nevery = '1 steps'\nkeep = 2\n"                       \
    "[[phase]]\nsteps = 2\nfreeze = 'backbone'\n"                                                  \
    "[[phase]]\nsteps = 1\nunfreeze = 'backbone'\noptimizer = 'keep'\n"                            \
    "[[phase]]\nsteps = 1\nfreeze = 'head'\noptimizer = 'keep'\non_freeze = 'park'\n"

enum { STOPPED_AT = 2, END = 4 };

/* What all share: a run stopped half way, and the digest of the weights that it must end with. */
static struct {
    char folder[512], stopped[512], model[512], recipe_path[512];
    char end[65];
    thaw_recipe *recipe;
} here;

/* ----------------------------------------------------------------------------------------------
 * folders */

static void digest_of(char out[65], const char *run)
{
    char path[512], name[64];
    size_t n;
    char *data;

    (void)snprintf(name, sizeof name, "checkpoints/step-%06d/model.safetensors", END);
    data = check_read_file(&n, small_path(path, run, name));
    sha256_hex(out, data, n);
    free(data);
}

/* Every checkpoint that has its name is whole. */
static void check_checkpoints(const char *run, long n)
{
    char path[512];
    ckpt_id *id = NULL;
    int count = 0;

    CHECK_OK(ckpt_list(&id, &count, small_path(path, run, "checkpoints")));
    for (int i = 0; i < count; i++) {
        char *one = ckpt_path(path, id[i]);

        CHECK_MSG(ckpt_verify(one) == THAW_OK, "allocation %ld: %s", n, thaw_error());
        thaw__free(one);
    }
    thaw__free(id);
}

/* Nothing that was made is half made: weights in best/ open. */
static void check_best(const char *run, long n)
{
    char path[512];
    st_file *f = NULL;

    if (os_kind_of(small_path(path, run, "best/model.safetensors")) == OS_ABSENT)
        return;
    CHECK_MSG(st_open(&f, path) == THAW_OK, "allocation %ld: %s", n, thaw_error());
    st_close(f);
}

/* ----------------------------------------------------------------------------------------------
 * what is asked for; run is a copy of the stopped run, where one is wanted */

static thaw_status load(const char *run)
{
    const thaw_run_options options = {.threads = 1};
    job *j = NULL;
    const thaw_status status = job_open(&j, here.recipe, &options, here.model, JOB_DATA | JOB_EXEC);

    (void)run;
    job_close(j);
    return status;
}

static thaw_status load_shards(const char *run)
{
    char path[512];
    bundle *b = NULL;
    const thaw_status status = bundle_open(&b, small_path(path, here.folder, "shards"));

    (void)run;
    bundle_close(b);
    return status;
}

static thaw_status plan_it(const char *run)
{
    const thaw_run_options options = {.threads = 1};
    char *out = NULL;
    const thaw_status status = thaw_plan(&out, here.recipe, &options, true, false);

    (void)run;
    thaw_text_free(out);
    return status;
}

static thaw_status train(const char *run)
{
    char path[512];
    const thaw_run_options options = {.threads = 1, .run = small_path(path, run, "new")};

    return thaw_train(here.recipe, &options);
}

static thaw_status resume(const char *run)
{
    const thaw_run_options options = {.threads = 1, .run = run};

    return thaw_resume(&options);
}

static thaw_status edit(const char *run)
{
    const char *const patterns[] = {"head", "backbone.*"};
    char *out = NULL;
    const thaw_status status = thaw_edit(&out, run, THAW_EDIT_LR, 0.5, patterns, 2);

    thaw_text_free(out);
    return status;
}

static thaw_status show(const char *run)
{
    char *out = NULL;
    const thaw_status status = thaw_show(&out, run, true);

    thaw_text_free(out);
    return status;
}

static thaw_status differ(const char *run)
{
    char *out = NULL;
    bool differs;
    const thaw_status status = thaw_diff(&out, &differs, run, here.recipe_path, false);

    thaw_text_free(out);
    return status;
}

static thaw_status evaluate_it(const char *run)
{
    const thaw_run_options options = {.threads = 1};
    thaw_eval_result r = {0};
    const thaw_status status = thaw_eval(&r, run, NULL, "valid", &options);

    thaw_eval_done(&r);
    return status;
}

static thaw_status init(const char *run, const char *network, const char *data)
{
    char path[512];
    const char *const paths[] = {small_path(path, here.folder, data)};
    char *out = NULL;
    const thaw_status status = thaw_init(&out, network, NULL, NULL, paths, 1);

    (void)run;
    thaw_text_free(out);
    return status;
}

static thaw_status init_images(const char *run)
{
    return init(run, here.model, "train-images-idx3-ubyte");
}

static thaw_status init_pictures(const char *run)
{
    char path[512];

    return init(run, small_path(path, here.folder, "coloured"), "pictures");
}

typedef struct request {
    const char *name;
    thaw_status (*ask)(const char *run);
    bool own_run; /* it changes the run: each try gets a copy */
    bool resumes; /* afterwards the run must still end where it should */
} request;

static const request requests[] = {
    {"load", load, false, false},
    {"load shards", load_shards, false, false},
    {"plan", plan_it, false, false},
    {"train", train, true, false},
    {"resume", resume, true, true},
    {"edit", edit, true, false},
    {"show", show, false, false},
    {"diff", differ, false, false},
    {"evaluate", evaluate_it, false, false},
    {"init for images", init_images, false, false},
    {"init for pictures", init_pictures, false, false},
};

/* ----------------------------------------------------------------------------------------------
 * trying */

static void check_ends_as_it_should(const char *run, long n)
{
    char end[65];

    CHECK_MSG(resume(run) == THAW_OK, "allocation %ld: cannot be resumed: %s", n, thaw_error());
    digest_of(end, run);
    CHECK_MSG(strcmp(end, here.end) == 0, "allocation %ld: the run ends with other weights", n);
}

/* Was the n-th allocation reached? */
static bool try_once(const request *r, long n, bool forever)
{
    char run[512], fresh[512];
    size_t before;
    thaw_status status;
    bool reached;

    (void)small_path(run, here.folder, r->own_run ? "copy" : "stopped");
    if (r->own_run)
        small_copy(here.stopped, run);
    before = thaw__mem_current();
    check_alloc_fail(n, forever);
    status = r->ask(run);
    reached = check_alloc_restore();
    CHECK_MSG(status == THAW_OK || (reached && status == THAW_E_NOMEM),
              "%s, allocation %ld: %s: %s", r->name, n, thaw_status_name(status), thaw_error());
    CHECK_MSG(status == THAW_OK || (thaw_error()[0] && !strchr(thaw_error(), '\n')),
              "%s, allocation %ld: the message is '%s'", r->name, n, thaw_error());
    CHECK_MSG(thaw__mem_current() == before, "%s, allocation %ld: memory is left behind", r->name,
              n);
    check_checkpoints(run, n);
    check_best(run, n);
    if (os_kind_of(small_path(fresh, run, "new")) == OS_FOLDER) {
        check_checkpoints(fresh, n);
        check_best(fresh, n);
    }
    if (r->resumes)
        check_ends_as_it_should(run, n);
    if (r->own_run)
        check_folder_remove(strdup(run));
    return reached;
}

static void test_requests(void **state)
{
    const char *const asked = getenv("THAW_EVERY_ALLOCATION");
    const long share = asked && *asked != '0' ? LONG_MAX : 12;

    (void)state;
    CHECK_INT(thaw_exit_code(THAW_E_NOMEM), 71);
    for (size_t i = 0; i < THAW_COUNT(requests); i++)
        for (int forever = 0; forever < 2; forever++) {
            long tries = 0, last = 0;

            for (long n = 1, more = true; more; n += 1 + n / share, tries++)
                more = try_once(&requests[i], last = n, forever != 0);
            print_message("%s: %ld of the first %ld allocations failed%s\n", requests[i].name,
                          tries - 1, last - 1, forever ? " with all behind them" : "");
        }
}

/* ----------------------------------------------------------------------------------------------
 * the folder */

static void train_to(const char *run, int64_t stop_at)
{
    small_record record = {.stop_at = stop_at};
    const thaw_run_options options = {
        .threads = 1, .run = run, .on_event = small_listen, .user = &record};

    CHECK_STATUS(thaw_train(here.recipe, &options), stop_at ? THAW_E_STOPPED : THAW_OK);
}

static void make_shards(void)
{
    static const char index[] = "{\"metadata\": {\"total_size\": 8}, \"weight_map\": {"
                                "\"a\": \"one.safetensors\", \"b\": \"two.safetensors\"}}";
    static const float value = 1;
    char folder[512], path[512];

    CHECK(mkdir(small_path(folder, here.folder, "shards"), 0755) == 0);
    for (int i = 0; i < 2; i++) {
        const st_source source = {i ? "b" : "a", DTYPE_F32, shape_1(1), &value};
        char *header;
        size_t n;

        CHECK_OK(st_header(&header, &n, "shard", &source, 1, NULL));
        header = thaw__resize(header, n + sizeof value, 1);
        CHECK(header != NULL);
        memcpy(header + n, &value, sizeof value);
        check_write_file(small_path(path, folder, i ? "two.safetensors" : "one.safetensors"),
                         header, n + sizeof value);
        thaw__free(header);
    }
    check_write_file(small_path(path, folder, "model.safetensors.index.json"), index,
                     strlen(index));
}

/* Ten pictures, and a network for them. */
static void make_pictures(void)
{
    static const char config[] =
        "{\"model_type\": \"mlp\", \"widths\": [192, 4, 2], \"image_size\": [8, 8],"
        " \"num_channels\": 3, \"num_classes\": 2}";
    static const char sizes[] = "{\"size\": {\"height\": 8, \"width\": 8}}";
    static const float value[192 * 4];
    const st_source source[] = {{"backbone.fc1.weight", DTYPE_F32, shape_2(4, 192), value},
                                {"backbone.fc1.bias", DTYPE_F32, shape_1(4), value},
                                {"head.weight", DTYPE_F32, shape_2(2, 4), value},
                                {"head.bias", DTYPE_F32, shape_1(2), value}};
    char folder[512], path[512], *header;
    const size_t bytes = (4 * 192 + 4 + 2 * 4 + 2) * sizeof(float);
    size_t n;

    CHECK(mkdir(small_path(folder, here.folder, "pictures"), 0755) == 0);
    put_ten(folder);
    CHECK(mkdir(small_path(folder, here.folder, "coloured"), 0755) == 0);
    check_write_file(small_path(path, folder, "config.json"), config, strlen(config));
    check_write_file(small_path(path, folder, "preprocessor_config.json"), sizes, strlen(sizes));
    CHECK_OK(st_header(&header, &n, "coloured", source, 4, NULL));
    header = thaw__resize(header, n + bytes, 1);
    CHECK(header != NULL);
    memset(header + n, 0, bytes);
    check_write_file(small_path(path, folder, "model.safetensors"), header, n + bytes);
    thaw__free(header);
}

static int set_up(void **state)
{
    char whole[512];

    (void)small_setup(state);
    (void)snprintf(here.folder, sizeof here.folder, "%s", (const char *)*state);
    here.recipe = small_recipe(RECIPE, here.folder);
    check_write_file(small_path(here.recipe_path, here.folder, "r.toml"), RECIPE, strlen(RECIPE));
    train_to(small_path(whole, here.folder, "whole"), 0);
    digest_of(here.end, whole);
    train_to(small_path(here.stopped, here.folder, "stopped"), STOPPED_AT);
    (void)small_path(here.model, here.stopped, "checkpoints/step-000002");
    make_shards();
    make_pictures();
    return 0;
}

static int tear_down(void **state)
{
    thaw_recipe_destroy(here.recipe);
    return small_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
    };

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
