/*
 * Reading safetensors: what is right is read and converted, everything else is refused with a
 * message that names file and tensor, and costs neither memory nor time.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "faults.h"
#include "saving.h"

#define T(name, type, shape, at)                                                                   \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" at "}"
#define A T("a", "F32", "[2]", "[0,8]")

static void write_file(const char *path, uint64_t length, const char *header, size_t n_header,
                       size_t n_data)
{
    char *whole = calloc(1, 8 + n_header + n_data + 1);

    CHECK(whole != NULL);
    memcpy(whole, &length, 8);
    memcpy(whole + 8, header, n_header);
    for (size_t i = 0; i < n_data; i++)
        whole[8 + n_header + i] = (char)(i + 1);
    check_write_file(path, whole, 8 + n_header + n_data);
    free(whole);
}

/* ----------------------------------------------------------------------------------------------
 * headers that must be refused */

static const struct {
    const char *header;
    size_t data;
    thaw_status status;
    const char *message; /* after "'FILE': " */
} refused[] = {
    /* not the JSON it should be */
    {"{", 0, THAW_E_DATA, "header byte 1: it ends where a string should come"},
    {"{}x", 0, THAW_E_DATA, "header byte 2: 'x' where the end should come"},
    {"{} {}", 0, THAW_E_DATA, "header byte 3: '{' where the end should come"},
    {"{,}", 0, THAW_E_DATA, "header byte 1: ',' where a string should come"},
    {"{" A ",}", 8, THAW_E_DATA, "header byte 54: '}' where a string should come"},
    {"{" A A "}", 16, THAW_E_DATA, "header byte 53: '\"' where ',' or '}' should come"},
    {"{\"a\"}", 0, THAW_E_DATA, "header byte 4: '}' where ':' should come"},
    {"{\"a\":1}", 0, THAW_E_DATA, "tensor 'a': header byte 5: '1' where '{' should come"},
    {"{\"a\":[]}", 0, THAW_E_DATA, "tensor 'a': header byte 5: '[' where '{' should come"},
    {"{\"a\":null}", 0, THAW_E_DATA, "tensor 'a': header byte 5: 'n' where '{' should come"},
    {"{'a':{}}", 0, THAW_E_DATA, "header byte 1: ''' where a string should come"},
    {"{\"a", 0, THAW_E_DATA, "header byte 3: it ends where the end of a string should come"},
    {"{\"a\\", 0, THAW_E_DATA, "header byte 4: it ends where an escape of JSON should come"},
    {"{\"a\\x\":{}}", 0, THAW_E_DATA, "header byte 4: 'x' where an escape of JSON should come"},
    {"{\"a\\u12g4\":{}}", 0, THAW_E_DATA,
     "header byte 5: '1' where four hexadecimal digits should come"},
    {"{\"\\u0000\":{}}", 0, THAW_E_DATA,
     "header byte 4: '0' where a character other than NUL should come"},
    {"{\"\\ud800\":{}}", 0, THAW_E_DATA,
     "header byte 8: '\"' where the other half of a surrogate pair should come"},
    {"{\"\\udc00\":{}}", 0, THAW_E_DATA,
     "header byte 8: '\"' where the other half of a surrogate pair should come"},
    {"{\"\\ud800\\u0041\":{}}", 0, THAW_E_DATA,
     "header byte 8: '\\' where the other half of a surrogate pair should come"},
    {"{\"\n\":{}}", 0, THAW_E_DATA,
     "header byte 2: byte 0x0A where the end of a string should come"},
    {"{\"\xFF\":{}}", 0, THAW_E_DATA, "header byte 2: byte 0xFF where UTF-8 should come"},
    {"{\"\xC0\xAF\":{}}", 0, THAW_E_DATA, "header byte 2: byte 0xC0 where UTF-8 should come"},
    {"{\"\xE0\x80\xAF\":{}}", 0, THAW_E_DATA, "header byte 2: byte 0xE0 where UTF-8 should come"},
    {"{\"\xED\xA0\x80\":{}}", 0, THAW_E_DATA, "header byte 2: byte 0xED where UTF-8 should come"},
    {"{\"\xF4\x90\x80\x80\":{}}", 0, THAW_E_DATA,
     "header byte 2: byte 0xF4 where UTF-8 should come"},
    {"{\"\xE2\x82\":{}}", 0, THAW_E_DATA, "header byte 2: byte 0xE2 where UTF-8 should come"},
    {"{\"a\\n\":{}}", 0, THAW_E_DATA, "header byte 2: a name with control character 0x0A"},
    {"{\"a\x7F\":{}}", 0, THAW_E_DATA, "header byte 2: a name with control character 0x7F"},
    {"{\"\":{}}", 0, THAW_E_DATA, "a tensor has an empty name"},

    /* names given twice, also when spelt differently */
    {"{" A "," A "}", 8, THAW_E_DATA, "tensor 'a' is given twice"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[8,16]") "}", 16, THAW_E_DATA,
     "tensor 'a' is given twice"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("\\u0061", "F32", "[2]", "[8,16]") "}", 16,
     THAW_E_DATA, "tensor 'a' is given twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     THAW_E_DATA, "tensor 'a': 'dtype' is given twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"sh\\u0061pe\":[2],\"data_offsets\":[0,8]}}", 8,
     THAW_E_DATA, "tensor 'a': 'shape' is given twice"},
    {"{\"a\":{\"data_offsets\":[0,8],\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     THAW_E_DATA, "tensor 'a': 'data_offsets' is given twice"},

    /* members of a tensor */
    {"{\"a\":{}}", 0, THAW_E_DATA, "tensor 'a': 'dtype' is missing"},
    {"{\"a\":{\"dtype\":\"F32\"}}", 0, THAW_E_DATA, "tensor 'a': 'shape' is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, THAW_E_DATA,
     "tensor 'a': 'data_offsets' is missing"},
    {"{\"a\":{\"Dtype\":\"F32\"}}", 0, THAW_E_DATA, "tensor 'a': unknown key 'Dtype'"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, THAW_E_DATA,
     "tensor 'a': unknown key 'x'"},
    {"{\"a\":{\"a key that is too long\":1}}", 0, THAW_E_LIMIT,
     "tensor 'a': header byte 7: a string longer than 15 bytes"},

    /* dtypes */
    {"{" T("a", "F8_E4M3", "[2]", "[0,2]") "}", 2, THAW_E_SUPPORT,
     "tensor 'a': dtype 'F8_E4M3' is not supported: convert it to F32 or BF16"},
    {"{" T("a", "U64", "[2]", "[0,16]") "}", 16, THAW_E_SUPPORT,
     "tensor 'a': dtype 'U64' is not supported: convert it to F32 or BF16"},
    {"{" T("a", "f32", "[2]", "[0,8]") "}", 8, THAW_E_DATA, "tensor 'a': unknown dtype 'f32'"},
    {"{" T("a", "", "[2]", "[0,8]") "}", 8, THAW_E_DATA, "tensor 'a': unknown dtype ''"},
    {"{\"a\":{\"dtype\":7}}", 0, THAW_E_DATA,
     "tensor 'a': header byte 14: '7' where a string should come"},

    /* shapes */
    {"{" T("a", "F32", "2", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 28: '2' where '[' should come"},
    {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 29: '-' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 30: '.' where ',' or ']' should come"},
    {"{" T("a", "F32", "[2e0]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 30: 'e' where ',' or ']' should come"},
    {"{" T("a", "F32", "[02]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 29: a number with a leading zero"},
    {"{" T("a", "F32", "[\\\"2\\\"]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 29: '\\' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[true]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 29: 't' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[[2]]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 29: '[' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[2,]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 31: ']' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[2", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 31: '\"' where a whole number of 0 or more should come"},
    {"{" T("a", "U8", "[1,1,1,1,1,1,1]", "[0,1]") "}", 1, THAW_E_SUPPORT,
     "tensor 'a': more than 6 axes are not supported"},
    {"{" T("a", "U8", "[9007199254740993]", "[0,1]") "}", 1, THAW_E_DATA,
     "tensor 'a': header byte 28: a number above 2^53"},
    {"{" T("a", "U8", "[18446744073709551617]", "[0,1]") "}", 1, THAW_E_DATA,
     "tensor 'a': header byte 28: a number above 2^53"},
    {"{" T("a", "U8", "[99999999999999999999999999999999999999999]", "[0,1]") "}", 1, THAW_E_DATA,
     "tensor 'a': header byte 28: a number above 2^53"},
    {"{" T("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, THAW_E_DATA,
     "tensor 'a': axis 1 of size 4294967296 is out of range"},
    {"{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0, THAW_E_DATA,
     "tensor 'a': header byte 29: a number above 2^53"},
    {"{" T("a", "F64", "[2147483648,1073741824]", "[0,0]") "}", 0, THAW_E_DATA,
     "tensor 'a': a tensor [2147483648, 1073741824] of f64 is too large"},
    {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': [3] of F32 is 12 bytes, but data_offsets span 8"},
    {"{" T("a", "F32", "[]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': [] of F32 is 4 bytes, but data_offsets span 8"},
    {"{" T("a", "F32", "[2,0]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': [2, 0] of F32 is 0 bytes, but data_offsets span 8"},

    /* offsets of one tensor */
    {"{" T("a", "F32", "[2]", "8") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 47: '8' where '[' should come"},
    {"{" T("a", "F32", "[2]", "[]") "}", 8, THAW_E_DATA,
     "tensor 'a': data_offsets holds 0 numbers, not 2"},
    {"{" T("a", "F32", "[2]", "[8]") "}", 8, THAW_E_DATA,
     "tensor 'a': data_offsets holds 1 numbers, not 2"},
    {"{" T("a", "F32", "[2]", "[0,8,8]") "}", 8, THAW_E_DATA,
     "tensor 'a': data_offsets holds more than 2 numbers"},
    {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, THAW_E_DATA,
     "tensor 'a': data_offsets [8, 0] end before they begin"},
    {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 48: '-' where a whole number of 0 or more should come"},
    {"{" T("a", "F32", "[2]", "[0,9007199254740993]") "}", 8, THAW_E_DATA,
     "tensor 'a': header byte 50: a number above 2^53"},
    {"{" T("a", "F32", "[2]", "[0,8]") "}", 7, THAW_E_DATA,
     "tensor 'a': data_offsets [0, 8] go beyond the 7 bytes of data"},
    {"{" T("a", "F32", "[2]", "[9007199254740984,9007199254740992]") "}", 8, THAW_E_DATA,
     "tensor 'a': data_offsets [9007199254740984, 9007199254740992] go beyond the 8 bytes of data"},

    /* all tensors together */
    {"{" A "}", 9, THAW_E_DATA, "1 bytes after the last tensor"},
    {"{}", 1, THAW_E_DATA, "1 bytes after the last tensor"},
    {"{" T("a", "F32", "[1]", "[4,8]") "}", 8, THAW_E_DATA,
     "4 unused bytes before tensor 'a' at data byte 4"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[5,9]") "}", 9, THAW_E_DATA,
     "1 unused bytes before tensor 'b' at data byte 5"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 8, THAW_E_DATA,
     "tensor 'b' at data byte 4 overlaps 'a', which ends at 8"},
    {"{" T("a", "U8", "[5]", "[0,5]") "," T("b", "U8", "[4]", "[4,8]") "}", 8, THAW_E_DATA,
     "tensor 'b' at data byte 4 overlaps 'a', which ends at 5"},
    {"{" T("b", "F32", "[2]", "[0,8]") "," T("c", "F32", "[2]", "[0,8]") "}", 8, THAW_E_DATA,
     "tensor 'c' at data byte 0 overlaps 'b', which ends at 8"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[0]", "[4,4]") "}", 8, THAW_E_DATA,
     "tensor 'b' at data byte 4 overlaps 'a', which ends at 8"},
    {"{" T("a", "F32", "[0]", "[4,4]") "}", 8, THAW_E_DATA,
     "4 unused bytes before tensor 'a' at data byte 4"},

    /* metadata */
    {"{\"__metadata__\":\"x\"}", 0, THAW_E_DATA, "header byte 16: '\"' where '{' should come"},
    {"{\"__metadata__\":{\"a\":1}}", 0, THAW_E_DATA,
     "header byte 21: '1' where a string should come"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, THAW_E_DATA,
     "header byte 21: '{' where a string should come"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, THAW_E_DATA, "'__metadata__' is given twice"},
    {"{\"__metadata__\":{},\"__met\\u0061data__\":{}}", 0, THAW_E_DATA,
     "'__metadata__' is given twice"},
};

static void test_refused_headers(void **state)
{
    char *folder = check_folder(), want[512];
    const char *path = check_path(folder, "f");

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(refused); i++) {
        const size_t before = thaw__mem_current(), n = strlen(refused[i].header);
        st_file *f = NULL;
        thaw_status status;

        write_file(path, n, refused[i].header, n, refused[i].data);
        thaw__mem_peak_reset();
        status = st_open(&f, path);
        CHECK_MSG(status == refused[i].status && f == NULL, "%s: got %s '%s', want %s '%s'",
                  refused[i].header, thaw_status_name(status), status ? thaw_error() : "",
                  thaw_status_name(refused[i].status), refused[i].message);
        snprintf(want, sizeof want, "'%s': %s", path, refused[i].message);
        CHECK_STR(thaw_error(), want);
        CHECK_INT(thaw__mem_current(), before);
        CHECK(thaw__mem_peak() < before + 65536);
    }
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * whole files that must be refused */

static const struct {
    const char *bytes;
    size_t n;
    thaw_status status;
    const char *message;
} other_files[] = {
    {"", 0, THAW_E_DATA, "0 bytes are too few for a safetensors file"},
    {"\2\0\0\0\0\0\0", 7, THAW_E_DATA, "7 bytes are too few for a safetensors file"},
    {"\0\0\0\0\0\0\0\0", 8, THAW_E_DATA, "the header does not begin with '{'"},
    {"\0\0\0\0\0\0\0\0{}", 10, THAW_E_DATA, "header byte 0: it ends where '{' should come"},
    {"\1\0\0\0\0\0\0\0", 8, THAW_E_DATA, "header length 1 goes beyond the 8 bytes of the file"},
    {"\3\0\0\0\0\0\0\0{}", 10, THAW_E_DATA, "header length 3 goes beyond the 10 bytes of the file"},
    {"\2\0\0\0\0\0\0\0 {}", 11, THAW_E_DATA, "the header does not begin with '{'"},
    {"\377\377\377\377\377\377\377\377{}", 10, THAW_E_DATA,
     "header length 18446744073709551615 is above the limit of 33554432 bytes"},
    {"\0\0\0\0\0\0\0\200{}", 10, THAW_E_DATA,
     "header length 9223372036854775808 is above the limit of 33554432 bytes"},
    {"\1\0\0\2\0\0\0\0{}", 10, THAW_E_DATA,
     "header length 33554433 is above the limit of 33554432 bytes"},
    {"\200\2cmodule", 10, THAW_E_SUPPORT,
     "this is a Python pickle, which can run code: convert it to safetensors"},
    {"\200\4\225\1\0\0\0\0\0\0\0", 11, THAW_E_SUPPORT, "this is a Python pickle"},
    {"PK\3\4\0\0\0\0\0\0\0\0", 12, THAW_E_SUPPORT,
     "this is a zip file, such as torch.save() writes"},
    {"GGUF\3\0\0\0\0\0\0\0", 12, THAW_E_SUPPORT, "this is a GGUF file: convert it to safetensors"},
    {"\211HDF\r\n\032\n\0\0", 10, THAW_E_SUPPORT, "this is an HDF5 file"},
    {"\223NUMPY\1\0v\0", 10, THAW_E_SUPPORT, "this is a NumPy file"},
    {"\037\213\10\0\0\0\0\0\0\0", 10, THAW_E_SUPPORT, "this is compressed with gzip"},
    {"version https://git-lfs.github.com/spec/v1\n", 43, THAW_E_DATA,
     "this is a Git LFS pointer and not the file itself: fetch it with 'git lfs pull'"},
    {"<!DOCTYPE html><html>", 21, THAW_E_DATA, "this is a web page: the download failed"},
    {"{\"architectures\": []}", 21, THAW_E_DATA, "this is JSON text and not a safetensors file"},
};

static void test_other_files(void **state)
{
    char *folder = check_folder();
    const char *path = check_path(folder, "f");
    st_file *f = NULL;

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(other_files); i++) {
        check_write_file(path, other_files[i].bytes, other_files[i].n);
        CHECK_ERROR(st_open(&f, path), other_files[i].status, other_files[i].message);
        CHECK_CONTAINS(thaw_error(), path);
    }
    CHECK_ERROR(st_open(&f, check_path(folder, "none")), THAW_E_MISSING, "none'");
    CHECK_ERROR(st_open(&f, folder), THAW_E_DATA, "is a folder");
    CHECK_ERROR(st_open(&f, "/dev/zero"), THAW_E_DATA, "is a device");
    CHECK(mkfifo(check_path(folder, "fifo"), 0600) == 0);
    CHECK_ERROR(st_open(&f, check_path(folder, "fifo")), THAW_E_DATA, "is a pipe");
    CHECK(f == NULL);
    check_folder_remove(folder);
}

/* A length that is also a pickle's first bytes is a length when a header follows. */
static void test_length_like_magic(void **state)
{
    char *folder = check_folder(), header[640];
    const char *path = check_path(folder, "f");
    st_file *f = NULL;

    (void)state;
    memset(header, ' ', sizeof header);
    memcpy(header, "{}", 2);
    write_file(path, 0x280, header, sizeof header, 0);
    CHECK_OK(st_open(&f, path));
    CHECK_INT(f->n, 0);
    st_close(f);
    check_folder_remove(folder);
}

/* Long names, deep nesting, and more tensors than anyone has, in large headers. */
static void test_bombs(void **state)
{
    enum { BIG = 4 << 20 };
    char *folder = check_folder(), *header = malloc(BIG);
    const char *path = check_path(folder, "f");
    const size_t before = thaw__mem_current();
    st_file *f = NULL;
    size_t n = 0;

    (void)state;
    CHECK(header != NULL);
    memset(header, '[', BIG);
    memcpy(header, "{\"a\":", 5);
    write_file(path, BIG, header, BIG, 0);
    CHECK_ERROR(st_open(&f, path), THAW_E_DATA, "tensor 'a': header byte 5: '['");

    memset(header, 'x', BIG);
    memcpy(header, "{\"", 2);
    write_file(path, BIG, header, BIG, 0);
    CHECK_ERROR(st_open(&f, path), THAW_E_LIMIT, "a string longer than 512 bytes");

    n = (size_t)snprintf(header, BIG, "{\"__metadata__\":{\"a\":\"");
    memset(header + n, 'x', BIG - n);
    write_file(path, BIG, header, BIG, 0);
    thaw__mem_peak_reset();
    CHECK_ERROR(st_open(&f, path), THAW_E_DATA, "it ends where the end of a string should come");
    CHECK(thaw__mem_peak() < before + BIG + 65536);
    free(header);

    header = malloc(100001 * 64);
    CHECK(header != NULL);
    header[n = 0] = '{';
    for (int i = 0; i <= 100000; i++)
        n += (size_t)sprintf(header + n, "%c" T("%x", "U8", "[0]", "[0,0]"), i ? ',' : '{', i);
    header[n++] = '}';
    write_file(path, n, header, n, 0);
    CHECK_ERROR(st_open(&f, path), THAW_E_LIMIT, "more than 100000 tensors");
    CHECK_INT(thaw__mem_current(), before);
    free(header);
    check_folder_remove(folder);
}

/* ----------------------------------------------------------------------------------------------
 * what is right */

static const char good_header[] =
    "{ \"b\" : \t\n\r{\"shape\":[2,1,2],\"data_offsets\":[8,24],\"dtype\":\"F32\"},"
    "\"__metadata__\" : {\"format\":\"pt\",\"a\":\"\\u00e4\\n\"},"
    "\"\\ud83d\\ude00/a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
    "\"none\":{\"dtype\":\"BF16\",\"shape\":[3,0],\"data_offsets\":[24,24]}}   ";

static void test_good(void **state)
{
    char *folder = check_folder();
    const char *path = check_path(folder, "f"), *header = good_header;
    const size_t before = thaw__mem_current();
    const st_entry *e;
    st_file *f = NULL;
    float got[4], want[4];
    int64_t integer = 0;
    unsigned char bytes[16];

    (void)state;
    for (int i = 0; i < 16; i++)
        bytes[i] = (unsigned char)(i + 9);
    memcpy(want, bytes, sizeof want);
    write_file(path, strlen(header), header, strlen(header), 24);
    CHECK_OK(st_open(&f, path));
    CHECK_INT(f->n, 3);
    CHECK_STR(f->path, path);
    CHECK_STR(f->metadata, "{\"format\":\"pt\",\"a\":\"\\u00e4\\n\"}");
    CHECK_STR(f->entry[0].name, "\xF0\x9F\x98\x80/a");
    CHECK_STR(f->entry[1].name, "b");
    CHECK_STR(f->entry[2].name, "none");
    CHECK(st_find(f, "c") == NULL);
    CHECK(st_find(f, "") == NULL);

    e = st_find(f, "b");
    CHECK(e == &f->entry[1]);
    CHECK_INT(e->dtype, DTYPE_F32);
    CHECK_INT(e->shape.rank, 3);
    CHECK_INT(e->shape.dim[2], 2);
    CHECK_INT(e->begin, 8 + strlen(header) + 8);
    CHECK_INT(e->bytes, 16);
    CHECK_OK(st_read(got, DTYPE_F32, f, e));
    CHECK_BYTES(got, want, sizeof got);
    CHECK_ERROR(st_read(&integer, DTYPE_I64, f, e), THAW_E_SUPPORT, "tensor 'b': ");
    CHECK_OK(st_read(&integer, DTYPE_I64, f, st_find(f, "\xF0\x9F\x98\x80/a")));
    CHECK_INT(integer, INT64_C(0x0807060504030201));
    CHECK_OK(st_read(got, DTYPE_F32, f, st_find(f, "none")));
    st_close(f);
    CHECK_INT(thaw__mem_current(), before);
    check_folder_remove(folder);
}

/* Converted in pieces, a large tensor is what it is when converted whole. */
static void test_convert_large(void **state)
{
    enum { N = 700001 };
    char *folder = check_folder();
    const char *path = check_path(folder, "f");
    double *src = thaw__new(N, sizeof *src), *back = thaw__new(N, sizeof *back);
    float *want = thaw__new(N, sizeof *want), *got = thaw__new(N, sizeof *got);
    const st_source source = {"a", DTYPE_F64, shape_1(N), src};
    st_file *f = NULL;
    int fd;

    (void)state;
    CHECK(src && back && want && got);
    for (int i = 0; i < N; i++)
        want[i] = (float)(src[i] = 1.0 / (i + 1));
    fd = open(path, O_WRONLY | O_CREAT, 0644);
    CHECK_OK(st_write(fd, "f", &source, 1, NULL));
    close(fd);
    CHECK_OK(st_open(&f, path));
    CHECK(f->metadata == NULL);
    CHECK_OK(st_read(got, DTYPE_F32, f, &f->entry[0]));
    CHECK_BYTES(got, want, N * sizeof *got);
    CHECK_OK(st_read(back, DTYPE_F64, f, &f->entry[0]));
    CHECK_BYTES(back, src, N * sizeof *back);

    CHECK(truncate(path, 4096) == 0);
    CHECK_ERROR(st_read(got, DTYPE_F32, f, &f->entry[0]), THAW_E_IO, "tensor 'a': '");
    CHECK_CONTAINS(thaw_error(), "bytes early, at byte 4096");
    st_close(f);
    thaw__free(src);
    thaw__free(back);
    thaw__free(want);
    thaw__free(got);
    check_folder_remove(folder);
}

/* Written by another implementation: every type we hold. */
static void test_foreign_file(void **state)
{
    static const struct {
        const char *name;
        dtype dtype;
        double value[4];
    } want[] = {
        {"f64", DTYPE_F64, {0.1, -2.5, 1e300, 0}},  {"f32", DTYPE_F32, {0.5, -1.25, 3, 65536}},
        {"f16", DTYPE_F16, {0.5, -1.25, 3, 65504}}, {"i64", DTYPE_I64, {1, -2, 3, 1099511627776}},
        {"i32", DTYPE_I32, {1, -2, 3, 2147483647}}, {"i16", DTYPE_I16, {1, -2, 3, 32767}},
        {"i8", DTYPE_I8, {1, -2, 3, 127}},          {"u8", DTYPE_U8, {1, 2, 3, 255}},
    };
    st_file *f = NULL;

    (void)state;
    CHECK_OK(st_open(&f, THAW_TEST_DIR "/ckpt/foreign.safetensors"));
    CHECK_CONTAINS(f->metadata, "\"framework\"");
    CHECK_INT(f->n, THAW_COUNT(want) + 2);
    for (size_t i = 0; i < THAW_COUNT(want); i++) {
        const st_entry *e = st_find(f, want[i].name);
        double got[4];

        CHECK_MSG(e && e->dtype == want[i].dtype && e->shape.rank == 2 && e->shape.dim[1] == 2,
                  "tensor '%s' is not what was written", want[i].name);
        CHECK_OK(st_read(got, DTYPE_F64, f, e));
        CHECK_CLOSE(got, want[i].value, 4, 0, 0);
    }
    CHECK_INT(st_find(f, "bool")->dtype, DTYPE_BOOL);
    CHECK_INT(st_find(f, "empty")->bytes, 0);
    st_close(f);
}

/* ----------------------------------------------------------------------------------------------
 * failing */

static thaw_status open_and_read(const char *path)
{
    thaw_status status = THAW_OK;
    st_file *f = NULL;
    double out[4];

    THAW_CHECK(st_open(&f, path));
    for (int i = 0; i < f->n && status == THAW_OK; i++)
        if (dtype_is_float(f->entry[i].dtype))
            status = st_read(out, DTYPE_F64, f, &f->entry[i]);
    st_close(f);
    return status;
}

static void test_failing(void **state)
{
    static const char path[] = THAW_TEST_DIR "/ckpt/foreign.safetensors";
    static const int kinds[] = {EIO, EINTR, FAULT_SHORT};
    const size_t before = thaw__mem_current();
    bool more = true;

    (void)state;
    for (long n = 1; more; n++) {
        thaw_status status;

        check_alloc_fail(n, false);
        status = open_and_read(path);
        more = check_alloc_restore();
        CHECK_MSG(status == (more ? THAW_E_NOMEM : THAW_OK), "allocation %ld: %s '%s'", n,
                  thaw_status_name(status), thaw_error());
        CHECK_INT(thaw__mem_current(), before);
    }
    for (size_t k = 0; k < THAW_COUNT(kinds); k++)
        for (int forever = 0; forever < 2; forever++)
            for (long n = 1; n == 1 || more; n++) {
                thaw_status status;

                faults_arm(n, kinds[k], forever != 0);
                status = open_and_read(path);
                more = faults_disarm();
                CHECK_MSG(status == THAW_OK || kinds[k] != FAULT_SHORT, "short read %ld: %s", n,
                          thaw_error());
                CHECK_INT(thaw__mem_current(), before);
            }
}

/* Any single flipped bit of the header is refused or changes nothing but a name or the metadata;
 * never a crash. */
static void test_flipped_bits(void **state)
{
    char *folder = check_folder();
    const char *path = check_path(folder, "f");
    size_t n;
    char *data = check_read_file(&n, THAW_TEST_DIR "/ckpt/foreign.safetensors");
    const size_t before = thaw__mem_current();
    int fd;

    (void)state;
    check_write_file(path, data, n);
    fd = open(path, O_WRONLY);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        const char flipped = (char)(data[bit / 8] ^ (1 << bit % 8));
        st_file *f = NULL;

        CHECK(pwrite(fd, &flipped, 1, (off_t)(bit / 8)) == 1);
        if (st_open(&f, path) == THAW_OK)
            for (int i = 0; i < f->n; i++)
                CHECK(f->entry[i].begin + f->entry[i].bytes <= n);
        st_close(f);
        CHECK(pwrite(fd, &data[bit / 8], 1, (off_t)(bit / 8)) == 1);
    }
    close(fd);
    CHECK_INT(thaw__mem_current(), before);
    free(data);
    check_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_headers),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_length_like_magic),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_convert_large),
        cmocka_unit_test(test_foreign_file),
        cmocka_unit_test(test_failing),
        cmocka_unit_test(test_flipped_bits),
    };

    saving_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
