/*
 * test_bitrot.c - one flipped bit at 20,000 random places of a checkpoint that a run has written:
 * each is found, the message names the file and, where the bit lies within a tensor, the tensor;
 * and resuming would take the checkpoint before it.
 *
 * THAW_BITROT_SEED and THAW_BITROT_PLACES repeat or lengthen it.
 */
#include "small_runs.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define RECIPE                                                                                     \
    SMALL_MLP SMALL_DATA                                                                           \
        "[optimizer]\nname = 'adamw'\n[train]\nexecutor = 'ref'\n[checkpoint]\nkeep = 2\n"         \
        "[[phase]]\nsteps = 2\nfreeze = 'backbone.fc1'\n[[phase]]\nsteps = 2\n"                    \
        "unfreeze = 'backbone.fc1'\n"

enum { FILES_MOST = 16 };

/* A file of the checkpoint; st NULL: no tensors in it. */
typedef struct rotten_file {
    char name[64];
    int fd;
    uint64_t bytes;
    st_file *st;
} rotten_file;

typedef struct rotten {
    char folder[512], path[512]; /* of all checkpoints, of the newest */
    rotten_file file[FILES_MOST];
    int n;
    uint64_t bytes;
} rotten;

static void open_file(rotten *r, const char *name)
{
    rotten_file *f = &r->file[r->n++];
    char path[512];
    struct stat s;

    CHECK(r->n < FILES_MOST && strlen(name) < sizeof f->name);
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    (void)small_path(path, r->path, name);
    f->fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_MSG(f->fd >= 0 && fstat(f->fd, &s) == 0 && s.st_size > 0, "'%s'", path);
    f->bytes = (uint64_t)s.st_size;
    r->bytes += f->bytes;
    if (strstr(name, ".safetensors"))
        CHECK_OK(st_open(&f->st, path));
}

static void train(rotten *r, const char *folder)
{
    char run[512];
    const thaw_run_options options = {.threads = 1, .run = small_path(run, folder, "run")};
    thaw_recipe *recipe = small_recipe(RECIPE, folder);
    os_names names;

    CHECK_OK(thaw_train(recipe, &options));
    thaw_recipe_destroy(recipe);
    (void)small_path(r->folder, run, "checkpoints");
    (void)small_path(r->path, r->folder, "step-000004");
    CHECK_OK(os_list(&names, r->path));
    for (size_t i = 0; i < names.n; i++)
        open_file(r, names.name[i]);
    os_names_free(&names);
}

static void close_files(rotten *r)
{
    for (int i = 0; i < r->n; i++) {
        (void)close(r->file[i].fd);
        st_close(r->file[i].st);
    }
}

static void flip(const rotten_file *f, uint64_t bit)
{
    unsigned char byte = 0;

    CHECK(pread(f->fd, &byte, 1, (off_t)(bit / 8)) == 1);
    byte ^= (unsigned char)(1 << bit % 8);
    CHECK(pwrite(f->fd, &byte, 1, (off_t)(bit / 8)) == 1);
}

/* The tensor that a byte of the file belongs to; NULL: none. */
static const char *tensor_at(const rotten_file *f, uint64_t byte)
{
    for (int i = 0; f->st && i < f->st->n; i++)
        if (byte >= f->st->entry[i].begin && byte - f->st->entry[i].begin < f->st->entry[i].bytes)
            return f->st->entry[i].name;
    return NULL;
}

/* Every second place is anywhere in all bytes, the others give each file the same share. */
static const rotten_file *draw(uint64_t *bit, const rotten *r, uint64_t *seed, long i)
{
    const rotten_file *f = r->file + splitmix64(seed) % (uint64_t)r->n;
    uint64_t at = splitmix64(seed) % (8 * r->bytes);

    if (i % 2) {
        *bit = at % (8 * f->bytes);
        return f;
    }
    for (f = r->file; at >= 8 * f->bytes; f++)
        at -= 8 * f->bytes;
    *bit = at;
    return f;
}

static void check_found(const rotten_file *f, uint64_t bit, const rotten *r)
{
    const char *tensor = tensor_at(f, bit / 8);
    const thaw_status status = ckpt_verify(r->path);
    char quoted[600];

    CHECK_MSG(status == THAW_E_CORRUPT ||
                  (status == THAW_E_SUPPORT && !strcmp(f->name, MANIFEST_NAME)),
              "bit %" PRIu64 " of '%s' flipped: %s, %s", bit, f->name, thaw_status_name(status),
              thaw_error());
    CHECK_MSG(strstr(thaw_error(), f->name) && !strchr(thaw_error(), '\n'),
              "bit %" PRIu64 " of '%s' flipped, and the message is '%s'", bit, f->name,
              thaw_error());
    (void)snprintf(quoted, sizeof quoted, "tensor '%s'", tensor ? tensor : "");
    CHECK_MSG(!tensor || strstr(thaw_error(), quoted),
              "bit %" PRIu64 " of '%s' lies in %s, and the message is '%s'", bit, f->name, quoted,
              thaw_error());
}

/* What resuming does: the one before is taken, and the reason told. */
static void check_passed_over(const rotten_file *f, const rotten *r)
{
    text skipped = TEXT_INIT;
    ckpt_id newest = {0};

    CHECK_OK(ckpt_newest(&newest, &skipped, r->folder));
    CHECK_INT(newest.step, 2);
    CHECK_CONTAINS(skipped.data, "skipped 'step-000004': ");
    CHECK_CONTAINS(skipped.data, f->name);
    text_done(&skipped);
}

static void test_flipped_bits(void **state)
{
    const char *const asked = getenv("THAW_BITROT_PLACES"), *const begin =
                                                                getenv("THAW_BITROT_SEED");
    const long places = asked ? atol(asked) : 20000;
    uint64_t seed = begin ? strtoull(begin, NULL, 0) : 20240607, bit;
    long in_tensors = 0;
    rotten r = {0};

    print_message("%ld places, THAW_BITROT_SEED=%" PRIu64 "\n", places, seed);
    train(&r, *state);
    for (long i = 0; i < places; i++) {
        const rotten_file *f = draw(&bit, &r, &seed, i);

        flip(f, bit);
        check_found(f, bit, &r);
        if (i % 50 == 0)
            check_passed_over(f, &r);
        flip(f, bit);
        in_tensors += tensor_at(f, bit / 8) != NULL;
    }
    CHECK_OK(ckpt_verify(r.path));
    CHECK_MSG(in_tensors > places / 10, "only %ld of %ld places lay in tensors", in_tensors,
              places);
    print_message("all found; %ld in tensors, each named\n", in_tensors);
    close_files(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flipped_bits, small_setup, small_teardown),
    };

    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
