/*
 * gunzip.c - bytes that may be compressed: a file or a block of memory read from its start to its
 * end, inflated on the way when the content begins with the gzip magic number.
 *
 * The caller says how many bytes it wants; nothing beyond them is inflated, so a compressed bomb
 * costs no more than what the caller was ready to take. Must not know what the bytes mean.
 */
#include "data/data.h"

#include <limits.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

#define CHUNK         (64 * 1024)
#define DEFLATE_RATIO 1032      /* most output per input byte: zlib's technical notes */
#define GZIP_WINDOW   (15 + 16) /* largest window, gzip wrapper only */

struct byte_source {
    const char *name;
    const uint8_t *bytes; /* whole content, when it lies in memory */
    int fd;               /* else the file */
    int64_t size, at;     /* as stored */
    bool gzip, ended;     /* ended: the compressed stream is complete and its checksum held */
    z_stream z;
    uint8_t chunk[CHUNK];
};

static voidpf zlib_alloc(voidpf user, uInt count, uInt size)
{
    (void)user;
    return thaw__new(count, size);
}

static void zlib_free(voidpf user, voidpf block)
{
    (void)user;
    thaw__free(block);
}

/* n stored bytes at the position, which moves on; there are that many. */
static thaw_status stored(byte_source *s, void *buffer, size_t n)
{
    if (s->bytes)
        memcpy(buffer, s->bytes + s->at, n);
    else
        THAW_CHECK(os_pread_all(s->fd, buffer, n, s->at, s->name));
    s->at += (int64_t)n;
    return THAW_OK;
}

static size_t stored_left(const byte_source *s, size_t most)
{
    return (uint64_t)(s->size - s->at) < most ? (size_t)(s->size - s->at) : most;
}

/* Look at the first bytes and prepare for what they are. */
static thaw_status detect(byte_source *s)
{
    uint8_t magic[2] = {0, 0};

    THAW_CHECK(stored(s, magic, stored_left(s, sizeof magic)));
    s->at = 0;
    if (magic[0] != 0x1f || magic[1] != 0x8b)
        return THAW_OK;
    s->z.zalloc = zlib_alloc;
    s->z.zfree = zlib_free;
    if (inflateInit2(&s->z, GZIP_WINDOW) != Z_OK)
        return thaw_fail(THAW_E_NOMEM, "out of memory to decompress '%s'", s->name);
    s->gzip = true;
    return THAW_OK;
}

static thaw_status source_create(byte_source **out, const char *name)
{
    byte_source *s = thaw__new(1, sizeof *s);

    if (!s)
        return thaw_fail(THAW_E_NOMEM, "out of memory to read '%s'", name);
    s->name = name;
    s->fd = -1;
    *out = s;
    return THAW_OK;
}

thaw_status byte_source_open(byte_source **out, const char *path)
{
    thaw_status status = THAW_OK;
    byte_source *s = NULL;

    THAW_TRY(source_create(&s, path));
    THAW_TRY(os_open_file(&s->fd, &s->size, path));
    THAW_TRY(detect(s));
    *out = s;
    s = NULL;
done:
    byte_source_close(s);
    return status;
}

thaw_status byte_source_open_memory(byte_source **out, const void *bytes, size_t size,
                                    const char *name)
{
    thaw_status status = THAW_OK;
    byte_source *s = NULL;

    THAW_TRY(source_create(&s, name));
    s->bytes = size > 0 ? bytes : (const void *)"";
    s->size = (int64_t)size;
    THAW_TRY(detect(s));
    *out = s;
    s = NULL;
done:
    byte_source_close(s);
    return status;
}

void byte_source_close(byte_source *s)
{
    if (!s)
        return;
    if (s->gzip)
        (void)inflateEnd(&s->z);
    os_close(s->fd);
    thaw__free(s);
}

bool byte_source_plain(const byte_source *s)
{
    return !s->gzip;
}

uint64_t byte_source_most(const byte_source *s)
{
    uint64_t most = (uint64_t)s->size;

    if (s->gzip && __builtin_mul_overflow(most, (uint64_t)DEFLATE_RATIO, &most))
        most = UINT64_MAX;
    return most;
}

/* Give zlib more input; there must be some. */
static thaw_status refill(byte_source *s)
{
    const size_t n = stored_left(s, CHUNK);

    if (n == 0)
        return thaw_fail(THAW_E_DATA,
                         "'%s' is cut short: its gzip stream does not end within the file's %lld "
                         "bytes; copy or download it again",
                         s->name, (long long)s->size);
    THAW_CHECK(stored(s, s->chunk, n));
    s->z.next_in = s->chunk;
    s->z.avail_in = (uInt)n;
    return THAW_OK;
}

static thaw_status fail_inflate(const byte_source *s, int code)
{
    if (code == Z_MEM_ERROR)
        return thaw_fail(THAW_E_NOMEM, "out of memory to decompress '%s'", s->name);
    return thaw_fail(THAW_E_DATA,
                     "'%s' is damaged: %s in its gzip stream, near byte %lld of %lld; copy or "
                     "download it again",
                     s->name, s->z.msg ? s->z.msg : "an error",
                     (long long)(s->at - (int64_t)s->z.avail_in), (long long)s->size);
}

static thaw_status read_gzip(size_t *got, byte_source *s, void *buffer, size_t n)
{
    uint8_t *to = buffer;
    size_t left = n;

    while (left > 0 && !s->ended) {
        const uInt room = left < UINT_MAX ? (uInt)left : UINT_MAX;
        int code;

        if (s->z.avail_in == 0)
            THAW_CHECK(refill(s));
        s->z.next_out = to;
        s->z.avail_out = room;
        code = inflate(&s->z, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return fail_inflate(s, code);
        s->ended = code == Z_STREAM_END;
        to += room - s->z.avail_out;
        left -= room - s->z.avail_out;
    }
    *got = n - left;
    return THAW_OK;
}

thaw_status byte_source_read(size_t *got, byte_source *s, void *buffer, size_t n)
{
    const size_t plain = stored_left(s, n);

    if (s->gzip)
        return read_gzip(got, s, buffer, n);
    THAW_CHECK(stored(s, buffer, plain));
    *got = plain;
    return THAW_OK;
}

thaw_status byte_source_finish(byte_source *s)
{
    uint8_t extra;
    size_t got = 0;
    int64_t left;

    THAW_CHECK(byte_source_read(&got, s, &extra, 1));
    left = s->size - s->at + (s->gzip ? (int64_t)s->z.avail_in : 0);
    if (got > 0 && s->gzip)
        return thaw_fail(
            THAW_E_DATA,
            "'%s' is too long: its decompressed content goes on after the last element "
            "that its header describes, expected its end; it is damaged",
            s->name);
    if (got > 0)
        return thaw_fail(THAW_E_DATA,
                         "'%s' is too long: %lld bytes follow the last element that its header "
                         "describes, expected none; it is damaged",
                         s->name, (long long)left + 1);
    if (left > 0)
        return thaw_fail(THAW_E_DATA,
                         "'%s' has %lld bytes after the end of its gzip stream, expected none; it "
                         "is damaged: copy or download it again",
                         s->name, (long long)left);
    return THAW_OK;
}
