/*
 * test_badfiles.c - pictures and weights that are malformed in hundreds of ways, made here of good
 * ones: cut off, with sizes that lie, bombs, hostile and cyclic pickles, archives whose entries
 * lead elsewhere. Each is refused in one line that names the file, or gives a whole picture or
 * tensors where the damage is none that matters; none takes 64 MiB of memory, ours or a library's.
 *
 * How many were refused is counted, so that the test cannot fade into nothing.
 */
#include "ckpt/ckpt.h"
#include "data/picture.h"

#include "check.h"

#include <zlib.h>

#define PEAK_MOST     ((size_t)64 << 20)
#define REFUSED_LEAST 500

static const char hostile_values[] = {0, 1, 0x7f, (char)0x80, (char)0xfe, (char)0xff};

/* What has come of all cases so far; and the folder and the case at hand. */
static struct {
    char *folder;
    char what[200];
    int refused, taken;
    uint64_t at_first; /* memory of the process */
} here;

/* ----------------------------------------------------------------------------------------------
 * one case */

static thaw_status read_picture(const char *path)
{
    const picture_limits limits = {.most_pixels = PICTURE_MOST_PIXELS};
    picture p = {0};
    const thaw_status status = picture_read(&p, path, &limits);

    picture_done(&p);
    return status;
}

static thaw_status read_tensors(const char *path)
{
    bundle *b = NULL;
    thaw_status status = bundle_open(&b, path);

    for (int i = 0; status == THAW_OK && i < b->n; i++) {
        size_t bytes = 0;
        void *out;

        CHECK_OK(shape_bytes(&bytes, &b->entry[i].shape, b->entry[i].dtype));
        out = malloc(bytes + 1);
        CHECK(out != NULL);
        status = bundle_read(out, b->entry[i].dtype, b, &b->entry[i]);
        free(out);
    }
    bundle_close(b);
    return status;
}

/* Is the file of these bytes refused? */
static bool give(const char *name, const void *data, size_t n)
{
    const char *const path = check_path(here.folder, name);
    const size_t before = thaw__mem_current();
    const bool weights = !picture_named(name);
    thaw_status status;

    check_write_file(path, data, n);
    thaw__mem_peak_reset();
    status = weights ? read_tensors(path) : read_picture(path);
    CHECK_MSG(thaw__mem_peak() - before < PEAK_MOST, "%s: %zu bytes at once", here.what,
              thaw__mem_peak() - before);
    CHECK_MSG(thaw__mem_current() == before, "%s: memory is left behind", here.what);
    if (status == THAW_OK) {
        here.taken++;
        return false;
    }
    here.refused++;
    CHECK_MSG(!strchr(thaw_error(), '\n') && strstr(thaw_error(), name), "%s: the message is '%s'",
              here.what, thaw_error());
    return true;
}

static void must_refuse(const char *name, const void *data, size_t n)
{
    CHECK_MSG(give(name, data, n), "%s: it is taken", here.what);
}

static void call_it(const char *format, const char *what, size_t where, int value)
{
    (void)snprintf(here.what, sizeof here.what, format, what, where, value);
}

/* ----------------------------------------------------------------------------------------------
 * what all files have: an end, and bytes that may be others */

static const char *const good[] = {
    "data/pictures/colour.jpg",  "data/pictures/progressive.jpg", "data/pictures/cmyk.jpg",
    "data/pictures/grey.jpg",    "data/pictures/rgb.png",         "data/pictures/interlaced.png",
    "data/pictures/palette.png", "data/pictures/deep.png",        "ckpt/torch/network.pth",
    "ckpt/torch/training.pth",   "ckpt/torch/protocol5.pth",      "ckpt/torch/old_views.pth",
    "ckpt/foreign.safetensors",
};

/* The name that a spoiled copy has. */
static const char *copy_name(const char *from)
{
    static char name[32];

    (void)snprintf(name, sizeof name, "spoiled%s", strrchr(from, '.'));
    return name;
}

/* Cut in the first nine tenths, nothing of any kind is whole. */
static void test_cut_off(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(good); i++) {
        size_t n;
        char *const data = check_read_file(&n, check_path(THAW_TEST_DIR, good[i]));

        for (size_t k = 0; k < 20; k++) {
            call_it("%s cut off after %zu bytes%.0d", good[i], n * 9 * k / 200, 0);
            must_refuse(copy_name(good[i]), data, n * 9 * k / 200);
        }
        free(data);
    }
}

static void test_changed_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < THAW_COUNT(good); i++) {
        size_t n;
        char *const data = check_read_file(&n, check_path(THAW_TEST_DIR, good[i]));
        const size_t head = THAW_MIN(n, 160); /* where sizes and kinds stand */

        for (size_t at = 0; at < head; at += 3) {
            const char was = data[at];

            data[at] = hostile_values[at / 3 % sizeof hostile_values];
            call_it("%s with byte %zu set to %d", good[i], at, data[at]);
            (void)give(copy_name(good[i]), data, n);
            data[at] = was;
        }
        free(data);
    }
}

/* ----------------------------------------------------------------------------------------------
 * pictures */

static void put_big_endian(char *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(v >> (24 - 8 * i));
}

/* The header of a PNG says something else; its checksum is right. */
static void test_png_headers(void **state)
{
    enum { LENGTH = 8, KIND = 12, WIDTH = 16, HEIGHT = 20, DEPTH = 24, COLOUR = 25, END = 29 };
    static const uint32_t side[] = {0, 16413, 65535, 1u << 24, 0x7fffffff, 0x80000000, 0xffffffff};
    static const char depth[] = {0, 3, 5, 7, 9, 32, (char)255};
    size_t n;
    char *const data = check_read_file(&n, check_path(THAW_TEST_DIR, "data/pictures/rgb.png"));
    char saved[END];

    (void)state;
    memcpy(saved, data, END);
    for (size_t i = 0; i < 2 * THAW_COUNT(side) + sizeof depth * 8 + 3; i++) {
        memcpy(data, saved, END);
        if (i < 2 * THAW_COUNT(side))
            put_big_endian(data + (i % 2 ? WIDTH : HEIGHT), side[i / 2]);
        else if (i < 2 * THAW_COUNT(side) + sizeof depth * 8) {
            data[DEPTH] = depth[i % sizeof depth];
            data[COLOUR] = (char)(i / sizeof depth % 8);
        } else {
            data[END - 1 - i % 3] = 1; /* methods of which there is one, or two */
        }
        put_big_endian(data + END, (uint32_t)crc32(0, (const Bytef *)data + KIND, END - KIND));
        call_it("%s with header number %zu%.0d", "rgb.png", i, 0);
        if (data[END - 1] == 1 && data[DEPTH] == saved[DEPTH])
            (void)give("header.png", data, n); /* interlaced is a method that there is */
        else
            must_refuse("header.png", data, n);
    }
    free(data);
}

/* Where a marker of a JPEG stands. */
static size_t marker(const char *data, size_t n, int kind)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (data[i] == (char)0xff && data[i + 1] == (char)kind)
            return i;
    CHECK_FAIL("no marker %x", kind);
    return 0;
}

/* Every byte of the frame's header, and the length of every segment, hostile. */
static void test_jpeg_headers(void **state)
{
    static const struct {
        const char *name;
        int frame;
    } row[] = {{"data/pictures/colour.jpg", 0xc0}, {"data/pictures/progressive.jpg", 0xc2}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        size_t n;
        char *const data = check_read_file(&n, check_path(THAW_TEST_DIR, row[i].name));
        const size_t place[] = {marker(data, n, row[i].frame), marker(data, n, 0xdb),
                                marker(data, n, 0xc4), marker(data, n, 0xda)};

        for (size_t k = 0; k < THAW_COUNT(place) * 18 * sizeof hostile_values; k++) {
            char *const at =
                data + place[k / sizeof hostile_values / 18] + 2 + k / sizeof hostile_values % 18;
            const char was = *at;

            *at = hostile_values[k % sizeof hostile_values];
            call_it("%s with byte %zu set to %d", row[i].name, (size_t)(at - data), *at);
            (void)give("header.jpg", data, n);
            *at = was;
        }
        free(data);
    }
}

/* ----------------------------------------------------------------------------------------------
 * weights */

static void put_little(char *at, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        at[i] = (char)(v >> 8 * i);
}

/* An archive with one stored entry. */
static size_t make_zip(char *z, const char *name, const char *data, size_t n)
{
    const size_t named = strlen(name), central = 30 + named + n, end = central + 46 + named;

    memset(z, 0, end + 22);
    memcpy(z, "PK\3\4", 4);
    put_little(z + 18, n, 4);
    put_little(z + 22, n, 4);
    put_little(z + 26, named, 2);
    memcpy(z + 30, name, named);
    memcpy(z + 30 + named, data, n);
    memcpy(z + central, "PK\1\2", 4);
    put_little(z + central + 20, n, 4);
    put_little(z + central + 24, n, 4);
    put_little(z + central + 28, named, 2);
    memcpy(z + central + 46, name, named);
    memcpy(z + end, "PK\5\6", 4);
    put_little(z + end + 8, 1, 2);
    put_little(z + end + 10, 1, 2);
    put_little(z + end + 12, end - central, 4);
    put_little(z + end + 16, central, 4);
    return end + 22;
}

/* The directory's fields, each with each hostile value: places, sizes, methods, lengths. */
static void test_archives(void **state)
{
    static const char *const names[] = {"../data.pkl",  "/data.pkl", "a/../../data.pkl", "..",
                                        "a/data.pkl/x", "",          "a\\data.pkl"};
    char z[400];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(names); i++) {
        call_it("an archive with entry '%s'%.0zu%.0d", names[i], 0, 0);
        must_refuse("archive.pth", z, make_zip(z, names[i], "\x80\x02}.", 4));
    }
    for (size_t at = 0; at < 140; at++) {
        const size_t n = make_zip(z, "a/data.pkl", "\x80\x02}.", 4);

        if (at >= n)
            break;
        for (size_t k = 0; k < sizeof hostile_values; k++) {
            const char was = z[at];

            z[at] = hostile_values[k];
            call_it("%s with byte %zu set to %d", "an archive", at, z[at]);
            (void)give("archive.pth", z, n);
            z[at] = was;
        }
    }
}

#define PICKLE(bytes)                                                                              \
    {                                                                                              \
        bytes, sizeof bytes - 1                                                                    \
    }

static void test_pickles(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } row[] = {
        PICKLE("cos\nsystem\n(S'true'\ntR."),
        PICKLE("cposix\nsystem\n\x85R."),
        PICKLE("c__builtin__\neval\n(S'1'\ntR."),
        PICKLE("cbuiltins\nexec\nq\x01."),
        PICKLE("\x80\x04\x8c\x02os\x8c\x06system\x93."),
        PICKLE("(S'true'\nios\nsystem\n."),
        PICKLE("(cos\nsystem\nS'true'\no."),
        PICKLE("ctorch\nload\n)R."),
        PICKLE("ctorch.storage\n_load_from_bytes\n(S'x'\ntR."),
        PICKLE("cctypes\nCDLL\n)\x81."),
        PICKLE("cpickle\nloads\n(S'N.'\ntR."),
        PICKLE("\x80\x02}q\x01(X\x01\x00\x00\x00xh\x01u."), /* holds itself */
        PICKLE("\x80\x02]q\x01h\x01"
               "a."),
        PICKLE("\x80\x02]q\x01(h\x01\x85"
               "e."),
        PICKLE("\x80\x02h\x05."), /* nothing was remembered */
        PICKLE("\x80\x02j\xff\xff\xff\xff."),
        PICKLE("\x80\x02r\xff\xff\xff\xff."),
        PICKLE("\x80\x02X\xff\xff\xff\x7fx."), /* lengths beyond the end */
        PICKLE("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff."),
        PICKLE("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."),
        PICKLE("\x80\x02\x8b\xff\xff\xff\x7f."),
        PICKLE("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}."),
        PICKLE("\x80\x02\x82\x01."), /* extensions, persistent ids, buffers */
        PICKLE("Pid\n."),
        PICKLE("\x80\x02NQ."),
        PICKLE("\x80\x05\x97."),
        PICKLE("\x80\x02t."), /* nothing on the stack */
        PICKLE("\x80\x02u."),
        PICKLE("\x80\x02R."),
        PICKLE("\x80\x02}b."),
        PICKLE("\x80\x02(((."),
        PICKLE("\x80\x02]."), /* not a dictionary */
        PICKLE("\x80\x02N."),
        PICKLE("\x80\x09}."),
        PICKLE("I12\n."),
        PICKLE("F1e999\n."),
        PICKLE("L99999999999999999999999L\n."),
        PICKLE("."),
        PICKLE("\x80\x02}"),
    };
    char z[300];

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        call_it("%s number %zu%.0d", "pickle", i, 0);
        must_refuse("pickle.pth", z, make_zip(z, "a/data.pkl", row[i].bytes, row[i].n));
    }
}

/* Instructions in a good pickle become others. */
static void test_instructions(void **state)
{
    static const char others[] = "cRiobPQ.\x81\x82\x93(tuse0";
    size_t n;
    char *const data = check_read_file(&n, check_path(THAW_TEST_DIR, "ckpt/torch/network.pth"));
    size_t at = 0;

    (void)state;
    while (memcmp(data + at, "\x80\x02", 2) != 0)
        at++;
    for (size_t i = 0; i < 40 * (sizeof others - 1); i++) {
        char *const place = data + at + 2 + i / (sizeof others - 1);
        const char was = *place;

        *place = others[i % (sizeof others - 1)];
        call_it("%s with byte %zu set to %d", "network.pth", (size_t)(place - data), *place);
        (void)give("instructions.pth", data, n);
        *place = was;
    }
    free(data);
}

/* ---------------------------------------------------------------------------------------------- */

/* Last: what all came to. libjpeg's own memory is not ours to count, so the process's peak is. */
static void test_count(void **state)
{
    (void)state;
    print_message(
        "%d files are refused, %d have no damage that matters; the process took %llu MiB\n",
        here.refused, here.taken, (unsigned long long)(os_memory_peak() >> 20));
    CHECK(here.refused >= REFUSED_LEAST);
#ifndef __SANITIZE_ADDRESS__
    CHECK(os_memory_peak() - here.at_first < PEAK_MOST);
#endif
}

static int set_up(void **state)
{
    (void)state;
    here.folder = check_folder();
    here.at_first = os_memory_peak();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    check_folder_remove(here.folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_off),      cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_png_headers),  cmocka_unit_test(test_jpeg_headers),
        cmocka_unit_test(test_archives),     cmocka_unit_test(test_pickles),
        cmocka_unit_test(test_instructions), cmocka_unit_test(test_count),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
