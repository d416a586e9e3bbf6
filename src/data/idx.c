/*
 * idx.c - one IDX file of unsigned bytes: a magic number that tells type and rank, big-endian
 * sizes, then the elements.
 *
 * Every size is checked against the cap and against what the file can hold before memory is asked
 * for. Must not know what images and labels are used for.
 */
#include "data/data.h"

#include <string.h>

#define MOST_BYTES   (UINT64_C(4) << 30)
#define MOST_RANK    4
#define TYPE_U8      0x08
#define MAX_CHANNELS 4
#define FIRST_ROOM   ((size_t)64 << 20) /* for what is compressed: more is taken as it comes */

static const struct {
    const char *noun, *axes;
    int least_rank, most_rank;
    unsigned magic; /* the usual one, for messages */
} kind_table[] = {
    [IDX_IMAGES] = {"images", "[n, H, W] or [n, H, W, C]", 3, 4, 0x00000803},
    [IDX_LABELS] = {"labels", "[n]", 1, 1, 0x00000801},
};

static const struct {
    uint8_t code;
    const char *name;
} type_table[] = {
    {TYPE_U8, "u8"}, {0x09, "i8"}, {0x0b, "i16"}, {0x0c, "i32"}, {0x0d, "f32"}, {0x0e, "f64"},
};

static const char *type_name(uint8_t code)
{
    for (size_t i = 0; i < THAW_COUNT(type_table); i++)
        if (type_table[i].code == code)
            return type_table[i].name;
    return NULL;
}

/* All of n bytes of the header. */
static thaw_status read_header(byte_source *s, void *buffer, size_t n, const char *name)
{
    size_t got = 0;

    THAW_CHECK(byte_source_read(&got, s, buffer, n));
    if (got < n)
        return thaw_fail(THAW_E_DATA,
                         "'%s' is too short for an IDX file: it ends within its header (%s)", name,
                         byte_source_most(s) == 0 ? "the file is empty" : "magic number and sizes");
    return THAW_OK;
}

static thaw_status check_magic(const uint8_t magic[4], const char *name, idx_kind kind)
{
    const char *type = type_name(magic[2]);
    const int rank = magic[3];

    if (magic[0] != 0 || magic[1] != 0 || !type)
        return thaw_fail(THAW_E_DATA,
                         "'%s' is not an IDX file of %s: magic number 0x%08x, expected 0x%08x",
                         name, kind_table[kind].noun, big_endian(magic), kind_table[kind].magic);
    if (magic[2] != TYPE_U8)
        return thaw_fail(THAW_E_DATA,
                         "'%s' has elements of type %s (0x%02x), expected u8 (0x08): convert it",
                         name, type, magic[2]);
    if (rank < kind_table[kind].least_rank || rank > kind_table[kind].most_rank)
        return thaw_fail(THAW_E_DATA,
                         "'%s' has %d axes, expected %s for %s (magic number 0x%08x, expected "
                         "0x%08x): are the files of images and labels swapped?",
                         name, rank, kind_table[kind].axes, kind_table[kind].noun,
                         big_endian(magic), kind_table[kind].magic);
    return THAW_OK;
}

/* Bytes of all elements, once the sizes are known to be sane. */
static thaw_status check_sizes(size_t *out, const uint32_t *dim, int rank, const byte_source *s,
                               const char *name)
{
    const uint64_t header = 4 + 4 * (uint64_t)rank;
    size_t bytes = 1;

    if (dim[0] == 0)
        return thaw_fail(THAW_E_DATA, "'%s' is empty: its header says 0 samples", name);
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 0)
            return thaw_fail(THAW_E_DATA, "'%s' says axis %d has size 0, expected 1 or more", name,
                             i);
        if (!size_mul(&bytes, bytes, dim[i]) || bytes > MOST_BYTES)
            return thaw_fail(
                THAW_E_DATA,
                "'%s' says it holds more than %llu bytes, the most that is read; it is "
                "damaged, or must be split",
                name, (unsigned long long)MOST_BYTES);
    }
    if (rank == MOST_RANK && dim[3] > MAX_CHANNELS)
        return thaw_fail(THAW_E_DATA, "'%s' has %u channels, expected 1 to %d", name, dim[3],
                         MAX_CHANNELS);
    if (bytes > byte_source_most(s) - header)
        return thaw_fail(
            THAW_E_DATA,
            "'%s' is too short: its header says %zu bytes of elements follow, the file "
            "can hold at most %llu; copy or download it again",
            name, bytes, (unsigned long long)(byte_source_most(s) - header));
    *out = bytes;
    return THAW_OK;
}

/*
 * Memory follows what is there, not what the header says: a few bytes of gzip may claim a thousand
 * times as many.
 */
static thaw_status read_elements(uint8_t **out, byte_source *s, size_t bytes, const char *name)
{
    thaw_status status = THAW_OK;
    uint8_t *data = NULL;
    size_t room = byte_source_plain(s) ? bytes : 0, have = 0, got;

    while (have < bytes) {
        uint8_t *grown;

        room = THAW_MIN(bytes, THAW_MAX(2 * room, FIRST_ROOM));
        grown = thaw__resize(data, room, 1);
        if (!grown) {
            status =
                thaw_fail(THAW_E_NOMEM, "out of memory for the %zu bytes of '%s'", bytes, name);
            goto done;
        }
        data = grown;
        THAW_TRY(byte_source_read(&got, s, data + have, room - have));
        have += got;
        if (have < room) {
            status =
                thaw_fail(THAW_E_DATA,
                          "'%s' is too short: its header says %zu bytes of elements follow, there "
                          "are %zu; copy or download it again",
                          name, bytes, have);
            goto done;
        }
    }
    THAW_TRY(byte_source_finish(s));
    *out = data;
    data = NULL;
done:
    thaw__free(data);
    return status;
}

static thaw_status parse(idx_array *out, byte_source *s, const char *name, idx_kind kind)
{
    uint8_t magic[4], raw[4 * MOST_RANK];
    uint32_t dim[MOST_RANK] = {1, 1, 1, 1};
    size_t bytes = 0;
    uint8_t *data = NULL;
    int rank;

    THAW_CHECK(read_header(s, magic, sizeof magic, name));
    THAW_CHECK(check_magic(magic, name, kind));
    rank = magic[3];
    THAW_CHECK(read_header(s, raw, 4 * (size_t)rank, name));
    for (int i = 0; i < rank; i++)
        dim[i] = big_endian(raw + 4 * i);
    THAW_CHECK(check_sizes(&bytes, dim, rank, s, name));
    THAW_CHECK(read_elements(&data, s, bytes, name));

    *out = (idx_array){dim[0], dim[1], dim[2], dim[3], data};
    return THAW_OK;
}

thaw_status idx_read(idx_array *out, const char *path, idx_kind kind)
{
    thaw_status status = THAW_OK;
    byte_source *s = NULL;

    THAW_TRY(byte_source_open(&s, path));
    THAW_TRY(parse(out, s, path, kind));
done:
    byte_source_close(s);
    return status;
}

thaw_status idx_parse(idx_array *out, const void *bytes, size_t size, const char *name,
                      idx_kind kind)
{
    thaw_status status = THAW_OK;
    byte_source *s = NULL;

    THAW_TRY(byte_source_open_memory(&s, bytes, size, name));
    THAW_TRY(parse(out, s, name, kind));
done:
    byte_source_close(s);
    return status;
}
