/*
 * test_badinput.c - malformed files of every kind, each with the exact message it must give.
 *
 * badinput.txt has a case a line: a kind of input, the input, a status and the message, with tabs
 * between them. In all fields \n, \t, \\ and \xNN are escapes, and \R3~ab~ is ab three times; the
 * folder of the test stands as DIR. Each message is one line, nothing is left in memory, the peak
 * of the allocator stays below 64 MiB, and no file outside the folder is opened. With
 * THAW_BADINPUT_RECORD=FILE the cases are written there with the messages as they are now.
 */
#include "small_runs.h"
#include "train/toml.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <sys/stat.h>

#define CASES      THAW_TEST_DIR "/train/badinput.txt"
#define PEAK_MOST  ((size_t)64 << 20)
#define CASES_MOST 2000

/* ----------------------------------------------------------------------------------------------
 * the file of cases */

/* One field of a line, unescaped in memory of its own; *n counts its bytes, a NUL follows them. */
static char *unescape(size_t *n, const char *s)
{
    char *out = NULL;
    size_t size = 0, repeated = 0;
    FILE *f = open_memstream(&out, &size);
    long repeats = 0;

    CHECK(f != NULL);
    for (; *s; s++) {
        char hex[3] = {0}, *end;

        if (*s == '~' && repeats > 0) { /* the end of what is repeated */
            fflush(f);
            const size_t length = size - repeated;
            char *piece = malloc(length + 1);

            CHECK(piece != NULL);
            memcpy(piece, out + repeated, length);
            for (; repeats > 1; repeats--)
                fwrite(piece, 1, length, f);
            free(piece);
            repeats = 0;
        } else if (*s != '\\') {
            fputc(*s, f);
        } else if (*++s == 'x') {
            memcpy(hex, s + 1, 2);
            fputc((int)strtol(hex, NULL, 16), f);
            s += 2;
        } else if (*s == 'R') {
            repeats = strtol(s + 1, &end, 10);
            CHECK(*end == '~' && repeats > 0);
            s = end;
            fflush(f);
            repeated = size;
        } else {
            fputc(*s == 'n' ? '\n' : *s == 't' ? '\t' : *s, f);
        }
    }
    fclose(f);
    *n = size;
    return out;
}

static void print_escaped(FILE *f, const char *s)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;

        if (c == '\n' || c == '\t' || c == '\\')
            fprintf(f, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : '\\');
        else if (c < 0x20 || c == 0x7F)
            fprintf(f, "\\x%02x", c);
        else
            fputc(c, f);
    }
}

/* ----------------------------------------------------------------------------------------------
 * what the cases are given to */

typedef struct scene {
    char folder[512]; /* of all files of the test */
    char run[512];    /* a run with a checkpoint */
    long opened, escaped;
} scene;

static scene here;

static thaw_status give_toml(const char *input, size_t n)
{
    toml_document *d = NULL;
    const thaw_status status = toml_parse(&d, input, n, "doc");

    toml_destroy(d);
    return status;
}

static thaw_status give_recipe(const char *input, size_t n)
{
    thaw_recipe *r = NULL;
    const thaw_status status = thaw_recipe_parse(&r, input, n, "r.toml", "/folder", NULL, 0);

    thaw_recipe_destroy(r);
    return status;
}

#define MINIMAL                                                                                    \
    "[model]\narch = 'mlp'\n[data]\ntrain = 'images-idx3'\n[[phase]]\nname = 'one'\nsteps = 1\n"

static thaw_status give_in_phase(const char *input, size_t n)
{
    text t = TEXT_INIT;
    thaw_status status;

    text_add(&t, MINIMAL);
    text_add_n(&t, input, n);
    status = give_recipe(t.data, t.length);
    text_done(&t);
    return status;
}

static thaw_status give_set(const char *input, size_t n)
{
    const char *const sets[] = {input};
    thaw_recipe *r = NULL;
    thaw_status status;

    (void)n;
    status = thaw_recipe_parse(&r, MINIMAL, strlen(MINIMAL), "r.toml", "/folder", sets, 1);
    thaw_recipe_destroy(r);
    return status;
}

static thaw_status give_config(const char *input, size_t n)
{
    char path[512];
    model_config c = MODEL_CONFIG_INIT;
    model *m = NULL;
    thaw_status status;

    check_write_file(small_path(path, here.folder, "config.json"), input, n);
    THAW_CHECK(model_folder_config(&c, here.folder));
    status = model_create(&m, &c, DTYPE_F32);
    model_destroy(m);
    return status;
}

static thaw_status give_idx(const char *input, size_t n, idx_kind kind)
{
    char path[512];
    idx_array a = {0};
    thaw_status status;

    check_write_file(small_path(path, here.folder, "file.idx"), input, n);
    status = idx_read(&a, path, kind);
    thaw__free(a.data);
    return status;
}

static thaw_status give_images(const char *input, size_t n)
{
    return give_idx(input, n, IDX_IMAGES);
}

static thaw_status give_labels(const char *input, size_t n)
{
    return give_idx(input, n, IDX_LABELS);
}

static thaw_status give_st_file(const char *input, size_t n)
{
    char path[512];
    st_file *f = NULL;
    thaw_status status;

    check_write_file(small_path(path, here.folder, "file.safetensors"), input, n);
    status = st_open(&f, path);
    st_close(f);
    return status;
}

/* A header in JSON, '|' and a number of bytes of data: as a whole file. */
typedef struct made_file {
    char *data; /* freed by the caller */
    size_t n;
} made_file;

static made_file st_bytes(const char *input, size_t n)
{
    const char *bar = memrchr(input, '|', n);
    const uint64_t header = bar ? (uint64_t)(bar - input) : n;
    const size_t data = bar ? strtoul(bar + 1, NULL, 10) : 0;
    made_file b = {.data = calloc(1, 8 + (size_t)header + data + 1),
                   .n = 8 + (size_t)header + data};

    CHECK(b.data != NULL);
    memcpy(b.data, &header, 8);
    memcpy(b.data + 8, input, (size_t)header);
    return b;
}

static thaw_status give_st(const char *input, size_t n)
{
    made_file b = st_bytes(input, n);
    const thaw_status status = give_st_file(b.data, b.n);

    free(b.data);
    return status;
}

/* The file as the weights of a network with head.weight [3, 64] and head.bias [3]. */
static thaw_status give_weights(const char *input, size_t n)
{
    static const char source[] =
        "[model]\narch = 'mlp'\nwidths = [64, 3]\nnum_classes = 3\n" SMALL_CALLBACK
        "[[phase]]\nsteps = 1\n";
    const thaw_run_options options = {.threads = 1};
    thaw_recipe *recipe = small_recipe(source, here.folder);
    char path[512];
    job *j = NULL;
    thaw_status status;
    made_file b = st_bytes(input, n);

    check_write_file(small_path(path, here.folder, "weights.safetensors"), b.data, b.n);
    free(b.data);
    status = job_open(&j, recipe, &options, path, 0);
    job_close(j);
    thaw_recipe_destroy(recipe);
    return status;
}

static thaw_status give_manifest_file(const char *input, size_t n)
{
    char path[512];

    check_write_file(small_path(path, here.folder, MANIFEST_NAME), input, n);
    return ckpt_verify(here.folder);
}

/* In a folder with shards one.safetensors (w), two.safetensors (v), and one that leads elsewhere.
 */
static thaw_status give_index(const char *input, size_t n)
{
    static const char *const shard[] = {"one", "two", "three"};
    const float two[2] = {1, 2};
    char folder[512], path[512], name[64], outside[512];
    bundle *b = NULL;
    thaw_status status;

    (void)small_path(folder, here.folder, "shards");
    (void)small_path(outside, here.folder, "run/best/model.safetensors");
    (void)mkdir(folder, 0755);
    for (size_t i = 0; i < THAW_COUNT(shard); i++) {
        const st_source w = {shard[i], DTYPE_F32, shape_1(2), two};
        int fd;

        (void)snprintf(name, sizeof name, "%s.safetensors", shard[i]);
        fd = open(small_path(path, folder, name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        CHECK(fd >= 0);
        CHECK_OK(st_write(fd, path, &w, 1, NULL));
        (void)close(fd);
    }
    (void)symlink(outside, small_path(path, folder, "link.safetensors"));
    check_write_file(small_path(path, folder, "model.safetensors.index.json"), input, n);
    status = bundle_open(&b, folder);
    bundle_close(b);
    return status;
}

/* With the digest that every manifest ends with. */
static thaw_status give_manifest(const char *input, size_t n)
{
    char digest[65];
    text t = TEXT_INIT;
    thaw_status status;

    sha256_hex(digest, input, n);
    text_add_n(&t, input, n);
    text_addf(&t, "\"self\":\"%s\"}\n", digest);
    status = give_manifest_file(t.data, t.length);
    text_done(&t);
    return status;
}

static thaw_status give_record(const char *input, size_t n)
{
    char path[512];
    run_record *r = NULL;
    thaw_status status;

    check_write_file(small_path(path, here.folder, "state.json"), input, n);
    status = record_read(&r, here.folder);
    record_destroy(r);
    return status;
}

static thaw_status give_pattern(const char *input, size_t n)
{
    name_pattern *p = NULL;
    const thaw_status status = pattern_compile(&p, input);

    (void)n;
    pattern_destroy(p);
    return status;
}

/* The text with the first `from` replaced. */
static char *replaced(const char *whole, const char *from, const char *to)
{
    const char *at = strstr(whole, from);
    char *out = malloc(strlen(whole) + strlen(to) + 1);

    CHECK_MSG(at != NULL && out != NULL, "there is no '%s' in: %s", from, whole);
    (void)sprintf(out, "%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
    return out;
}

static ckpt_file taken_over(char path[512], const char *checkpoint, const char *name)
{
    return (ckpt_file){.name = name, .link = small_path(path, checkpoint, name)};
}

/*
 * FILE: what stands there => what is to stand there. The checkpoint of the run with that change,
 * and a manifest that fits it, is resumed.
 */
static thaw_status give_resume(const char *input, size_t n)
{
    static const char *const names[] = {"state.json", "recipe.toml", "config.json",
                                        "model.safetensors", "optimizer.safetensors"};
    const thaw_run_options options = {.threads = 1, .run = here.run};
    char checkpoints[512], from[512], path[5][512], made[512];
    ckpt_file file[5];
    char *own = strdup(input), *change, *to, *whole, *bad = NULL;
    thaw_status status;

    (void)n;
    change = strstr(own, ": ");
    to = strstr(own, " => ");
    CHECK_MSG(change && to, "no change in '%s'", input);
    *change = *to = '\0';
    (void)small_path(checkpoints, here.run, "checkpoints");
    (void)small_path(from, checkpoints, "step-000001");
    for (size_t i = 0; i < THAW_COUNT(names); i++) {
        file[i] = taken_over(path[i], from, names[i]);
        if (strcmp(names[i], own) != 0)
            continue;
        whole = check_read_file(NULL, path[i]);
        bad = replaced(whole, change + 2, to + 4);
        file[i] = (ckpt_file){.name = names[i], .bytes = bad, .size = strlen(bad)};
        free(whole);
    }
    CHECK_MSG(bad != NULL, "no file of a checkpoint: '%s'", own);
    CHECK_OK(ckpt_commit(checkpoints, 1, 1, file, 5));
    status = thaw_resume(&options);
    if (status == THAW_OK) /* the run is over: of no use to the next */
        check_folder_remove(strdup(small_path(made, checkpoints, "step-000003")));
    check_folder_remove(strdup(small_path(made, checkpoints, "step-000001.edit-1")));
    free(own);
    free(bad);
    return status;
}

static const struct kind {
    const char *name;
    thaw_status (*give)(const char *input, size_t n);
} kinds[] = {
    {"toml", give_toml},
    {"recipe", give_recipe},
    {"phase", give_in_phase},
    {"set", give_set},
    {"config", give_config},
    {"images", give_images},
    {"labels", give_labels},
    {"st-file", give_st_file},
    {"st", give_st},
    {"weights", give_weights},
    {"index", give_index},
    {"manifest", give_manifest},
    {"manifest-file", give_manifest_file},
    {"record", give_record},
    {"resume", give_resume},
    {"pattern", give_pattern},
};

/* ----------------------------------------------------------------------------------------------
 * one case */

typedef struct bad_case {
    char *line, *kind; /* as it stands; a copy, in which the other fields lie */
    char *input, *status, *message;
} bad_case;

/* Every file that is opened must lie in the folder of the test, wherever its name seems to lead. */
static int watched_open(int dir_fd, const char *path, int flags, unsigned mode)
{
    const int fd = os_posix.open(dir_fd, path, flags, mode);
    char link[64], real[4096];
    ssize_t n;

    if (fd < 0)
        return fd;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, real, sizeof real - 1);
    real[n > 0 ? n : 0] = '\0';
    here.opened++;
    if (strncmp(real, here.folder, strlen(here.folder)) != 0 && strncmp(real, "/proc/", 6) != 0 &&
        strncmp(real, "/sys/", 5) != 0) { /* what the machine has is looked at before a run */
        here.escaped++;
        print_error("opened: '%s'\n", real);
    }
    return fd;
}

/* The message with the folder as DIR. */
static void message_now(char *out, size_t room)
{
    const char *s = thaw_error();
    const size_t n = strlen(here.folder);
    size_t used = 0;

    while (*s && used + 4 < room) {
        if (strncmp(s, here.folder, n) == 0) {
            memcpy(out + used, "DIR", 3);
            used += 3;
            s += n;
        } else {
            out[used++] = *s++;
        }
    }
    out[used] = '\0';
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < THAW_COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    CHECK_FAIL("there is no kind '%s'", name);
    return NULL;
}

static thaw_status give(char *message, size_t room, const bad_case *c)
{
    os_table table = os_posix;
    size_t n, before, rise;
    char *input = unescape(&n, c->input);
    thaw_status status;

    table.open = watched_open;
    os_install(&table);
    check_alloc_fail(LONG_MAX, false); /* never; so that jansson's memory is counted as well */
    here.escaped = 0;
    before = thaw__mem_current();
    thaw__mem_peak_reset();
    status = find_kind(c->kind)->give(input, n);
    rise = thaw__mem_peak() - before;
    (void)check_alloc_restore();
    os_install(NULL);
    free(input);

    CHECK_MSG(thaw__mem_current() == before, "%s: memory is left behind", c->line);
    CHECK_MSG(rise < PEAK_MOST, "%s: %zu bytes at once", c->line, rise);
    CHECK_MSG(here.escaped == 0, "%s: a file outside was opened", c->line);
    message_now(message, room);
    return status;
}

static void check_case(const bad_case *c)
{
    char message[4096];
    const thaw_status status = give(message, sizeof message, c);
    size_t n;
    char *want = unescape(&n, c->message);

    CHECK_MSG(strcmp(thaw_status_name(status), c->status) == 0 && strcmp(message, want) == 0,
              "%s\n  gives %s: %s", c->line, thaw_status_name(status), message);
    CHECK_MSG(!strchr(message, '\n') || status == THAW_E_RECIPE, "%s: more than one line", c->line);
    CHECK_MSG(n > 0 && message[n - 1] != '.', "%s: no message, or a stop at its end", c->line);
    free(want);
}

/* ----------------------------------------------------------------------------------------------
 * all cases */

/* The text up to the next tab; *rest behind it. */
static char *next_field(char **rest)
{
    char *field = *rest;

    *rest += strcspn(*rest, "\t");
    if (**rest)
        *(*rest)++ = '\0';
    return field;
}

static int read_cases(bad_case *c)
{
    char *const all = check_read_file(NULL, CASES);
    int n = 0;

    for (char *line = all, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char *rest;

        *end = '\0';
        if (!*line || *line == '#')
            continue;
        CHECK(n < CASES_MOST);
        c[n].line = strdup(line);
        c[n].kind = rest = strdup(line);
        (void)next_field(&rest);
        c[n].input = next_field(&rest);
        c[n].status = next_field(&rest);
        c[n++].message = next_field(&rest);
    }
    free(all);
    return n;
}

static void free_cases(bad_case *c, int n)
{
    for (int i = 0; i < n; i++) {
        free(c[i].kind);
        free(c[i].line);
    }
}

/* The same file again, with what comes out now. */
static void record(const char *path, const bad_case *c, int n)
{
    FILE *f = fopen(path, "w");
    char message[4096];

    CHECK(f != NULL);
    for (int i = 0; i < n; i++) {
        const thaw_status status = give(message, sizeof message, &c[i]);

        fprintf(f, "%s\t%s\t%s\t", c[i].kind, c[i].input, thaw_status_name(status));
        print_escaped(f, status == THAW_OK ? "" : message);
        fputc('\n', f);
    }
    fclose(f);
}

static void check_all(void)
{
    static bad_case c[CASES_MOST];
    const char *const path = getenv("THAW_BADINPUT_RECORD");
    const int n = read_cases(c);

    here.opened = 0;
    if (path)
        record(path, c, n);
    for (int i = 0; i < n && !path; i++)
        check_case(&c[i]);
    print_message("%d inputs, %ld files opened\n", n, here.opened);
    CHECK_MSG(n >= 300, "only %d cases", n);
    free_cases(c, n);
}

static void test_messages(void **state)
{
    (void)state;
    check_all();
}

/* ----------------------------------------------------------------------------------------------
 * in a country with a decimal comma */

/*
 * A locale whose only difference from "C" is its decimal comma, in a file as glibc's localedef
 * writes it: no locale of the machine is needed. Nothing but LC_NUMERIC changes how numbers read.
 */
static void use_comma(void)
{
    static const struct {
        uint32_t magic, n, at[6]; /* where in the file the items of the category stand */
        char items[22];
    } category = {0x20031114, 6, {32, 34, 36, 40, 44, 48}, ",\0.\0\3\3\0\0,\0\0\0.\0\0\0ASCII"};
    char path[1100];

    (void)snprintf(path, sizeof path, "%s/comma", here.folder);
    CHECK(mkdir(path, 0777) == 0);
    check_write_file(check_path(path, "LC_NUMERIC"), &category, sizeof category);
    CHECK(setenv("LOCPATH", here.folder, 1) == 0);
    CHECK_MSG(setlocale(LC_NUMERIC, "comma") && localeconv()->decimal_point[0] == ',',
              "no decimal comma by the locale in '%s'", path);
}

static void check_numbers(void)
{
    static const char source[] = "x = 1.5\ny = -2.5e-3\n";
    static const char json[] = "{\"model_type\": \"resnet18\", \"dropout\": 0.25}";
    model_config c = MODEL_CONFIG_INIT;
    toml_document *d = NULL;
    text t = TEXT_INIT;
    double real = 0;

    CHECK_OK(toml_parse(&d, source, strlen(source), "doc"));
    CHECK(toml_get(d->root, "x")->real == 1.5 && toml_get(d->root, "y")->real == -2.5e-3);
    toml_destroy(d);
    CHECK_OK(model_config_parse(&c, json, strlen(json), "config.json"));
    CHECK(c.dropout == 0.25);
    text_add_double(&t, 0.125);
    CHECK_STR(t.data, "0.125");
    text_done(&t);
    CHECK(parse_double(&real, "0.5") && real == 0.5 && !parse_double(&real, "0,5"));
}

static void test_comma(void **state)
{
    (void)state;
    use_comma();
    check_numbers();
    check_all();
    (void)setlocale(LC_NUMERIC, "C");
}

/* ----------------------------------------------------------------------------------------------
 * the folder */

/* A run stopped behind its first step, with its checkpoint. */
static int set_up(void **state)
{
    static const char source[] = SMALL_MLP SMALL_DATA
        "[optimizer]\nname = 'adamw'\n[train]\nexecutor = 'ref'\n[[phase]]\nsteps = 3\n";
    small_record record = {.stop_at = 1};
    thaw_run_options options = {.threads = 1, .on_event = small_listen, .user = &record};
    char *folder = check_folder(), *real = realpath(folder, NULL);
    thaw_recipe *recipe;

    *state = folder;
    CHECK(real != NULL);
    (void)snprintf(here.folder, sizeof here.folder, "%s", real);
    free(real);
    small_data(here.folder);
    CHECK(symlink("/etc/passwd", small_path(here.run, here.folder, "link.bin")) == 0);
    recipe = small_recipe(source, here.folder);
    options.run = small_path(here.run, here.folder, "run");
    CHECK_STATUS(thaw_train(recipe, &options), THAW_E_STOPPED);
    thaw_recipe_destroy(recipe);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_comma),
    };

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, set_up, small_teardown);
}
