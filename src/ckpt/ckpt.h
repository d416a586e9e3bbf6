/*
 * ckpt - files that hold tensors, and checkpoints that survive anything.
 *
 * Weights are safetensors; the rest of a checkpoint is safetensors or JSON, nothing that executes.
 * A checkpoint is an immutable folder: data files, then a manifest with the SHA-256 of each, fsync
 * of all, one rename that must not replace. That rename is the only commit point. Every input file
 * is treated as hostile.
 *
 * Knows nothing of graphs or trainers: what a checkpoint holds comes in as named tensors and named
 * JSON texts.
 */
#ifndef THAW_CKPT_H
#define THAW_CKPT_H

#include "params/params.h"
#include "tensor/tensor.h"

/* ----------------------------------------------------------------------------------------------
 * safetensors */

typedef struct st_entry {
    char *name;
    dtype dtype;
    shape shape;
    size_t begin, bytes; /* of the data, from the start of the file */
} st_entry;

typedef struct st_file {
    char *path;
    int fd;
    st_entry *entry; /* in the order of the data */
    int n;
    int *by_name;        /* numbers of the entries, sorted by name */
    char *metadata;      /* JSON object text of "__metadata__", or NULL */
    thaw_region *region; /* of all of the above */
} st_file;

/*
 * Open and check a safetensors file: 8-byte header length (at most 100 MB and the file), a JSON
 * object without duplicate keys, known dtypes, products of axes that fit, offsets that tile the
 * data exactly in order without hole or overlap, nothing after it. Ranks over SHAPE_MAX_RANK are
 * refused. Data is read later, with pread.
 *
 * Errors name file and tensor: THAW_E_MISSING, THAW_E_DATA, THAW_E_LIMIT, THAW_E_SUPPORT for a
 * dtype we cannot hold; a pickle or zip file is recognised and said so.
 */
thaw_status st_open(st_file **out, const char *path) THAW_MUST_USE;
void st_close(st_file *f);
const st_entry *st_find(const st_file *f, const char *name); /* NULL: none */

/* Read one tensor, converting between float types; dst holds as many elements of `to`. */
thaw_status st_read(void *dst, dtype to, const st_file *f, const st_entry *e) THAW_MUST_USE;

typedef struct st_source {
    const char *name;
    dtype dtype;
    shape shape;
    const void *data;
} st_source;

/* Header bytes and data in the order given, written to fd through the os table. metadata_json may
 * be NULL; else it is one JSON object of strings. Names are UTF-8, each used once. */
thaw_status st_write(int fd, const char *file_name, const st_source *tensor, int n,
                     const char *metadata_json) THAW_MUST_USE;

/* The header alone: 8 bytes of length and the JSON text, padded so that the data is aligned to 8.
 */
thaw_status st_header(char **out, size_t *size, const char *file_name, const st_source *tensor,
                      int n, const char *metadata_json) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * checkpoints */

/* One file of a checkpoint to be written: either tensors (safetensors) or bytes. */
typedef struct ckpt_file {
    const char *name;        /* "model.safetensors"; no folder part */
    const st_source *tensor; /* NULL: bytes */
    int n_tensors;
    const char *metadata_json; /* of the tensors, may be NULL */
    const char *bytes;
    size_t size;
} ckpt_file;

/*
 * Commit a checkpoint as folder/step-NNNNNN (edit 0) or folder/step-NNNNNN.edit-K. Fails with
 * THAW_E_CREATE when that one exists already. `step` is 0 or more. When the call returns THAW_OK it
 * is durable; else it is absent, and nothing else was changed.
 */
thaw_status ckpt_commit(const char *folder, int64_t step, int edit, const ckpt_file *file,
                        int n) THAW_MUST_USE;

typedef struct ckpt_id {
    int64_t step;
    int edit;
} ckpt_id;

/* Committed checkpoints of a folder, newest first, not yet verified. Free *out with thaw__free. An
 * absent folder has none. */
thaw_status ckpt_list(ckpt_id **out, int *n, const char *folder) THAW_MUST_USE;

/* folder/step-000123 or folder/step-000123.edit-2; free with thaw__free. */
char *ckpt_path(const char *folder, ckpt_id id);

/* Check the manifest and every file's size and SHA-256. THAW_E_CORRUPT names the file and what is
 * wrong. */
thaw_status ckpt_verify(const char *path) THAW_MUST_USE;

/* Digest of a committed checkpoint: SHA-256 of its manifest, as 64 hexadecimal digits and NUL. */
thaw_status ckpt_digest(char out[65], const char *path) THAW_MUST_USE;

/*
 * The newest checkpoint that verifies. `skipped` (may be NULL) gets a line for each newer one that
 * did not, with the reason. THAW_E_MISSING when there is none.
 */
thaw_status ckpt_newest(ckpt_id *out, text *skipped, const char *folder) THAW_MUST_USE;

/*
 * Delete all but the newest `keep` verified checkpoints and those in `protect`; never the newest
 * verified one; leftovers of unfinished commits too. Failures to delete are not errors.
 */
void ckpt_retain(const char *folder, int keep, const ckpt_id *protect, int n_protect);

/* The run folder's lock: one writer. THAW_E_CREATE names pid and host of the owner. Released by
 * os_close or exit. */
thaw_status ckpt_lock(int *fd, const char *run_folder) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * digests */

/* SHA-256 of bytes, as hexadecimal digits. */
void sha256_hex(char out[65], const void *data, size_t n);

/* The same in pieces: begin, add as often as you like, end. Always ended, also when it is not
 * wanted any more. */
typedef struct sha256 sha256;
thaw_status sha256_begin(sha256 **out) THAW_MUST_USE;
void sha256_add(sha256 *h, const void *data, size_t n);
void sha256_end(char out[65], sha256 *h); /* out may be NULL; so may h */

/* ----------------------------------------------------------------------------------------------
 * for the files of this layer: reading JSON of a known form
 *
 * A pull reader: the caller asks for what must come next, and anything else is an error that names
 * the byte. It makes no tree, so hostile input costs no memory and no depth beyond what the form
 * allows. Strings must be UTF-8 and may not hold NUL; numbers are whole and 0 … 2^53.
 */
typedef struct scan {
    const char *what; /* "header": for messages */
    const char *begin, *at, *end;
    bool fresh; /* just after an opening bracket: no comma may come */
} scan;

scan scan_of(const char *what, const char *data, size_t n);
thaw_status scan_open(scan *s, char bracket) THAW_MUST_USE; /* '{' or '[' */

/* After opening or after an element: is there another? Else the closing bracket is passed. */
thaw_status scan_more(bool *more, scan *s, char closing) THAW_MUST_USE;

/* A string, unescaped, into a buffer of `capacity`: a name, so no control characters; THAW_E_LIMIT
 * when it does not fit. NULL: any string, only checked and passed. scan_key takes the colon after
 * it as well. */
thaw_status scan_string(char *out, size_t capacity, scan *s) THAW_MUST_USE;
thaw_status scan_key(char *out, size_t capacity, scan *s) THAW_MUST_USE;
thaw_status scan_integer(uint64_t *out, scan *s) THAW_MUST_USE;
thaw_status scan_end(scan *s) THAW_MUST_USE; /* nothing but blanks is left */

#endif
