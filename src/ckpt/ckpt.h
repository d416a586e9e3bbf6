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
    size_t header_bytes; /* before the data */
    char *metadata;      /* JSON object text of "__metadata__", or NULL */
    thaw_region *region; /* of all of the above */
} st_file;

/*
 * Open and check a safetensors file: 8-byte header length (at most 32 MiB and the file), a JSON
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

/* ----------------------------------------------------------------------------------------------
 * a network's tensors, whichever files hold them
 */

/* Where each tensor of a sharded network lies: "model.safetensors.index.json". */
typedef struct st_index_entry {
    const char *name;
    int shard;
} st_index_entry;

typedef struct st_index {
    const char **shard; /* file names beside the index, each once */
    int n_shards;
    st_index_entry *entry; /* sorted by name, each once */
    int n;
    thaw_region *region;
    size_t cap_shards, cap_entries;
} st_index;

/*
 * Read an index: a JSON object with "weight_map" (name of a tensor to name of a file) and, if there
 * is one, "metadata", which is passed over. Keys are unique; shards are names of .safetensors files
 * in the same folder and nothing else. `name` stands in messages.
 *
 * Errors: THAW_E_DATA, THAW_E_LIMIT over 100,000 tensors or 500 shards.
 */
thaw_status st_index_parse(st_index **out, const char *json, size_t size,
                           const char *name) THAW_MUST_USE;
void st_index_destroy(st_index *index);

typedef struct bundle_entry {
    const char *name;
    dtype dtype;
    shape shape;
    int file, number; /* which file holds it, and its number there */
} bundle_entry;

typedef struct bundle {
    char *path;          /* of the file, or of the folder's file that was opened: for messages */
    bundle_entry *entry; /* sorted by name */
    int n;
    st_file **shard; /* safetensors files */
    int n_shards;
    struct pth_file *pth; /* or one file of torch.save */
    thaw_region *region;
} bundle;

/*
 * Open what holds a network's tensors: a safetensors file, a file of torch.save, or a folder with
 * model.safetensors, with model.safetensors.index.json and its shards, or with pytorch_model.bin.
 * Every shard is opened and checked; each tensor
 * must lie in the shard the index names, and the index must name every tensor.
 *
 * Errors name file and tensor: those of st_open, pth_open and st_index_parse; THAW_E_MISSING for a
 * folder without weights.
 */
thaw_status bundle_open(bundle **out, const char *path) THAW_MUST_USE;
void bundle_close(bundle *b);
bool bundle_in_folder(const char *folder); /* is there something to open? */
const bundle_entry *bundle_find(const bundle *b, const char *name); /* NULL: none */

/* Read one tensor, converting between float types; dst holds as many elements of `to`. */
thaw_status bundle_read(void *dst, dtype to, const bundle *b, const bundle_entry *e) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * writing safetensors */

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

/*
 * One file of a checkpoint to be written: tensors (safetensors), or bytes, or a file of an older
 * checkpoint taken over as it is, by hard link where the file system can.
 */
typedef struct ckpt_file {
    const char *name;        /* "model.safetensors"; no folder part */
    const st_source *tensor; /* NULL: not tensors */
    int n_tensors;
    const char *metadata_json; /* of the tensors, may be NULL */
    const char *link;          /* path of the file to take over, or NULL */
    const char *bytes;
    size_t size;
} ckpt_file;

/*
 * Commit a checkpoint as folder/step-NNNNNN (edit 0) or folder/step-NNNNNN.edit-K, making the
 * folder when needed. `step` and `edit` are 0 or more. When the call returns THAW_OK it is durable;
 * else it is absent, and the other checkpoints are as they were. "latest" in the folder is a hint
 * for people and may be missing.
 *
 * Errors: THAW_E_CREATE when that checkpoint exists already (one that is damaged is moved aside as
 * step-NNNNNN.bad-… instead); THAW_E_IO, also when the disk has too little room; the
 * errors of st_header. One writer at a time: hold ckpt_lock.
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

/*
 * Check the manifest and every file's size and SHA-256. THAW_E_CORRUPT names the file, the tensor
 * where it is in one, and what is wrong; THAW_E_SUPPORT when a newer thaw wrote it.
 */
thaw_status ckpt_verify(const char *path) THAW_MUST_USE;

/*
 * The newest checkpoint that verifies. `skipped` (may be NULL) gets a line for each newer one that
 * did not, with the reason. Errors: THAW_E_MISSING when there is none at all; THAW_E_CORRUPT when
 * none of them is intact; THAW_E_IO when a newer one
 * cannot be read now, since what a disk or its server fails to give once may be unharmed.
 */
thaw_status ckpt_newest(ckpt_id *out, text *skipped, const char *folder) THAW_MUST_USE;

/*
 * Delete what is older than the `keep` (1 or more) newest good checkpoints and not in `protect`,
 * and leftovers of unfinished commits. Nothing is deleted unless every byte of the
 * newest good one has been read back and is right; the other kept ones are only looked at. Failures
 * to delete are not errors. For the holder of the lock, and not while a commit is going on.
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

/* Something to be digested: n bytes in memory, or n bytes of an open file from byte `begin`. */
typedef struct sha256_message {
    const void *data; /* NULL: in the file */
    int fd;
    size_t begin, n;
    const char *name; /* of the file: for messages of errors */
    char hex[65];     /* the digest */
} sha256_message;

/*
 * The digests of n messages, which share the processor: many at once take as long as a few. Each
 * byte of a file is read once. `lanes`: how many at once, as sha256_lanes says; for tests 16, 8 or
 * 1, and 1 is taken where a machine cannot do so many.
 *
 * Errors: THAW_E_IO, THAW_E_NOMEM; digests are then undefined.
 */
thaw_status sha256_all(sha256_message *m, int n, int lanes) THAW_MUST_USE;
int sha256_lanes(void); /* the fastest here */

/*
 * Mark: a checksum of 64 bits, as fast as memory, in 16 hexadecimal digits. Any changed bit changes
 * it; it finds what fails by accident, and keeps nobody from deceiving us. Nothing to release.
 */
typedef struct mark {
    uint64_t lane[4], size;
    unsigned char rest[32]; /* a block not yet full */
} mark;
mark mark_begin(void);
void mark_add(mark *m, const void *data, size_t n);
void mark_end(char out[17], const mark *m);

/* ----------------------------------------------------------------------------------------------
 * files of torch.save: zip archives, pickles, and both together
 */

/* Where an entry's bytes lie in the archive: entries are stored as they are. */
typedef struct zip_entry {
    const char *name;
    size_t begin, bytes;
} zip_entry;

typedef struct zip_file {
    zip_entry *entry; /* sorted by name, each once */
    int n;
    thaw_region *region;
} zip_file;

/*
 * The directory of a zip archive of `size` bytes, open as fd, with or without zip64 records. Only
 * what torch.save writes: one disk, nothing encrypted, every entry stored and not compressed, no
 * comment. Names are relative paths of plain components. Entries lie before the directory and do
 * not overlap, and each one's own header agrees with the directory.
 *
 * Errors, without the file's name: THAW_E_DATA, THAW_E_SUPPORT for other kinds of archives,
 * THAW_E_LIMIT.
 */
thaw_status zip_read(zip_file **out, int fd, int64_t size) THAW_MUST_USE;
void zip_destroy(zip_file *z);
const zip_entry *zip_find(const zip_file *z, const char *name); /* NULL: none */

/*
 * A pickle as data. What it calls is looked up in a table of functions that make tensors and
 * dictionaries; nothing is ever imported or run, and anything else is refused by its name.
 */
typedef enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_REAL,
    PICKLE_TEXT,  /* also bytes */
    PICKLE_TUPLE, /* items */
    PICKLE_LIST,
    PICKLE_DICT,   /* items: key, value, key, value … */
    PICKLE_GLOBAL, /* number: row of the table of globals */
    PICKLE_STORAGE,
    PICKLE_TENSOR, /* items: storage, offset, shape, strides */
    PICKLE_OPAQUE, /* known, and of no use here */
    PICKLE_MARK,   /* on the stack only */
} pickle_kind;

typedef struct pickle_value {
    uint8_t kind, dtype; /* of storages */
    bool open;           /* being looked at: for finding cycles */
    bool done;
    uint32_t n;           /* items, or bytes of text */
    uint32_t first, last; /* cells of the items; storages: value of the key */
    union {
        int64_t number; /* also of storages: elements */
        double real;
        const char *text; /* in the pickle itself; no NUL at its end */
    };
} pickle_value;

/* Items of a value are a list of cells; 0 ends it. */
typedef struct pickle_cell {
    uint32_t value, next;
} pickle_cell;

typedef struct pickle {
    pickle_value *value;
    size_t n_values, cap_values;
    pickle_cell *cell; /* cell 0 is not used */
    size_t n_cells, cap_cells;
    uint32_t root;
} pickle;

/*
 * Read one pickle of protocol 2 to 5 from n bytes, which must outlive it. used: its length, so that
 * what follows can be read. Steps, values and depth are limited, so that hostile bytes cost at most
 * some tens of MiB; a structure that contains itself is refused.
 *
 * Errors name byte and cause: THAW_E_DATA, THAW_E_SUPPORT for what is not allowed, THAW_E_LIMIT.
 */
thaw_status pickle_read(pickle **out, size_t *used, const char *data, size_t n) THAW_MUST_USE;
void pickle_destroy(pickle *p);

/* Item i of a value, from 0; NULL: there is none. */
const pickle_value *pickle_item(const pickle *p, const pickle_value *v, uint32_t i);
/* The value of a text key of a dictionary; NULL: none. The last one of several counts. */
const pickle_value *pickle_get(const pickle *p, const pickle_value *dict, const char *key);
bool pickle_is_text(const pickle_value *v, const char *text);
thaw_status pickle_check_acyclic(pickle *p) THAW_MUST_USE; /* for pickle_read */

/* A tensor of a state dict: a view of a storage. */
typedef struct pth_tensor {
    const char *name;
    dtype dtype;
    shape shape;
    int64_t stride[SHAPE_MAX_RANK]; /* in elements */
    size_t begin;                   /* of its first element, from the start of the file */
    bool dense;                     /* row-major without gaps */
} pth_tensor;

typedef struct pth_file {
    char *path;
    int fd;
    pth_tensor *tensor;
    int n;
    const char *taken_from; /* key of the checkpoint that held the state dict; NULL: it was all */
    thaw_region *region;
} pth_file;

/*
 * Open a state dict as torch.save writes it, in a zip archive or in the form before that. A
 * training checkpoint may hold it under a key ("state_dict", "model", …; averaged weights first).
 * A prefix that all names share because the network was wrapped ("module.") is taken off. Storages
 * may be shared between tensors; a view must lie in its storage and not be larger than it.
 *
 * Errors name the file: those of zip_read and pickle_read, THAW_E_SUPPORT for what is no state
 * dict.
 */
thaw_status pth_open(pth_file **out, const char *path) THAW_MUST_USE;
void pth_close(pth_file *f);
thaw_status pth_read(void *dst, dtype to, const pth_file *f, const pth_tensor *t) THAW_MUST_USE;

/* ----------------------------------------------------------------------------------------------
 * for the files of this layer: manifests */

#define MANIFEST_NAME    "MANIFEST.json"
#define MANIFEST_LONGEST ((size_t)16 << 20)
#define CKPT_NAME        64 /* longest name of a checkpoint's folder, with NUL */

typedef struct manifest_tensor {
    const char *name;
    char digest[65]; /* SHA-256; in format 1 a mark */
} manifest_tensor;

typedef struct manifest_file {
    const char *name;
    uint64_t size;
    bool by_tensor;          /* the digest is of a safetensors file's header, and each tensor's
                                own covers the rest; never so in format 1 */
    char sha256[65];         /* else: of the whole file */
    manifest_tensor *tensor; /* of a safetensors file, in the order of the data */
    int n_tensors;
} manifest_file;

typedef struct manifest {
    int format; /* 1 or 2 */
    ckpt_id id;
    manifest_file *file;
    int n;
    thaw_region *region;
} manifest;

/* Text of a manifest of the newest format, built row by row: begin, rows, end. */
void manifest_begin(text *t, ckpt_id id);
void manifest_add(text *t, const manifest_file *f, bool first);
thaw_status manifest_end(text *t) THAW_MUST_USE;

/* The manifest of a checkpoint folder; THAW_E_CORRUPT when it is damaged or not there. */
thaw_status manifest_read(manifest **out, const char *path) THAW_MUST_USE;
void manifest_destroy(manifest *m);

/* May this be the name of a file in a checkpoint: one component, not hidden, nothing odd? */
bool ckpt_name_valid(const char *name);

/* "step-000123.edit-2"; and back, false for any other name. */
void ckpt_name_of(char out[CKPT_NAME], ckpt_id id);
bool ckpt_id_of(ckpt_id *out, const char *name);

/* Open a file of tensors to read from: a region for what is found in it, with the path in it, and
 * its size. On failure what there is by then belongs to the caller, too. */
thaw_status ckpt_open_file(thaw_region **region, char **kept, int *fd, int64_t *size,
                           const char *path) THAW_MUST_USE;

/* n elements of type `from` at byte `begin` of an open file, read into dst as elements of `to`.
 * `name` is the file's. */
thaw_status ckpt_read_range(void *dst, dtype to, int fd, size_t begin, size_t n, dtype from,
                            const char *name) THAW_MUST_USE;

/*
 * Digests of files, and of bytes in memory, asked for one by one and computed together: asking adds
 * one message, or for a file of tensors one for its header and one for each tensor in the order of
 * the data. Begin with zeros; digests_done closes the files.
 */
typedef struct digest_file {
    char *path;
    int fd;       /* -1 for a file of tensors */
    int64_t size; /* of a file that is not */
    st_file *st;  /* of a file of tensors */
    int first;    /* the first of its messages */
} digest_file;

typedef struct digests {
    sha256_message *message;
    int n;
    digest_file *file; /* in the order they were asked for */
    int n_files;
    size_t message_capacity, file_capacity;
} digests;

thaw_status digests_ask(digests *d, const void *data, size_t n) THAW_MUST_USE; /* borrowed */
/* Errors: those of st_open, when by_tensor, and of os_open_file. */
thaw_status digests_ask_file(digests *d, const char *path, bool by_tensor) THAW_MUST_USE;
thaw_status digests_compute(digests *d) THAW_MUST_USE;
void digests_done(digests *d);

/* How much of a checkpoint is looked at: the manifest and the sizes of the files; also every byte.
 */
typedef enum ckpt_care { CKPT_SIZES, CKPT_DIGESTS } ckpt_care;

/* ckpt_verify of folder/<name of id>, and that it is the checkpoint it is called. */
thaw_status ckpt_verify_id(const char *folder, ckpt_id id, ckpt_care care) THAW_MUST_USE;

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

/* Any value, only passed: strings are checked, nesting is limited to 16. */
thaw_status scan_pass(scan *s) THAW_MUST_USE;

#endif
